"""What the portable causal definitions share: keys and values that are kept, and attention to them and a prefix."""

from typing import Any

from fastprompt.backbones.portable import PortableBackbone, causal_mask, join_heads, prepend
from fastprompt.backbones.prefix import Prefix
from fastprompt.framework import ops


class KeyValueCache:
    """The keys and values of the tokens read so far, (B, heads_kv, T, head_dim) each; a prefix's are not among them."""

    def __init__(self, layers: int) -> None:
        self.layers = [KeptLayer() for _ in range(layers)]

    @property
    def length(self) -> int:
        return self.layers[0].length


class KeptLayer:
    """One layer's share of a cache."""

    def __init__(self) -> None:
        self._pair: tuple[Any, Any] | None = None

    @property
    def length(self) -> int:
        return 0 if self._pair is None else self._pair[0].shape[2]

    def extend(self, key: Any, value: Any) -> tuple[Any, Any]:
        """All keys and values, these being the newest."""
        self._pair = prepend(self._pair, key, value)
        return self._pair


def attend(
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    prefix: tuple[Any, Any] | None,
    kept: KeptLayer | None,
    dropout_p: float,
    training: bool,
) -> Any:
    """Attention of queries (B, heads, T, head_dim) to the prefix, what is kept, and keys and values (B, heads_kv, T,
    head_dim), of which each serves a group of heads; returns (B, T, heads * head_dim).

    Args:
        mask: additive (B or 1, heads or 1, T, S), for all of them.
    """
    if kept is not None:
        key, value = kept.extend(key, value)
    key, value = (_for_every_head(x, query.shape[1]) for x in prepend(prefix, key, value))
    return join_heads(ops.attention(query, key, value, mask, dropout_p, training))


def _for_every_head(x: Any, heads: int) -> Any:
    """(B, heads_kv, S, head_dim) -> (B, heads, S, head_dim)"""
    batch, groups, length, width = x.shape
    if groups == heads:
        return x
    x = ops.reshape(x, (batch, groups, 1, length, width))
    x = ops.expand(x, (batch, groups, heads // groups, length, width))
    return ops.reshape(x, (batch, heads, length, width))


class CausalBackbone(PortableBackbone):
    """A decoder; a family's blocks take what is kept of their layer as `kept`, see `kept_of`."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._cache: KeyValueCache | None = None

    def new_cache(self) -> KeyValueCache:
        """An empty cache for `forward`."""
        return KeyValueCache(self.geometry.layers)

    def kept_of(self, layer: int) -> KeptLayer | None:
        return None if self._cache is None else self._cache.layers[layer]

    def forward(self, *inputs: Any, cache: KeyValueCache | None = None, **options: Any) -> list[Any]:
        """See `PortableBackbone.forward`.

        Args:
            cache: the tokens read so far, which stand before the input's, and to which those are added. With it the
                attention mask is of both, (B, kept + T), and position_ids are given.
        """
        self._cache = cache
        return super().forward(*inputs, **options)

    def make_mask(self, attention_mask: Any | None, prefix: Prefix | None, like: Any) -> Any:
        return causal_mask(attention_mask, prefix, like, self._cache.length if self._cache else 0)
