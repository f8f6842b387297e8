"""Phi-3 (Abdin et al., 2024, arXiv:2404.14219), portable: Llama with one matrix for queries, keys and values, one for
both inner states of the feed-forward part, and dropout after either part.
"""

from typing import Any

from fastprompt.backbones import llama
from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import activation
from fastprompt.backbones.rotary import Rotation
from fastprompt.framework import nn


class Phi3Attention(llama.LlamaAttention):
    def make_projections(self, config: dict[str, Any]) -> None:
        hidden, width = config["hidden_size"], self.heads * self.head_dim
        self.qkv_proj = nn.Linear(hidden, width + 2 * self.heads_kv * self.head_dim, bias=False)
        self.o_proj = nn.Linear(width, hidden, bias=False)
        self.drop = nn.Dropout(config.get("resid_pdrop", 0.0))

    def project(self, hidden: Any) -> tuple[Any, Any, Any]:
        fused, end = self.qkv_proj(hidden), self.heads * self.head_dim  # (B, T, (heads + 2 * heads_kv) * head_dim)
        end_key = end + self.heads_kv * self.head_dim
        return fused[:, :, :end], fused[:, :, end:end_key], fused[:, :, end_key:]

    def forward(
        self, hidden: Any, mask: Any, prefix: tuple[Any, Any] | None, rotation: Rotation, cache: LayerCache | None
    ) -> Any:
        return self.drop(super().forward(hidden, mask, prefix, rotation, cache))


class Phi3MLP(nn.Module):
    """The first half of the inner states is activated and multiplied with the second."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden, self.inner = config["hidden_size"], config["intermediate_size"]
        self.gate_up_proj = nn.Linear(hidden, 2 * self.inner, bias=False)
        self.down_proj = nn.Linear(self.inner, hidden, bias=False)
        self.activation = activation(config.get("hidden_act", "silu"))
        self.drop = nn.Dropout(config.get("resid_pdrop", 0.0))

    def forward(self, hidden: Any) -> Any:
        both = self.gate_up_proj(hidden)  # (B, T, 2 * inner)
        return self.drop(self.down_proj(self.activation(both[:, :, : self.inner]) * both[:, :, self.inner :]))


class Phi3Layer(llama.LlamaLayer):
    attention_class, mlp_class = Phi3Attention, Phi3MLP


class Backbone(llama.Backbone):
    layer_class = Phi3Layer
