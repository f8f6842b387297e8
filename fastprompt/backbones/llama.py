"""Llama (Touvron et al., 2023, arXiv:2302.13971) and its relatives Qwen2 and Qwen3, portable, without their
vocabulary head.

Attention is causal, its keys and values shared by groups of heads, and positions are rotations of queries and keys.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import PassInputs, activation, attend, split_heads
from fastprompt.backbones.portable_causal import CausalBackbone
from fastprompt.backbones.rotary import Rotation, rope_frequencies, rotate, rotation_at
from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.parameter((width,))
        self.width = width
        self.eps = eps

    def forward(self, x: Any) -> Any:
        square = ops.sum(x * x, axis=-1) * (1.0 / self.width)
        return x * ops.reshape((square + self.eps) ** -0.5, (*x.shape[:-1], 1)) * self.weight


class LlamaAttention(nn.Module):
    def __init__(self, config: dict[str, Any], head_dim: int) -> None:
        super().__init__()
        hidden, self.heads = config["hidden_size"], config["num_attention_heads"]
        self.heads_kv = config.get("num_key_value_heads") or self.heads
        self.dropout_p = config.get("attention_dropout", 0.0)
        qwen2 = config["model_type"] == "qwen2"
        bias = config.get("attention_bias", False)
        self.q_proj = nn.Linear(hidden, self.heads * head_dim, bias=bias or qwen2)
        self.k_proj = nn.Linear(hidden, self.heads_kv * head_dim, bias=bias or qwen2)
        self.v_proj = nn.Linear(hidden, self.heads_kv * head_dim, bias=bias or qwen2)
        self.o_proj = nn.Linear(self.heads * head_dim, hidden, bias=bias and not qwen2)
        self.norms_heads = config["model_type"] == "qwen3"
        if self.norms_heads:
            self.q_norm = RMSNorm(head_dim, config.get("rms_norm_eps", 1e-6))
            self.k_norm = RMSNorm(head_dim, config.get("rms_norm_eps", 1e-6))

    def forward(
        self, hidden: Any, mask: Any, prefix: tuple[Any, Any] | None, rotation: Rotation, cache: LayerCache | None
    ) -> Any:
        query = split_heads(self.q_proj(hidden), self.heads)  # (B, heads, T, head_dim)
        key = split_heads(self.k_proj(hidden), self.heads_kv)  # (B, heads_kv, T, head_dim)
        value = split_heads(self.v_proj(hidden), self.heads_kv)
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
    def __init__(self, config: dict[str, Any], head_dim: int) -> None:
        super().__init__()
        eps = config.get("rms_norm_eps", 1e-6)
        self.self_attn = LlamaAttention(config, head_dim)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = RMSNorm(config["hidden_size"], eps)
        self.post_attention_layernorm = RMSNorm(config["hidden_size"], eps)

    def forward(
        self,
        hidden: Any,
        mask: Any,
        key: Any | None,
        value: Any | None,
        rotation: Rotation,
        cache: LayerCache | None = None,
    ) -> Any:
        prefix = None if key is None else (key, value)
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, prefix, rotation, cache)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Backbone(CausalBackbone):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"], config.get("pad_token_id"))
        head_dim = self.geometry.head_dim
        self.layers = nn.ModuleList([LlamaLayer(config, head_dim) for _ in range(config["num_hidden_layers"])])
        self.norm = RMSNorm(config["hidden_size"], config.get("rms_norm_eps", 1e-6))
        if config.get("use_sliding_window"):
            raise CheckpointError(
                "config.json asks for use_sliding_window, which the portable definition lacks; use torch."
            )
        settings = config.get("rope_parameters") or config.get("rope_scaling") or {}
        self._frequencies = rope_frequencies(settings, head_dim, config.get("rope_theta", 10000.0))

    def word_embeddings(self) -> Any:
        return self.embed_tokens

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return inputs_embeds

    def layer_modules(self) -> list[Any]:
        return list(self.layers)

    def blocks(self, inputs: PassInputs) -> list[Callable]:
        rotation = rotation_at(inputs.position_ids, self._frequencies, like=inputs.inputs_embeds)
        return [partial(layer, rotation=rotation) for layer in self.layers]

    def finish(self, hidden: Any) -> Any:
        return self.norm(hidden)
