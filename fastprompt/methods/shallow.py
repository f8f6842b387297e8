"""A shallow prompt: embeddings before the input's own, or at a template's pseudo tokens."""

from typing import Any

from fastprompt.errors import DataError
from fastprompt.framework import nn, ops
from fastprompt.methods.base import ShallowConfig
from fastprompt.methods.prompt import Prompt

import numpy


class ShallowPrompt(Prompt):
    """Makes input embeddings [length, embedding_size].

    Args:
        config: the method's options.
    """

    def __init__(self, config: ShallowConfig) -> None:
        super().__init__()
        self.config = config

    def attach(self, inputs: dict[str, Any], backbone: Any, pseudo_tokens: Any = None) -> dict[str, Any]:
        others = {name: x for name, x in inputs.items() if name != "input_ids"}
        words = backbone.word_embeddings()(inputs["input_ids"])  # (B, T, embedding_size)
        if self.config.length_before:
            return prepend(words, self(), others)
        if pseudo_tokens is None:
            raise DataError("pseudo_tokens are missing: the template's places for the prompt.")
        return {**others, "inputs_embeds": fill_in(words, self(), pseudo_tokens)}


class StoredEmbedding(ShallowPrompt):
    """A shallow prompt whose embedding is trained itself, or is what a network made, once that network is gone."""

    def __init__(self, config: ShallowConfig, embedding_size: int) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.length, embedding_size)

    def forward(self) -> Any:
        return self.embedding.weight

    def collapse(self) -> dict[str, numpy.ndarray]:
        return {"embedding": ops.to_numpy(self.embedding.weight)}

    def expand_from(self, stored: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        return {"embedding.weight": stored["embedding"]}


def prepend(words: Any, prompt: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """A shallow prompt [length, embedding_size] before the embeddings (B, T, embedding_size) of a batch.

    Args:
        inputs: the batch's attention_mask (B, T), and its token_type_ids if it has them.

    Returns:
        The same, (B, length + T), and the lengthened inputs_embeds: the prompt is seen by all and of the first type.
    """
    batch = words.shape[0]
    length, width = prompt.shape
    prompt = ops.expand(ops.reshape(ops.cast_like(prompt, words), (1, length, width)), (batch, length, width))
    before = {"attention_mask": ops.ones, "token_type_ids": ops.zeros}
    longer = {
        name: ops.cat([before[name]((batch, length), like=x, dtype="int64"), x], axis=1) for name, x in inputs.items()
    }
    return {"inputs_embeds": ops.cat([prompt, words], axis=1), **longer}


def fill_in(words: Any, prompt: Any, pseudo_tokens: Any) -> Any:
    """A shallow prompt [length, embedding_size] at its places among the embeddings (B, T, embedding_size) of a batch.

    Args:
        pseudo_tokens: (B, T) which row of the prompt, counted from 1, stands at a place; 0 leaves the word there.
    """
    length, batch = prompt.shape[0], words.shape[0]
    numbers = ops.reshape(ops.arange(length, like=pseudo_tokens) + 1, (1, 1, length))
    chosen = ops.cast_like(ops.reshape(pseudo_tokens, (batch, -1, 1)) == numbers, words)  # (B, T, length)
    is_word = ops.cast_like(ops.reshape(pseudo_tokens == 0, (batch, -1, 1)), words)
    # A product with ones and zeros is a gather whose gradient every framework has, and has alike.
    return words * is_word + ops.linear(chosen, ops.transpose(ops.cast_like(prompt, words), (1, 0)))
