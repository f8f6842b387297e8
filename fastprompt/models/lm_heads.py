"""Masked-LM heads, named as transformers names each family's: a layer, its activation, a norm, and the vocabulary.

What a word scores is the product with its input embedding (the decoder is tied) plus a bias of its own. Only those
words are computed that are asked for, and states come in where there is a blank.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastprompt.backbones.checkpoint import Checkpoint
from fastprompt.backbones.family import geometry
from fastprompt.backbones.portable import activation
from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops

import numpy


@dataclass(frozen=True)
class Layout:
    """What a family calls the head's parts.

    Args:
        dense, norm: the layer and the norm; bias: the vocabulary's.
        activation: its key in config.json; None where it is always gelu.
        eps: the norm's; None where config.json says it.
    """

    dense: str
    norm: str
    bias: str
    activation: str | None = None
    eps: float | None = None


# family, by its `Family.head` -> layout
LAYOUTS: dict[str, Layout] = {
    "bert": Layout(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
        activation="hidden_act",
    ),
    "roberta": Layout("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "distilbert": Layout(
        "vocab_transform", "vocab_layer_norm", "vocab_projector.bias", activation="activation", eps=1e-12
    ),
    "electra": Layout("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
    "albert": Layout("predictions.dense", "predictions.LayerNorm", "predictions.bias", activation="hidden_act"),
}


class MaskedLMHead(nn.Module):
    """States of blanks -> scores of words.

    Args:
        config: the checkpoint's config.json.
        hidden: width of the states.
        width: of the word embeddings.
    """

    def __init__(self, layout: Layout, config: dict[str, Any], hidden: int, width: int) -> None:
        super().__init__()
        self.layout = layout
        eps = layout.eps or config.get("layer_norm_eps", 1e-12)
        self.activation: Callable = activation(config.get(layout.activation or "", "gelu"))
        _place(self, layout.dense, nn.Linear(hidden, width))
        _place(self, layout.norm, nn.LayerNorm(width, eps=eps))
        _place(self, layout.bias, nn.parameter((config["vocab_size"],)))

    def forward(self, states: Any, embeddings: Any, words: numpy.ndarray | None = None) -> Any:
        """Scores (B, vocab_size), or (B, K) of `words`.

        Args:
            states: (B, hidden), of the blanks.
            embeddings: the backbone's word embedding layer.
            words: (K,) ids; None: all of the vocabulary.
        """
        weight, bias = embeddings.weight, _find(self, self.layout.bias)
        if words is not None:
            weight = embeddings(ops.tensor(words, like=states))
            bias = ops.take_rows(bias, words.tolist())
        states = _find(self, self.layout.norm)(self.activation(_find(self, self.layout.dense)(states)))
        return ops.linear(states, ops.cast_like(weight, states), bias)


def _place(module: nn.Module, name: str, part: Any) -> None:
    """Hang `part` into `module` under a dotted name."""
    *outer, last = name.split(".")
    for step in outer:
        if not hasattr(module, step):
            setattr(module, step, nn.Module())
        module = getattr(module, step)
    setattr(module, last, part)


def _find(module: nn.Module, name: str) -> Any:
    for step in name.split("."):
        module = getattr(module, step)
    return module


def make_lm_head(checkpoint: Checkpoint) -> MaskedLMHead:
    """The masked-LM head of a checkpoint's family, without its values.

    Raises:
        CheckpointError: this version does not know the family's, or its decoder is not tied to the embeddings.
    """
    layout = LAYOUTS.get(checkpoint.family.head)
    if layout is None:
        raise CheckpointError(
            f"{checkpoint.name} is a {checkpoint.model_type} model, whose masked-LM head fastprompt does not know; "
            f"known are those of {', '.join(LAYOUTS)}."
        )
    if not checkpoint.config.get("tie_word_embeddings", True):
        raise CheckpointError(
            f"{checkpoint.name} has a decoder that is not tied to its word embeddings (tie_word_embeddings), "
            f"which masked language models here need."
        )
    sizes = geometry(checkpoint.config)
    return MaskedLMHead(layout, checkpoint.config, sizes.hidden_size, sizes.embedding_size)
