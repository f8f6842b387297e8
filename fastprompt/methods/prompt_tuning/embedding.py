"""Shallow prompts: trained embeddings before the input's own, of prompt tuning (Lester et al., 2021,
arXiv:2104.08691), of fastNLP's tutorial E2, and of P-Tuning v1 once its encoder is gone."""

from collections.abc import Callable, Sequence
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.framework import nn, ops
from fastprompt.methods.initial_values import generator, normal, uniform
from fastprompt.methods.p_tuning.config import PTuningConfig
from fastprompt.methods.prompt_tuning.config import PromptTuningConfig, ShallowPrefixConfig

import numpy


class PromptEmbedding(nn.Module):
    """The trained rows, [length, embedding_size].

    Args:
        config: the method's options.
        embedding_size: width of the backbone's word embeddings.
        seed: seeds the initial values.
        vocabulary: the word embeddings [vocab_size, embedding_size]; for init "vocabulary" and "text".
        tokenize: text -> token ids without special tokens; for init "text".
    """

    def __init__(
        self,
        config: PromptTuningConfig | ShallowPrefixConfig | PTuningConfig,
        embedding_size: int,
        seed: int = 0,
        vocabulary: numpy.ndarray | None = None,
        tokenize: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.length, embedding_size)
        shape = (config.length, embedding_size)
        if not isinstance(config, PromptTuningConfig):
            rows = normal(seed, "prompt", shape, config.init_std)
        elif config.init == "random":
            rows = uniform(seed, "prompt", shape, 0.5)
        elif vocabulary is None:
            raise ConfigError(f"init={config.init!r} needs the backbone's word embeddings.")
        elif config.init == "vocabulary":
            rows = vocabulary[generator(seed, "prompt").integers(0, len(vocabulary), config.length)]
        else:
            rows = vocabulary[tokens_of_text(config.init_text, config.length, tokenize)]
        nn.set_value(self.embedding.weight, rows.astype("float32"))

    def forward(self) -> Any:
        return self.embedding.weight

    def collapse(self) -> dict[str, numpy.ndarray]:
        """The prompt as it is used, {"embedding"}."""
        return {"embedding": ops.to_numpy(self.embedding.weight)}

    def expand_from(self, stored: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        return {"embedding.weight": stored["embedding"]}


def tokens_of_text(text: str, length: int, tokenize: Callable[[str], Sequence[int]]) -> list[int]:
    """The ids of a text's tokens, repeated or cut to `length`.

    Raises:
        ConfigError: it has none.
    """
    ids = tokenize(text)
    if not ids:
        raise ConfigError(f"init_text {text!r} has no token.")
    return [ids[i % len(ids)] for i in range(length)]
