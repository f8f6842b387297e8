"""Trained input embeddings: prompt tuning (Lester et al., 2021, arXiv:2104.08691) and fastNLP's tutorial E2."""

from collections.abc import Callable, Sequence

from fastprompt.errors import ConfigError
from fastprompt.framework import nn, ops
from fastprompt.methods.initial_values import generator, normal, tokens_of_text, uniform
from fastprompt.methods.prompt import BuildContext
from fastprompt.methods.prompt_tuning.config import PromptTuningConfig, ShallowPrefixConfig
from fastprompt.methods.shallow import StoredEmbedding

import numpy


class PromptEmbedding(StoredEmbedding):
    """The trained rows, [length, embedding_size].

    Args:
        config: the method's options.
        embedding_size: width of the backbone's word embeddings.
        seed: seeds the initial values.
        vocabulary: the word embeddings [vocab_size, embedding_size] as the backbone's layers read them; for init
            "vocabulary" and "text".
        tokenize: text -> token ids without special tokens; for init "text".

    Raises:
        ConfigError: the initial values need a vocabulary that is not given, or a text that has no token.
    """

    def __init__(
        self,
        config: PromptTuningConfig | ShallowPrefixConfig,
        embedding_size: int,
        seed: int = 0,
        vocabulary: numpy.ndarray | None = None,
        tokenize: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        super().__init__(config, embedding_size)
        shape = (config.length, embedding_size)
        if config.init == "normal":
            rows = normal(seed, "prompt", shape, config.init_std)
        elif config.init == "random":
            rows = uniform(seed, "prompt", shape, 0.5)
        elif config.init == "zero":
            rows = numpy.zeros(shape)
        elif vocabulary is None:
            raise ConfigError(f"init={config.init!r} needs the backbone's word embeddings.")
        elif config.init == "vocabulary":
            rows = vocabulary[generator(seed, "prompt").integers(0, len(vocabulary), config.length)]
        else:
            rows = vocabulary[tokens_of_text(config.init_text, config.length, tokenize)]
        nn.set_value(self.embedding.weight, rows.astype("float32"))


def make_prompt(config: PromptTuningConfig | ShallowPrefixConfig, context: BuildContext) -> PromptEmbedding:
    """The embeddings before a backbone's input."""
    vocabulary = None
    if config.init in ("vocabulary", "text"):
        words = context.backbone.word_embeddings()
        with ops.no_grad():  # called, for Gemma's layer scales its rows
            vocabulary = ops.to_numpy(words(ops.arange(words.weight.shape[0], like=words.weight)))
    return PromptEmbedding(config, context.backbone.geometry.embedding_size, context.seed, vocabulary, context.tokenize)
