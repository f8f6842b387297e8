"""The keys and values that a deep prompt hands to a backbone."""

from typing import Any, NamedTuple

from fastprompt.framework import ops


class Prefix(NamedTuple):
    """Keys and values to stand before layers' own, [chosen layers, 1 or B, heads_kv, pre_seq_len, head_dim].

    mask is (B, pre_seq_len), 1 for what a row sees, where rows have prefixes of unequal lengths; None: all is seen.
    A prefix stands at no position, unless `has_positions`: then it takes the first ones, and the tokens' follow.
    layers are the indices of the chosen layers, in ascending order; None: all.
    """

    key: Any
    value: Any
    mask: Any = None
    has_positions: bool = False
    layers: tuple[int, ...] | None = None

    @property
    def length(self) -> int:
        return self.key.shape[3]

    @property
    def first_layer(self) -> int:
        """The first layer that has a prefix: those before it are the backbone's alone."""
        return self.layers[0] if self.layers else 0

    def stands_in(self, index: int) -> bool:
        """Whether the layer `index` has a prefix."""
        return self.layers is None or index in self.layers

    def layer(self, index: int, batch: int) -> tuple[Any, Any] | None:
        """Layer `index`'s share for `batch` rows, (B, heads_kv, pre_seq_len, head_dim) each; None: it has none."""
        if not self.stands_in(index):
            return None
        if self.layers is not None:
            index = self.layers.index(index)
        shape = (batch, *self.key.shape[2:])
        return ops.expand(self.key[index], shape), ops.expand(self.value[index], shape)
