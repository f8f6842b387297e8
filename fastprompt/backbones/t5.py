"""T5 (Raffel et al., 2020, arXiv:1910.10683) and mT5 (Xue et al., 2021, arXiv:2010.11934), portable, without their
vocabulary head.

Scores are products of queries and keys, divided by nothing, and a learned bias of the distance between them; a prefix
is at no distance, and its bias is 0. Norms stand before each part of a layer.
"""

from typing import Any

from fastprompt.backbones.cache import DecoderLayerCache
from fastprompt.backbones.distances import distance_buckets, learned_bias
from fastprompt.backbones.encoder_decoder import EncoderDecoderBackbone, PartAttention, Stack
from fastprompt.backbones.portable import activation
from fastprompt.framework import nn, ops


class T5Norm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis; the mean is of float32, as in the stock model."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.weight = nn.parameter((config["d_model"],))
        self.width = config["d_model"]
        self.eps = config.get("layer_norm_epsilon", 1e-6)

    def forward(self, x: Any) -> Any:
        exact = ops.cast(x, "float32")
        square = ops.sum(exact * exact, axis=-1) * (1.0 / self.width)
        scale = ops.reshape((square + self.eps) ** -0.5, (*x.shape[:-1], 1))
        return self.weight * ops.cast_like(x * scale, self.weight)


class T5Attention(PartAttention):
    def __init__(self, config: dict[str, Any], biased: bool = False) -> None:
        super().__init__()
        hidden, self.heads, width = config["d_model"], config["num_heads"], config["num_heads"] * config["d_kv"]
        self.dropout_p = config.get("dropout_rate", 0.1)
        self.scale = config["d_kv"] ** 0.5  # the stock model divides by nothing
        self.q = nn.Linear(hidden, width, bias=False)
        self.k = nn.Linear(hidden, width, bias=False)
        self.v = nn.Linear(hidden, width, bias=False)
        self.o = nn.Linear(width, hidden, bias=False)
        if biased:
            buckets = config.get("relative_attention_num_buckets", 32)
            self.relative_attention_bias = nn.Embedding(buckets, self.heads)

    def project(self, hidden: Any) -> Any:
        return self.q(hidden) * self.scale

    def read(self, states: Any) -> tuple[Any, Any]:
        return self.k(states), self.v(states)

    def write(self, attended: Any) -> Any:
        return self.o(attended)


class T5Feedforward(nn.Module):
    """Plain, or gated: the activated half times another."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden, inner = config["d_model"], config["d_ff"]
        default = "gated-gelu" if config["model_type"] == "mt5" else "relu"
        *gated, name = config.get("feed_forward_proj", default).split("-", 1)
        self.gated = gated == ["gated"]
        self.activation = activation("gelu_new" if self.gated and name == "gelu" else name)
        if self.gated:
            self.wi_0 = nn.Linear(hidden, inner, bias=False)
            self.wi_1 = nn.Linear(hidden, inner, bias=False)
        else:
            self.wi = nn.Linear(hidden, inner, bias=False)
        self.wo = nn.Linear(inner, hidden, bias=False)
        self.dropout = nn.Dropout(config.get("dropout_rate", 0.1))

    def forward(self, hidden: Any) -> Any:
        made = (
            self.activation(self.wi_0(hidden)) * self.wi_1(hidden) if self.gated else self.activation(self.wi(hidden))
        )
        return self.wo(self.dropout(made))


class T5Sublayer(nn.Module):
    """A part of a layer under the name that transformers gives it, its norm before it, dropout and the sum after it."""

    def __init__(self, config: dict[str, Any], name: str, part: nn.Module) -> None:
        super().__init__()
        self.part_name = name
        setattr(self, name, part)
        self.layer_norm = T5Norm(config)
        self.dropout = nn.Dropout(config.get("dropout_rate", 0.1))

    def forward(self, hidden: Any, *inputs: Any) -> Any:
        return hidden + self.dropout(getattr(self, self.part_name)(self.layer_norm(hidden), *inputs))


class T5Block(nn.Module):
    def __init__(self, config: dict[str, Any], biased: bool, decodes: bool) -> None:
        super().__init__()
        parts = [T5Sublayer(config, "SelfAttention", T5Attention(config, biased))]
        if decodes:
            parts.append(T5Sublayer(config, "EncDecAttention", T5Attention(config)))
        self.layer = nn.ModuleList([*parts, T5Sublayer(config, "DenseReluDense", T5Feedforward(config))])

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        bias: Any,
        key: Any | None,
        value: Any | None,
        states: Any | None = None,
        cross_mask: Any | None = None,
        cross_key: Any | None = None,
        cross_value: Any | None = None,
        cache: DecoderLayerCache | None = None,
    ) -> Any:
        own, cross = cache or (None, None)
        hidden = self.layer[0](hidden, mask, None if key is None else (key, value), bias, own)
        if states is not None:
            pair = None if cross_key is None else (cross_key, cross_value)
            hidden = self.layer[1](hidden, cross_mask, pair, None, cross, states)
        return self.layer[len(self.layer) - 1](hidden)


class T5Stack(Stack):
    def __init__(self, config: dict[str, Any], layers: int, decodes: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList([T5Block(config, index == 0, decodes) for index in range(layers)])
        self.final_layer_norm = T5Norm(config)
        self.dropout = nn.Dropout(config.get("dropout_rate", 0.1))
        self.both_ways = not decodes
        self.furthest = config.get("relative_attention_max_distance", 128)

    def embed(self, inputs_embeds: Any, start: int) -> Any:
        return self.dropout(inputs_embeds)

    def layer_modules(self) -> list[Any]:
        return list(self.block)

    def position_bias(self, queries: int, keys: int, like: Any) -> Any:
        table = self.block[0].layer[0].SelfAttention.relative_attention_bias
        buckets = distance_buckets(queries, keys, table.weight.shape[0], self.furthest, self.both_ways)
        return learned_bias(table, buckets, like)

    def finish(self, hidden: Any) -> Any:
        return self.dropout(self.final_layer_norm(hidden))


class Backbone(EncoderDecoderBackbone):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.shared = nn.Embedding(config["vocab_size"], config["d_model"])
        self.encoder = T5Stack(config, self.geometry.layers, decodes=False)
        self.decoder = T5Stack(config, self.geometry.decoder_layers, decodes=True)

    @property
    def prefix_shapes(self) -> dict[str, tuple[int, int, int]]:
        sizes = self.geometry
        counts = {"encoder": sizes.layers, "decoder": sizes.decoder_layers, "cross": sizes.decoder_layers}
        return {part: (count, sizes.heads, sizes.head_dim) for part, count in counts.items()}
