"""The keys and values of the tokens that were read earlier, as a portable backbone reads them again."""

from typing import Any, NamedTuple

from fastprompt.framework import ops


class KeyValueCache:
    """The keys and values of the tokens read so far, (B, heads_kv, T, head_dim) each; a prefix's are not among them."""

    def __init__(self, layers: int) -> None:
        self.layers = [LayerCache() for _ in range(layers)]

    @property
    def length(self) -> int:
        """How many tokens were read."""
        return self.layers[0].length


class LayerCache:
    """One layer's share of a cache.

    Attributes:
        pair: its keys and values; None before the first tokens.
    """

    def __init__(self) -> None:
        self.pair: tuple[Any, Any] | None = None

    @property
    def length(self) -> int:
        return 0 if self.pair is None else self.pair[0].shape[2]

    def extend(self, key: Any, value: Any) -> tuple[Any, Any]:
        """All keys and values, these being the newest."""
        self.pair = prepend(self.pair, key, value)
        return self.pair


class DecoderLayerCache(NamedTuple):
    """A decoder layer's share of a cache: of the tokens that it has written, and of the encoder's states."""

    own: LayerCache
    cross: LayerCache


class EncoderDecoderCache:
    """What is cached of a batch that is being answered.

    Attributes:
        encoder_states: (B, S, hidden), or None before the encoder has read the text.
    """

    def __init__(self, decoder_layers: int) -> None:
        self.encoder_states: Any = None
        self.layers = [DecoderLayerCache(LayerCache(), LayerCache()) for _ in range(decoder_layers)]

    @property
    def length(self) -> int:
        """How many tokens the decoder has read."""
        return self.layers[0].own.length


def prepend(before: tuple[Any, Any] | None, key: Any, value: Any) -> tuple[Any, Any]:
    """Keys and values (B, heads_kv, T, head_dim) after those that stand before them: (B, heads_kv, P + T, head_dim)."""
    if before is None:
        return key, value
    return ops.cat([before[0], key], axis=2), ops.cat([before[1], value], axis=2)
