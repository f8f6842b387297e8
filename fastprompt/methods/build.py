"""The prompt that a configuration and a backbone make together."""

import dataclasses
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.framework import nn, ops
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.prompt_tuning.config import PromptTuningConfig
from fastprompt.methods.prompt_tuning.embedding import tokens_of_text
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.tokenizer import load_tokenizer
from fastprompt.prompts import PrefixEncoder, PrefixEncoders, PromptEmbedding, PromptEncoder

import numpy


def make_prompt(config: MethodConfig, checkpoint: Checkpoint, backbone: Any, collapsed: bool, seed: int) -> Any:
    """The module of a method that has a prompt.

    Args:
        collapsed: whether the encoder of its method is gone.
        seed: seeds the initial values.

    Raises:
        CheckpointError: the backbone takes no such prompt, or has no tokenizer for init="text".
        ConfigError: the text of init="text" has no token, or the backbone does not show its keys and values.
    """
    sizes, encoded = backbone.geometry, config.has_encoder and not collapsed
    tokenize = None
    if getattr(config, "init", None) == "text":
        tokenize = load_tokenizer(checkpoint.directory).plain_ids
    if config.prompt_kind == "deep":
        made = dataclasses.replace(config, prefix_projection=encoded)
        if backbone.family.encoder_decoder:
            if tokenize is not None:
                raise ConfigError("init='text' is for one prefix; an encoder-decoder's parts take init='random'.")
            return PrefixEncoders(made, backbone.prefix_shapes, sizes.hidden_size, seed)
        prefix = PrefixEncoder(made, backbone.prefix_shape, sizes.hidden_size, seed)
        if tokenize is not None:
            _fill(prefix, backbone, tokens_of_text(config.init_text, config.pre_seq_len, tokenize))
        return prefix
    if encoded:
        return PromptEncoder(config, sizes.embedding_size, seed)
    vocabulary = None
    if isinstance(config, PromptTuningConfig) and config.init != "random":
        vocabulary = ops.to_numpy(backbone.word_embeddings().weight)
    return PromptEmbedding(config, sizes.embedding_size, seed, vocabulary, tokenize)


def _fill(prefix: PrefixEncoder, backbone: Any, ids: list[int]) -> None:
    """Give a prefix the backbone's keys and values of a text."""
    backbone.eval()
    with ops.no_grad():
        pairs = backbone.keys_and_values(ops.tensor(numpy.array([ids])))
    backbone.train()
    stored = {
        name: numpy.concatenate([ops.to_numpy(pair[place]) for pair in pairs])  # [layers, heads_kv, T, head_dim]
        for place, name in enumerate(("key", "value"))
    }
    nn.set_value(prefix.embedding.weight, prefix.expand_from(stored)["embedding.weight"])
