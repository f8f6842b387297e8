"""P-Tuning v2's prefix encoder (Liu et al., 2022, arXiv:2110.07602): keys and values for every layer."""

from typing import Any

from fastprompt.framework import nn, ops
from fastprompt.methods.initial_values import normal
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.methods.p_tuning_v2.layout import from_chunks, project, to_chunks

import numpy


class PrefixProjection(nn.Module):
    """Linear, Tanh, Linear, under the names that P-Tuning v2's nn.Sequential gives them ("0", "2")."""

    def __init__(self, hidden_size: int, inner: int, width: int) -> None:
        super().__init__()
        layers = {"0": nn.Linear(hidden_size, inner), "2": nn.Linear(inner, width)}
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return getattr(self, "2")(ops.tanh(getattr(self, "0")(x)))


class PrefixEncoder(nn.Module):
    """Makes the prefix: keys and values [layers, heads_kv, pre_seq_len, head_dim].

    Without projection the embedding holds them, a row of 2 * layers * heads_kv * head_dim per position, ordered
    K0, V0, K1, V1, ... as in P-Tuning v2's published checkpoints.

    Args:
        config: the method's options.
        prefix_shape: (layers, heads_kv, head_dim) of the backbone.
        hidden_size: the backbone's; the width of a position's embedding under projection.
        seed: seeds the initial values, and `name` does: encoders of other names start from others.
    """

    def __init__(
        self,
        config: PTuningV2Config,
        prefix_shape: tuple[int, int, int],
        hidden_size: int,
        seed: int = 0,
        name: str = "prefix",
    ) -> None:
        super().__init__()
        self.config = config
        self.prefix_shape = tuple(prefix_shape)
        layers, heads, width = self.prefix_shape
        total = layers * 2 * heads * width
        if config.prefix_projection:
            self.embedding = nn.Embedding(config.pre_seq_len, hidden_size)
            self.trans = PrefixProjection(hidden_size, config.prefix_hidden_size, total)
        else:
            self.embedding = nn.Embedding(config.pre_seq_len, total)
        for key, parameter in nn.named_parameters(self).items():
            std = 0 if key.endswith("bias") else config.init_std
            nn.set_value(parameter, normal(seed, f"{name}.{key}", tuple(parameter.shape), std))

    def forward(self) -> tuple[Any, Any]:
        rows = self.embedding.weight
        if self.config.prefix_projection:
            rows = self.trans(rows)
        layers, heads, width = self.prefix_shape
        length = self.config.pre_seq_len
        both = ops.reshape(rows, (length, layers, 2, heads, width))
        both = ops.transpose(both, (2, 1, 3, 0, 4))  # (2, layers, heads_kv, pre_seq_len, head_dim)
        return both[0], both[1]

    def collapse(self) -> dict[str, numpy.ndarray]:
        """The prompt as it is used, {"key", "value"}; the same bytes from the same weights under every framework."""
        weights = {name: ops.to_numpy(p) for name, p in nn.named_parameters(self).items()}
        rows = weights["embedding.weight"]
        if self.config.prefix_projection:
            rows = project(rows, *(weights[f"trans.{name}"] for name in ("0.weight", "0.bias", "2.weight", "2.bias")))
        return from_chunks(rows, *self.prefix_shape)

    def expand_from(self, stored: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        """The weights of a plain encoder (no projection) that makes the stored "key" and "value"."""
        return {"embedding.weight": to_chunks(stored["key"], stored["value"])}


class PrefixEncoders(nn.Module):
    """Makes the prefixes of an encoder-decoder (Li and Liang, 2021, arXiv:2101.00190): one `PrefixEncoder` for each of
    its parts, as the attribute of that name.

    Args:
        config: the method's options.
        prefix_shapes: part -> (layers, heads_kv, head_dim); of all parts of the backbone, `config` chooses.
        hidden_size, seed: as of `PrefixEncoder`.
    """

    def __init__(
        self, config: PTuningV2Config, prefix_shapes: dict[str, tuple[int, int, int]], hidden_size: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        for part in config.prefix_parts:
            setattr(self, part, PrefixEncoder(config, prefix_shapes[part], hidden_size, seed, f"prefix.{part}"))

    def parts(self) -> dict[str, PrefixEncoder]:
        return {part: getattr(self, part) for part in self.config.prefix_parts}

    def forward(self) -> dict[str, tuple[Any, Any]]:
        """Part -> keys and values [layers, heads_kv, pre_seq_len, head_dim]."""
        return {part: encoder() for part, encoder in self.parts().items()}

    def collapse(self) -> dict[str, numpy.ndarray]:
        """The prompt as it is used, {"encoder.key", "encoder.value", ...}."""
        return {
            f"{part}.{name}": array
            for part, encoder in self.parts().items()
            for name, array in encoder.collapse().items()
        }

    def expand_from(self, stored: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        rows = {}
        for part, encoder in self.parts().items():
            pair = {name: stored[f"{part}.{name}"] for name in ("key", "value")}
            rows.update({f"{part}.{name}": array for name, array in encoder.expand_from(pair).items()})
        return rows
