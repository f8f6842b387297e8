"""Llama (Touvron et al., 2023, arXiv:2302.13971) and its relatives Mistral (arXiv:2310.06825), Qwen2 and Qwen3,
portable, without their vocabulary head. Gemma and Phi-3 have modules of their own over this one.

Attention is causal, its keys and values shared by groups of heads, and positions are rotations of queries and keys.
Where layers have a sliding window, their tokens see no token further back; a deep prefix is seen by every token.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import PassInputs, activation, attend, causal_mask, split_heads
from fastprompt.backbones.portable_causal import CausalBackbone
from fastprompt.backbones.rotary import Rotation, rope_frequencies, rotate, rotation_at
from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops

SLIDING = "sliding_attention"  # in config.json's layer_types


def layer_windows(config: dict[str, Any]) -> list[int | None]:
    """How many tokens, itself among them, a token sees in each layer; None: all up to it."""
    kind, layers = config["model_type"], config["num_hidden_layers"]
    if kind in ("mistral", "phi3"):
        return [config.get("sliding_window", 4096 if kind == "mistral" else None)] * layers
    if kind in ("qwen2", "qwen3") and config.get("use_sliding_window"):
        first, window = config.get("max_window_layers", 28), config.get("sliding_window", 4096)
        types = config.get("layer_types") or [SLIDING if index >= first else None for index in range(layers)]
        return [window if one == SLIDING else None for one in types]
    return [None] * layers


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.parameter((width,))
        self.width = width
        self.eps = eps

    def scale(self) -> Any:
        """What normalised states are multiplied by, (width,)."""
        return self.weight

    def forward(self, x: Any) -> Any:
        square = ops.sum(x * x, axis=-1) * (1.0 / self.width)
        return x * ops.reshape((square + self.eps) ** -0.5, (*x.shape[:-1], 1)) * self.scale()


class LlamaAttention(nn.Module):
    def __init__(self, config: dict[str, Any], head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = config["num_attention_heads"], head_dim
        self.heads_kv = config.get("num_key_value_heads") or self.heads
        self.dropout_p = config.get("attention_dropout", 0.0)
        self.make_projections(config)
        self.norms_heads = config["model_type"] == "qwen3"
        if self.norms_heads:
            self.q_norm = RMSNorm(head_dim, config.get("rms_norm_eps", 1e-6))
            self.k_norm = RMSNorm(head_dim, config.get("rms_norm_eps", 1e-6))

    def make_projections(self, config: dict[str, Any]) -> None:
        """The layers that `project` and `forward` call."""
        hidden, width, width_kv = config["hidden_size"], self.heads * self.head_dim, self.heads_kv * self.head_dim
        qwen2 = config["model_type"] == "qwen2"
        bias = config.get("attention_bias", False)
        self.q_proj = nn.Linear(hidden, width, bias=bias or qwen2)
        self.k_proj = nn.Linear(hidden, width_kv, bias=bias or qwen2)
        self.v_proj = nn.Linear(hidden, width_kv, bias=bias or qwen2)
        self.o_proj = nn.Linear(width, hidden, bias=bias and not qwen2)

    def project(self, hidden: Any) -> tuple[Any, Any, Any]:
        """(B, T, hidden) -> queries (B, T, heads * head_dim), keys and values (B, T, heads_kv * head_dim)."""
        return self.q_proj(hidden), self.k_proj(hidden), self.v_proj(hidden)

    def forward(
        self, hidden: Any, mask: Any, prefix: tuple[Any, Any] | None, rotation: Rotation, cache: LayerCache | None
    ) -> Any:
        query, key, value = self.project(hidden)
        query = split_heads(query, self.heads)  # (B, heads, T, head_dim)
        key, value = split_heads(key, self.heads_kv), split_heads(value, self.heads_kv)  # (B, heads_kv, T, head_dim)
        if self.norms_heads:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = rotate(query, rotation), rotate(key, rotation)
        return self.o_proj(attend(query, key, value, mask, prefix, cache, self.dropout_p, self.training))


class LlamaMLP(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden, inner, bias = config["hidden_size"], config["intermediate_size"], config.get("mlp_bias", False)
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)
        self.activation = activation(config.get("hidden_act", "silu"))

    def forward(self, hidden: Any) -> Any:
        return self.down_proj(self.activation(self.gate_proj(hidden)) * self.up_proj(hidden))


class LlamaLayer(nn.Module):
    attention_class, mlp_class, norm_class = LlamaAttention, LlamaMLP, RMSNorm

    def __init__(self, config: dict[str, Any], head_dim: int, window: int | None) -> None:
        super().__init__()
        eps, self.window = config.get("rms_norm_eps", 1e-6), window
        self.self_attn = self.attention_class(config, head_dim)
        self.mlp = self.mlp_class(config)
        self.input_layernorm = self.norm_class(config["hidden_size"], eps)
        self.post_attention_layernorm = self.norm_class(config["hidden_size"], eps)

    def forward(
        self,
        hidden: Any,
        masks: dict[int | None, Any],
        key: Any | None,
        value: Any | None,
        rotation: Rotation,
        cache: LayerCache | None = None,
    ) -> Any:
        prefix = None if key is None else (key, value)
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), masks[self.window], prefix, rotation, cache)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Backbone(CausalBackbone):
    layer_class = LlamaLayer

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        head_dim, self.windows = self.geometry.head_dim, layer_windows(config)
        self.embed_tokens = self.make_embeddings(config)
        self.layers = nn.ModuleList([self.layer_class(config, head_dim, window) for window in self.windows])
        self.norm = self.layer_class.norm_class(config["hidden_size"], config.get("rms_norm_eps", 1e-6))
        settings = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if (share := settings.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))) != 1.0:
            raise CheckpointError(
                f"config.json asks for partial_rotary_factor {share}, which the portable definition lacks; use torch."
            )
        self._frequencies = rope_frequencies(settings, head_dim, config.get("rope_theta", 10000.0))

    def make_embeddings(self, config: dict[str, Any]) -> nn.Embedding:
        return nn.Embedding(config["vocab_size"], config["hidden_size"], config.get("pad_token_id"))

    def word_embeddings(self) -> Any:
        return self.embed_tokens

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return inputs_embeds

    def make_mask(self, inputs: PassInputs) -> dict[int | None, Any]:
        """Each window's mask, see `PortableBackbone.make_mask`."""
        cached = inputs.cache.length if inputs.cache else 0
        made = (inputs.attention_mask, inputs.prefix, inputs.inputs_embeds, cached)
        return {window: causal_mask(*made, window) for window in set(self.windows)}

    def layer_modules(self) -> list[Any]:
        return list(self.layers)

    def blocks(self, inputs: PassInputs) -> list[Callable]:
        rotation = rotation_at(inputs.position_ids, self._frequencies, like=inputs.inputs_embeds)
        return [partial(layer, rotation=rotation) for layer in self.layers]

    def finish(self, hidden: Any) -> Any:
        return self.norm(hidden)
