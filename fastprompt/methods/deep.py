"""A deep prompt: keys and values before the attention of layers."""

from collections.abc import Callable
from typing import Any

from fastprompt.backbones.prefix import Prefix
from fastprompt.framework import nn, ops
from fastprompt.methods.base import DeepConfig
from fastprompt.methods.layout import from_chunks, to_chunks
from fastprompt.methods.prompt import BuildContext, Prompt

import numpy


class DeepPrompt(Prompt):
    """Makes keys and values [layers, heads_kv, pre_seq_len, head_dim]; a subclass makes their `rows`.

    Args:
        config: the method's options; its prefix_layers are None or indices.
        prefix_shape: (layers, heads_kv, head_dim): how many layers have a prefix, and the sizes of its heads.
    """

    def __init__(self, config: DeepConfig, prefix_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config = config
        self.prefix_shape = tuple(prefix_shape)

    @property
    def row_width(self) -> int:
        """How many numbers a position has: 2 * layers * heads_kv * head_dim."""
        layers, heads, width = self.prefix_shape
        return 2 * layers * heads * width

    def rows(self) -> Any:
        """(pre_seq_len, 2 * layers * heads_kv * head_dim), ordered K0, V0, K1, V1, ... as in P-Tuning v2's published
        checkpoints."""
        raise NotImplementedError

    def forward(self) -> tuple[Any, Any]:
        layers, heads, width = self.prefix_shape
        both = ops.reshape(self.rows(), (self.config.pre_seq_len, layers, 2, heads, width))
        both = ops.transpose(both, (2, 1, 3, 0, 4))  # (2, layers, heads_kv, pre_seq_len, head_dim)
        return both[0], both[1]

    def prefix(self, batch: int, like: Any) -> Prefix:
        """The prompt for `batch` rows, in one copy for all of them where they need not differ.

        Args:
            like: a tensor of the backbone's; keys and values get its precision.
        """
        layers, heads, width = self.prefix_shape
        dropout = self.config.prefix_dropout if self.training else 0.0
        count = batch if dropout else 1  # dropout differs from row to row
        length = self.config.pre_seq_len
        shape = (layers, count, heads, length, width)
        pair = [ops.expand(ops.reshape(x, (layers, 1, heads, length, width)), shape) for x in self()]
        if dropout:
            pair = [ops.dropout(x, dropout, training=True) for x in pair]
        key, value = (ops.cast_like(x, like) for x in pair)
        return Prefix(key, value, has_positions=self.config.shift_positions, layers=self.config.prefix_layers)

    def attach(self, inputs: dict[str, Any], backbone: Any, pseudo_tokens: Any = None) -> dict[str, Any]:
        return {**inputs, "prefix": self.prefix(inputs["input_ids"].shape[0], backbone.word_embeddings().weight)}


class StoredPrefix(DeepPrompt):
    """A deep prompt whose embedding is its rows: what a network made, once that network is gone."""

    def __init__(self, config: DeepConfig, prefix_shape: tuple[int, int, int]) -> None:
        super().__init__(config, prefix_shape)
        self.embedding = nn.Embedding(config.pre_seq_len, self.row_width)

    def rows(self) -> Any:
        return self.embedding.weight

    def collapse(self) -> dict[str, numpy.ndarray]:
        return from_chunks(ops.to_numpy(self.embedding.weight), *self.prefix_shape)

    def expand_from(self, stored: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        return {"embedding.weight": to_chunks(stored["key"], stored["value"])}


class PrefixParts(Prompt):
    """The prefixes of an encoder-decoder (Li and Liang, 2021, arXiv:2101.00190): a deep prompt for each of its parts,
    as the attribute of that name."""

    def __init__(self, parts: dict[str, DeepPrompt]) -> None:
        super().__init__()
        self.names = tuple(parts)
        for name, prompt in parts.items():
            setattr(self, name, prompt)

    def parts(self) -> dict[str, DeepPrompt]:
        return {name: getattr(self, name) for name in self.names}

    def forward(self) -> dict[str, tuple[Any, Any]]:
        """Part -> keys and values [layers, heads_kv, pre_seq_len, head_dim]."""
        return {name: prompt() for name, prompt in self.parts().items()}

    def attach(self, inputs: dict[str, Any], backbone: Any, pseudo_tokens: Any = None) -> dict[str, Any]:
        batch, like = inputs["input_ids"].shape[0], backbone.word_embeddings().weight
        return {**inputs, "prefix": {name: prompt.prefix(batch, like) for name, prompt in self.parts().items()}}

    def collapse(self) -> dict[str, numpy.ndarray]:
        return {
            f"{part}.{name}": array
            for part, prompt in self.parts().items()
            for name, array in prompt.collapse().items()
        }

    def expand_from(self, stored: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        rows = {}
        for part, prompt in self.parts().items():
            pair = {name: stored[f"{part}.{name}"] for name in ("key", "value")}
            rows.update({f"{part}.{name}": array for name, array in prompt.expand_from(pair).items()})
        return rows


def for_parts(
    config: DeepConfig, context: BuildContext, make: Callable[[tuple[int, int, int], str], DeepPrompt]
) -> DeepPrompt | PrefixParts:
    """The deep prompt of a backbone, or those of an encoder-decoder's parts.

    Args:
        make: prefix_shape, name -> a prompt; the name seeds its initial values.
    """
    if not config.prefix_parts:
        return make(_chosen(config, context.backbone.prefix_shape), "prefix")
    shapes = {part: _chosen(config, context.backbone.prefix_shapes[part]) for part in config.prefix_parts}
    return PrefixParts({part: make(shape, f"prefix.{part}") for part, shape in shapes.items()})


def _chosen(config: DeepConfig, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The `prefix_shape` of a prompt in the chosen layers of a backbone of that one."""
    return shape if config.prefix_layers is None else (len(config.prefix_layers), *shape[1:])
