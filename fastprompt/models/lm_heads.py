"""Language models' heads, named as transformers names each family's: a causal model's is a matrix of the vocabulary
alone; a masked one has a layer, its activation and a norm before it.

What a word scores at a masked head is the product with its input embedding (the decoder is tied) plus a bias of its
own. Only those words are computed that are asked for.
"""

from collections.abc import Callable
from typing import Any

from fastprompt.backbones.portable import activation
from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.families import FAMILIES
from fastprompt.pretrained.family import MaskedLMLayout
from fastprompt.pretrained.geometry import geometry

import numpy


class MaskedLMHead(nn.Module):
    """States of blanks -> scores of words.

    Args:
        config: the checkpoint's config.json.
        hidden: width of the states.
        width: of the word embeddings.
    """

    def __init__(self, layout: MaskedLMLayout, config: dict[str, Any], hidden: int, width: int) -> None:
        super().__init__()
        self.layout = layout
        eps = config.get(layout.eps, 1e-12) if isinstance(layout.eps, str) else layout.eps
        self.activation: Callable = activation(config.get(layout.activation or "", "gelu"))
        _set_submodule(self, layout.dense, nn.Linear(hidden, width, bias=layout.has_bias("dense", config)))
        _set_submodule(self, layout.norm, nn.LayerNorm(width, eps=eps, bias=layout.has_bias("norm", config)))
        self.has_bias = layout.has_bias("bias", config)
        if self.has_bias:
            _set_submodule(self, layout.bias, nn.parameter((config["vocab_size"],)))

    def forward(self, states: Any, embeddings: Any, words: numpy.ndarray | None = None) -> Any:
        """Scores (B, vocab_size), or (B, K) of `words`.

        Args:
            states: (B, hidden), of the blanks.
            embeddings: the backbone's word embedding layer.
            words: (K,) ids; None: all of the vocabulary.
        """
        weight, bias = embeddings.weight, _get_submodule(self, self.layout.bias) if self.has_bias else None
        if words is not None:
            weight = embeddings(ops.tensor(words, like=states))
            bias = None if bias is None else ops.take_rows(bias, words.tolist())
        states = _get_submodule(self, self.layout.norm)(
            self.activation(_get_submodule(self, self.layout.dense)(states))
        )
        return ops.linear(states, ops.cast_like(weight, states), bias)


class VocabularyHead(nn.Module):
    """States -> scores of words, by a matrix of its own or by the word embeddings.

    Args:
        config: the checkpoint's config.json.
        tied: whether it has no matrix of its own.
        scale: of the states.
        bias: (vocab_size,), added to the scores and never trained; None: 0.

    Gemma-2 brings its scores between -final_logit_softcapping and that by a tanh.
    """

    def __init__(
        self,
        config: dict[str, Any],
        hidden: int,
        tied: bool,
        scale: float = 1.0,
        bias: numpy.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.tied, self.scale, self._bias = tied, scale, bias
        self.cap = config.get("final_logit_softcapping")
        if not tied:
            self.lm_head = nn.Linear(hidden, config["vocab_size"], bias=False)

    def forward(self, states: Any, embeddings: Any, words: numpy.ndarray | None = None) -> Any:
        """Scores (..., vocab_size) of states (..., hidden), or (..., K) of `words`, (K,) ids."""
        weight, bias = embeddings.weight if self.tied else self.lm_head.weight, self._bias
        if words is not None:
            weight = ops.take_rows(weight, words.tolist())
            bias = None if bias is None else bias[words]
        states = states if self.scale == 1.0 else states * self.scale
        scores = ops.linear(states, ops.cast_like(weight, states))
        scores = scores if bias is None else scores + ops.tensor(bias, like=scores)
        return scores if self.cap is None else ops.tanh(scores * (1.0 / self.cap)) * self.cap


def _set_submodule(module: nn.Module, name: str, part: Any) -> None:
    """Set `part` in `module` under a dotted name."""
    *outer, last = name.split(".")
    for step in outer:
        if not hasattr(module, step):
            setattr(module, step, nn.Module())
        module = getattr(module, step)
    setattr(module, last, part)


def _get_submodule(module: nn.Module, name: str) -> Any:
    for step in name.split("."):
        module = getattr(module, step)
    return module


def make_lm_head(checkpoint: Checkpoint, backbone: Any) -> "MaskedLMHead | VocabularyHead":
    """The language model's head of a checkpoint's family, without its values.

    Raises:
        CheckpointError: this version does not know the family's; a masked one's decoder is not tied to the embeddings;
            or another's that is not tied is missing.
    """
    sizes = geometry(checkpoint.config)
    if checkpoint.family.causal or checkpoint.family.encoder_decoder:
        return _make_vocabulary_head(checkpoint, backbone)
    layout = checkpoint.family.masked_lm
    if layout is None:
        raise CheckpointError(
            f"{checkpoint.name} is a {checkpoint.model_type} model, whose masked-LM head fastprompt does not know; "
            f"known are those of {', '.join(name for name, family in FAMILIES.items() if family.masked_lm)}."
        )
    if not checkpoint.config.get("tie_word_embeddings", True):
        raise CheckpointError(
            f"{checkpoint.name} has a decoder that is not tied to its word embeddings (tie_word_embeddings), "
            f"which masked language models here need."
        )
    if layout.newer is not None and (checkpoint.config.get("legacy") is False or _holds(checkpoint, layout.newer)):
        layout = layout.newer
    return MaskedLMHead(layout, checkpoint.config, sizes.hidden_size, sizes.embedding_size)


def _holds(checkpoint: Checkpoint, layout: MaskedLMLayout) -> bool:
    """Whether a checkpoint has a masked language model's head in this layout."""
    return bool(checkpoint.tensors(only={f"head:{layout.dense}.weight"}))


def _make_vocabulary_head(checkpoint: Checkpoint, backbone: Any) -> VocabularyHead:
    config, family, hidden = checkpoint.config, checkpoint.family, backbone.geometry.hidden_size
    tied = config.get("tie_word_embeddings", family.tied)
    scaled = config.get("scale_decoder_outputs", family.scales_states and tied)
    stored = checkpoint.tensors(only={"head:lm_head.weight", "head:final_logits_bias"})
    own, bias = stored.get("head:lm_head.weight"), stored.get("head:final_logits_bias")
    if own is None and not tied:
        raise CheckpointError(f"{checkpoint.name} lacks the tensor lm_head.weight; is it a language model?")
    if own is not None and tied:  # as in transformers, what differs is not tied, whatever config.json says
        tied = numpy.array_equal(own.astype("float32"), ops.to_numpy(backbone.word_embeddings().weight))
    return VocabularyHead(
        config,
        hidden,
        tied,
        scale=hidden**-0.5 if scaled else 1.0,
        bias=None if bias is None or not bias.any() else bias.astype("float32").reshape(-1),
    )
