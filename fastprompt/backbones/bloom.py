"""BLOOM (Le Scao et al., 2022, arXiv:2211.05100), portable; its vocabulary head is tied to the word embeddings.

It has no position embeddings: the further back a key stands, the lower is its score (ALiBi: Press et al., 2022,
arXiv:2108.12409). Padding stands nowhere, and neither does a prefix unless it has positions, see `Prefix`.
"""

import math
from typing import Any

from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import PassInputs, attend
from fastprompt.backbones.portable_causal import CausalBackbone
from fastprompt.framework import nn, ops

import numpy


def alibi_slopes(heads: int) -> numpy.ndarray:
    """How much each head's scores fall per token of distance, (heads,): powers of 2^(-8 / heads); where the number of
    heads is no power of two, filled up from those of twice as many heads."""
    whole = 2 ** math.floor(math.log2(heads))
    slopes = 2.0 ** (-8.0 / whole * numpy.arange(1, whole + 1))
    between = 2.0 ** (-4.0 / whole * numpy.arange(1, 2 * (heads - whole), 2))
    return numpy.concatenate([slopes, between]).astype("float32")


class BloomAttention(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.dropout_p = config.get("attention_dropout", 0.0)
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, hidden: Any, mask: Any, prefix: tuple[Any, Any] | None, cache: LayerCache | None) -> Any:
        batch, length, width = hidden.shape
        fused = ops.reshape(self.query_key_value(hidden), (batch, length, self.heads, 3, width // self.heads))
        fused = ops.transpose(fused, (3, 0, 2, 1, 4))  # (3, B, heads, T, head_dim)
        query, key, value = fused[0], fused[1], fused[2]
        return self.dense(attend(query, key, value, mask, prefix, cache, self.dropout_p, self.training))


class BloomMLP(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(hidden, 4 * hidden)
        self.dense_4h_to_h = nn.Linear(4 * hidden, hidden)

    def forward(self, hidden: Any) -> Any:
        return self.dense_4h_to_h(ops.gelu_tanh(self.dense_h_to_4h(hidden)))


class BloomBlock(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int, heads: int) -> None:
        super().__init__()
        eps = config.get("layer_norm_epsilon", 1e-5)
        self.input_layernorm = nn.LayerNorm(hidden, eps=eps)
        self.self_attention = BloomAttention(config, hidden, heads)
        self.post_attention_layernorm = nn.LayerNorm(hidden, eps=eps)
        self.mlp = BloomMLP(hidden)
        self.dropout = nn.Dropout(config.get("hidden_dropout", 0.0))
        self.past_the_norm = config.get("apply_residual_connection_post_layernorm", False)

    def forward(
        self, hidden: Any, mask: Any, key: Any | None, value: Any | None, cache: LayerCache | None = None
    ) -> Any:
        normed = self.input_layernorm(hidden)
        residual = normed if self.past_the_norm else hidden
        attended = self.self_attention(normed, mask, None if key is None else (key, value), cache)
        hidden = self.dropout(attended) + residual
        normed = self.post_attention_layernorm(hidden)
        return self.dropout(self.mlp(normed)) + (normed if self.past_the_norm else hidden)


class Backbone(CausalBackbone):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        sizes = self.geometry
        eps = config.get("layer_norm_epsilon", 1e-5)
        self.words = nn.Embedding(config["vocab_size"], sizes.hidden_size)
        self.word_embeddings_layernorm = nn.LayerNorm(sizes.hidden_size, eps=eps)
        self.h = nn.ModuleList([BloomBlock(config, sizes.hidden_size, sizes.heads) for _ in range(sizes.layers)])
        self.ln_f = nn.LayerNorm(sizes.hidden_size, eps=eps)

    def stock_parameters(self) -> dict[str, Any]:
        names = super().stock_parameters()  # "word_embeddings" is a method here
        return {name.replace("words.", "word_embeddings."): parameter for name, parameter in names.items()}

    def word_embeddings(self) -> Any:
        return self.words

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return self.word_embeddings_layernorm(inputs_embeds)

    def make_mask(self, inputs: PassInputs) -> Any:
        """As every causal model's, with each head's penalty for distance: (B, heads, T, P + S)."""
        mask = super().make_mask(inputs)  # (B or 1, 1, T, P + S)
        attention_mask, prefix, like = inputs.attention_mask, inputs.prefix, inputs.inputs_embeds
        batch, length = like.shape[:2]
        tokens = mask.shape[3] - (prefix.length if prefix else 0)
        if attention_mask is None:
            attention_mask = ops.ones((batch, tokens), like=like, dtype="int64")
        keys = ops.cast((ops.cumsum(attention_mask, axis=1) - 1) * attention_mask, "float32")  # (B, S)
        queries = ops.reshape(keys[:, tokens - length :], (batch, 1, length, 1))
        distances = ops.reshape(keys, (batch, 1, 1, tokens)) - queries  # 0 and less, to what a query sees
        if prefix is not None:
            before = numpy.zeros((batch, 1, length, prefix.length), "float32")
            if prefix.has_positions:
                before = before + (numpy.arange(prefix.length) - prefix.length).astype("float32")
            before = ops.tensor(before, like=like)
            distances = ops.cat([before - queries if prefix.has_positions else before, distances], axis=3)
        slopes = alibi_slopes(self.geometry.heads).reshape(1, -1, 1, 1)
        return mask + distances * ops.tensor(slopes, like=like)

    def layer_modules(self) -> list[Any]:
        return list(self.h)

    def finish(self, hidden: Any) -> Any:
        return self.ln_f(hidden)
