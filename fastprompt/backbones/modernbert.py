"""ModernBERT (Warner et al., 2024, arXiv:2412.13663), portable.

Every third layer attends to all tokens, the others to a window around each token only; positions are rotations, with a
base for each kind of layer.

A deep prefix stands at no position, so every token sees it in the local layers too. A shallow prompt's vectors stand
among the tokens: those beyond the window see them in the global layers only.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import (
    PassInputs,
    PortableBackbone,
    activation,
    attend,
    split_heads,
)
from fastprompt.backbones.rotary import Rotation, rope_frequencies, rotate, rotation_at
from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops
from fastprompt.pretrained.geometry import padding_id

import numpy

GLOBAL, LOCAL = "full_attention", "sliding_attention"  # in config.json's layer_types


def layer_types(config: dict[str, Any]) -> list[str]:
    """Each layer's kind of attention."""
    every = config.get("global_attn_every_n_layers", 3)
    default = [LOCAL if index % every else GLOBAL for index in range(config["num_hidden_layers"])]
    found = config.get("layer_types") or default
    if unknown := set(found) - {GLOBAL, LOCAL}:
        raise CheckpointError(f"config.json asks for layers of {min(unknown)!r}; known are {GLOBAL} and {LOCAL}.")
    return found


def frequencies_of(config: dict[str, Any], head_dim: int) -> dict[str, numpy.ndarray]:
    """Each kind of layer's rotary frequencies, from today's `rope_parameters` or the published `*_rope_theta`."""
    settings, scaling = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    global_theta = config.get("global_rope_theta", 160000.0)
    thetas = {GLOBAL: global_theta, LOCAL: config.get("local_rope_theta", 10000.0) or global_theta}
    return {
        kind: rope_frequencies({**scaling, **(settings.get(kind) or {})}, head_dim, theta)
        for kind, theta in thetas.items()
    }


def window_mask(length: int, reach: int) -> numpy.ndarray:
    """What is added to scores so that a token sees those at most `reach` positions away: (1, 1, T, T)."""
    positions = numpy.arange(length)
    distances = numpy.abs(positions[:, None] - positions)
    return numpy.where(distances <= reach, 0.0, -1e9).astype("float32")[None, None]


def make_norm(config: dict[str, Any]) -> nn.LayerNorm:
    return nn.LayerNorm(config["hidden_size"], eps=config.get("norm_eps", 1e-5), bias=config.get("norm_bias", False))


class ModernBertEmbeddings(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config["vocab_size"], config["hidden_size"], padding_idx=padding_id(config))
        self.norm = make_norm(config)
        self.drop = nn.Dropout(config.get("embedding_dropout", 0.0))

    def forward(self, inputs_embeds: Any) -> Any:
        return self.drop(self.norm(inputs_embeds))


class ModernBertAttention(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.hidden, self.heads = config["hidden_size"], config["num_attention_heads"]
        bias, self.dropout_p = config.get("attention_bias", False), config.get("attention_dropout", 0.0)
        self.Wqkv = nn.Linear(self.hidden, 3 * self.hidden, bias=bias)
        self.Wo = nn.Linear(self.hidden, self.hidden, bias=bias)
        self.out_drop = nn.Dropout(self.dropout_p)

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        prefix: tuple[Any, Any] | None,
        rotation: Rotation,
        cache: LayerCache | None,
    ) -> Any:
        fused, width = self.Wqkv(hidden), self.hidden  # (B, T, 3 * hidden)
        query, key, value = (split_heads(fused[:, :, i * width : (i + 1) * width], self.heads) for i in range(3))
        query, key = rotate(query, rotation), rotate(key, rotation)
        attended = attend(query, key, value, mask, prefix, cache, self.dropout_p, self.training)
        return self.out_drop(self.Wo(attended))


class ModernBertMLP(nn.Module):
    """A gated feed-forward part: the first half of the inner states is activated and multiplied with the second."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden, self.inner, bias = config["hidden_size"], config["intermediate_size"], config.get("mlp_bias", False)
        self.Wi = nn.Linear(hidden, 2 * self.inner, bias=bias)
        self.Wo = nn.Linear(self.inner, hidden, bias=bias)
        self.activation = activation(config.get("hidden_activation", "gelu"))
        self.drop = nn.Dropout(config.get("mlp_dropout", 0.0))

    def forward(self, hidden: Any) -> Any:
        both = self.Wi(hidden)  # (B, T, 2 * inner)
        return self.Wo(self.drop(self.activation(both[:, :, : self.inner]) * both[:, :, self.inner :]))


class ModernBertLayer(nn.Module):
    """Norms stand before attention and feed-forward part; the first layer's input is normalised already."""

    def __init__(self, config: dict[str, Any], kind: str, first: bool) -> None:
        super().__init__()
        self.kind = kind
        self.attn_norm = None if first else make_norm(config)
        self.attn = ModernBertAttention(config)
        self.mlp_norm = make_norm(config)
        self.mlp = ModernBertMLP(config)

    def forward(
        self,
        hidden: Any,
        masks: dict[str, Any | None],
        key: Any | None,
        value: Any | None,
        rotations: dict[str, Rotation],
        cache: LayerCache | None = None,
    ) -> Any:
        normed = hidden if self.attn_norm is None else self.attn_norm(hidden)
        prefix = None if key is None else (key, value)
        hidden = hidden + self.attn(normed, masks[self.kind], prefix, rotations[self.kind], cache)
        return hidden + self.mlp(self.mlp_norm(hidden))


class Backbone(PortableBackbone):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.embeddings = ModernBertEmbeddings(config)
        layers = [ModernBertLayer(config, kind, index == 0) for index, kind in enumerate(layer_types(config))]
        self.layers = nn.ModuleList(layers)
        self.final_norm = make_norm(config)
        self._frequencies = frequencies_of(config, self.geometry.head_dim)

    def word_embeddings(self) -> Any:
        return self.embeddings.tok_embeddings

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return self.embeddings(inputs_embeds)

    def make_mask(self, inputs: PassInputs) -> dict[str, Any | None]:
        """Each kind of layer's mask, see `PortableBackbone.make_mask`."""
        prefix, like = inputs.prefix, inputs.inputs_embeds
        mask = super().make_mask(inputs)  # (B, 1, 1, P + T)
        length, reach = like.shape[1], self.config.get("local_attention", 128) // 2
        if length <= reach + 1:
            return {GLOBAL: mask, LOCAL: mask}
        window = window_mask(length, reach)
        window = numpy.pad(window, [(0, 0)] * 3 + [(prefix.length if prefix else 0, 0)])
        window = ops.tensor(window, like=like)  # (1, 1, T, P + T)
        return {GLOBAL: mask, LOCAL: window if mask is None else mask + window}

    def layer_modules(self) -> list[Any]:
        return list(self.layers)

    def blocks(self, inputs: PassInputs) -> list[Callable]:
        rotations = {
            kind: rotation_at(inputs.position_ids, frequencies, like=inputs.inputs_embeds)
            for kind, frequencies in self._frequencies.items()
        }
        return [partial(layer, rotations=rotations) for layer in self.layers]

    def finish(self, hidden: Any) -> Any:
        return self.final_norm(hidden)
