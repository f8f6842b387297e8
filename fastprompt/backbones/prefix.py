"""The keys and values that a deep prompt hands to a backbone."""

from typing import Any, NamedTuple

from fastprompt.framework import ops


class Prefix(NamedTuple):
    """Keys and values to stand before every layer's own, [layers, 1 or B, heads_kv, pre_seq_len, head_dim].

    mask is (B, pre_seq_len), 1 for what a row sees, where rows have prefixes of unequal lengths; None: all is seen.
    A prefix stands at no position, unless `has_positions`: then it takes the first ones, and the tokens' follow.
    """

    key: Any
    value: Any
    mask: Any = None
    has_positions: bool = False

    @property
    def length(self) -> int:
        return self.key.shape[3]

    def layer(self, index: int, batch: int) -> tuple[Any, Any]:
        """Layer `index`'s share for `batch` rows, (B, heads_kv, pre_seq_len, head_dim) each."""
        shape = (batch, *self.key.shape[2:])
        return ops.expand(self.key[index], shape), ops.expand(self.value[index], shape)
