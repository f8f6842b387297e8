"""DeBERTa-v2 and -v3 (He et al., 2021, arXiv:2111.09543), portable: distances in buckets that widen with them, one
matrix each for query, key and value, which may project the distances too, and on the large models a convolution beside
the first layer."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from fastprompt.backbones import deberta
from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.deberta import DisentangledSelfAttention, furthest_position, position_terms, real_tokens
from fastprompt.backbones.portable import PassInputs, activation, split_heads
from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops

import numpy


@cache
def log_buckets(buckets: int, furthest: int) -> Callable:
    """The function from distances to the buckets that stand for them: half of the `buckets` to either side are
    distances themselves, the others are shared by distances up to `furthest` by their logarithm."""
    middle = buckets // 2

    def bucket(distances: numpy.ndarray) -> numpy.ndarray:
        # In float32, as the stock model has it: where a bucket begins, the last bit decides.
        away = numpy.maximum(numpy.abs(distances), middle).astype("float32") / numpy.float32(middle)
        steps = numpy.log(away) / numpy.log(numpy.float32((furthest - 1) / middle)) * numpy.float32(middle - 1)
        far = (numpy.ceil(steps).astype("int64") + middle) * numpy.sign(distances)
        return numpy.where(numpy.abs(distances) <= middle, distances, far)

    return bucket


class DebertaV2SelfAttention(DisentangledSelfAttention):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, terms=1 + sum(term in position_terms(config) for term in ("c2p", "p2c")))
        hidden = config["hidden_size"]
        self.query_proj = nn.Linear(hidden, hidden)
        self.key_proj = nn.Linear(hidden, hidden)
        self.value_proj = nn.Linear(hidden, hidden)
        self.shares = config.get("share_att_key", False)
        if config.get("relative_attention") and not self.shares:
            if "c2p" in self.asked:
                self.pos_key_proj = nn.Linear(hidden, hidden)
            if "p2c" in self.asked:
                self.pos_query_proj = nn.Linear(hidden, hidden)

    def project(self, hidden: Any) -> tuple[Any, Any, Any]:
        query, key, value = (
            split_heads(layer(hidden), self.heads) for layer in (self.query_proj, self.key_proj, self.value_proj)
        )
        return query, key, value

    def project_keys(self, rows: Any) -> Any:
        return (self.key_proj if self.shares else self.pos_key_proj)(rows)

    def project_queries(self, rows: Any) -> Any:
        return (self.query_proj if self.shares else self.pos_query_proj)(rows)


class Convolution(nn.Module):
    """Along a text, of an odd number of tokens, with weight (hidden, hidden, size) and bias (hidden,)."""

    def __init__(self, hidden: int, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.parameter((hidden, hidden, size)), nn.parameter((hidden,))

    def forward(self, states: Any) -> Any:
        batch, length, width = states.shape
        size = self.weight.shape[2]
        around = ops.cast_like(ops.zeros((batch, size // 2, width), like=states), states)
        padded = ops.cat([around, states, around], axis=1)
        windows = ops.cat([padded[:, start : start + length] for start in range(size)], axis=2)  # (B, T, size * hidden)
        weight = ops.reshape(ops.transpose(self.weight, (0, 2, 1)), (width, size * width))
        return ops.linear(windows, weight, self.bias)


class ConvLayer(nn.Module):
    """A convolution of the first layer's input, added to its output; 0 for padding."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        size, groups = config["conv_kernel_size"], config.get("conv_groups", 1)
        if groups != 1 or size % 2 == 0:
            raise CheckpointError(
                f"config.json asks for a convolution of {size} tokens (conv_kernel_size) in {groups} groups "
                f"(conv_groups); fastprompt knows those of odd sizes in one group."
            )
        self.conv = Convolution(config["hidden_size"], size)
        self.activation = activation(config.get("conv_act", "tanh"))
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, layer_input: Any, layer_output: Any, real: Any | None) -> Any:
        found = self.conv(layer_input)
        if real is not None:
            found = found * real
        states = self.LayerNorm(layer_output + self.activation(self.dropout(found)))
        return states if real is None else states * real


class DebertaV2Encoder(deberta.DebertaEncoder):
    attention = DebertaV2SelfAttention

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        normed = "layer_norm" in [word.strip() for word in config.get("norm_rel_ebd", "none").lower().split("|")]
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"]) if normed else None
        self.conv = ConvLayer(config) if config.get("conv_kernel_size", 0) > 0 else None

    def distances(self, config: dict[str, Any]) -> tuple[int, Callable | None]:
        buckets, furthest = config.get("position_buckets", -1), furthest_position(config)
        return (buckets, log_buckets(buckets, furthest)) if buckets > 0 else (furthest, None)

    def embed_distances(self, length: int, like: Any) -> tuple[Any | None, list[int]]:
        rows, index = super().embed_distances(length, like)
        return (rows if rows is None or self.LayerNorm is None else self.LayerNorm(rows)), index


def with_convolution(
    hidden: Any,
    mask: Any | None,
    key: Any | None,
    value: Any | None,
    block: Callable,
    conv: ConvLayer,
    real: Any | None,
    cache: LayerCache | None = None,
) -> Any:
    """A layer's block, and the convolution beside it."""
    return conv(hidden, block(hidden, mask, key, value, cache=cache), real)


class Backbone(deberta.Backbone):
    encoder_class = DebertaV2Encoder

    def blocks(self, inputs: PassInputs) -> list[Callable]:
        first, *others = super().blocks(inputs)
        if self.encoder.conv is None:
            return [first, *others]
        real = real_tokens(inputs)
        real = None if real is None else ops.cast_like(real, inputs.inputs_embeds)
        return [partial(with_convolution, block=first, conv=self.encoder.conv, real=real), *others]
