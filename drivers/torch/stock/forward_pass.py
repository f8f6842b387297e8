"""What one forward pass through a stock transformers model brings to its attention.

transformers hands an attention module nothing but the module's own inputs, and not every family passes further keyword
arguments on. So the pass stands in a context variable while it runs: each thread has its own, and a gradient
checkpoint, which runs a layer again in the backward pass, enters the pass again that it was made in.
"""

import contextlib
from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import NamedTuple

from fastprompt.backbones.prefix import Prefix

import torch
from torch import nn

Pair = tuple[torch.Tensor, torch.Tensor]


class PrefixSlot(NamedTuple):
    """Which of a model's prefixes an attention module takes; it is stored on the module.

    Attributes:
        part: of an encoder-decoder, see `encoder_decoder.PARTS`; "" of all others.
        layer: None where one module serves several layers, as ALBERT's does: their order is that of its calls.
    """

    part: str
    layer: int | None

    def put_on(self, module: nn.Module) -> None:
        module.__dict__["_fastprompt_prefix_slot"] = self

    @staticmethod
    def of(module: nn.Module) -> "PrefixSlot | None":
        return module.__dict__.get("_fastprompt_prefix_slot")


class AttentionCall(NamedTuple):
    """One call of a module's attention.

    Attributes:
        queries: their number; None where the module computes its attention itself, and then `pair` is None too.
        pair: its keys and values, (B, heads_kv, T, head_dim) each.
    """

    module: nn.Module
    heads_kv: int
    head_dim: int
    queries: int | None = None
    pair: Pair | None = None

    @property
    def lengths(self) -> tuple[int, int] | None:
        """The numbers of its queries and keys."""
        return None if self.pair is None else (self.queries, self.pair[0].shape[2])


class LayerPrefix(NamedTuple):
    """What stands before the keys and values of one attention call, (B, heads_kv, P, head_dim) each.

    Attributes:
        mask: (B, P), 1 for what a row sees; None: all is seen.
        has_positions: see `fastprompt.backbones.prefix.Prefix`.
        bias: what the family's bias of distances is for it, (1, heads, T, P); None: 0.
    """

    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None = None
    has_positions: bool = False
    bias: torch.Tensor | None = None

    def unseen(self, dtype: torch.dtype) -> torch.Tensor | None:
        """To be added to scores of the prefix, (B, 1, 1, P): `dtype`'s lowest where a row's own has none; None: 0."""
        if self.mask is None:
            return None
        seen = self.mask.bool()[:, None, None]
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


class PartPass:
    """One part's prefix in one forward pass, and the masks that are made for it, once for all layers.

    Args:
        bias: see `LayerPrefix`.
    """

    def __init__(self, prefix: Prefix, bias: torch.Tensor | None = None) -> None:
        self._prefix, self._bias = prefix, bias
        self._calls = 0
        self._widened: dict[int, tuple[torch.Tensor | None, torch.Tensor]] = {}
        self._causal: torch.Tensor | None = None

    def layer(self, module: nn.Module, batch: int) -> LayerPrefix | None:
        """What stands before this call of `module`, for `batch` rows; None: its layer has no prefix."""
        index = PrefixSlot.of(module).layer
        if index is None:
            index = self._calls
            self._calls += 1
        pair = self._prefix.layer(index, batch)
        return pair and LayerPrefix(*pair, self._prefix.mask, self._prefix.has_positions, self._bias)

    @property
    def shift(self) -> int:
        """How many positions the prefix takes before the tokens'."""
        return self._prefix.length if self._prefix.has_positions else 0

    def causal(self, query: torch.Tensor) -> torch.Tensor:
        """Which tokens each of the queries (B, heads, T, head_dim) sees, (B, 1, T, T)."""
        if self._causal is None:
            batch, _, length, _ = query.shape
            seen = torch.ones((length, length), dtype=torch.bool, device=query.device).tril()
            self._causal = seen.expand(batch, 1, length, length)
        return self._causal

    def widened(self, mask: torch.Tensor | None, prefix: LayerPrefix, key: torch.Tensor) -> torch.Tensor | None:
        """The tokens' `mask`, None or (B, 1, T, T), with the prefix before it: (B, 1, T, P + T).

        key is (B, heads_kv, T, head_dim). None stays None where every row sees the whole prefix.
        """
        if mask is None and prefix.mask is None:
            return None
        if id(mask) not in self._widened:  # the mask is held beside it: no other can have its id meanwhile
            self._widened[id(mask)] = (mask, _widen(mask, prefix, key))
        return self._widened[id(mask)][1]


def _widen(mask: torch.Tensor | None, prefix: LayerPrefix, key: torch.Tensor) -> torch.Tensor:
    if mask is None:
        mask = key.new_ones((key.shape[0], 1, 1, key.shape[2]), dtype=torch.bool)
    shape = (*mask.shape[:3], prefix.key.shape[2])
    if prefix.mask is None:
        seen = mask.new_full(shape, mask.dtype == torch.bool)  # True, or 0 to add
    else:
        own = prefix.mask.bool()[:, None, None] if mask.dtype is torch.bool else prefix.unseen(mask.dtype)
        seen = own.expand(shape)
    return torch.cat([seen, mask], dim=-1)


class ForwardPass:
    """A forward pass with the prefixes of a model's parts, see `PrefixSlot`.

    Args:
        biases: of parts whose prefix stands at a distance, see `LayerPrefix`.
    """

    def __init__(self, prefixes: Mapping[str, Prefix | None], biases: Mapping[str, torch.Tensor] | None = None) -> None:
        self._parts = {
            part: PartPass(prefix, (biases or {}).get(part)) for part, prefix in prefixes.items() if prefix is not None
        }

    def part_of(self, module: nn.Module) -> PartPass | None:
        slot = PrefixSlot.of(module)
        return None if slot is None else self._parts.get(slot.part)


class RecordingPass:
    """A forward pass without a prefix that notes the calls of attention, in their order."""

    def __init__(self) -> None:
        self.calls: list[AttentionCall] = []

    def part_of(self, module: nn.Module) -> None:
        return None


_current: ContextVar[ForwardPass | RecordingPass | None] = ContextVar("fastprompt_forward_pass", default=None)


def recording() -> RecordingPass | None:
    """The pass that runs, if it is one that records."""
    current = _current.get()
    return current if isinstance(current, RecordingPass) else None


def part_of(module: nn.Module) -> PartPass | None:
    """The part of the pass that runs which stands before the attention of `module`; None: nothing does."""
    current = _current.get()
    return None if current is None else current.part_of(module)


class running:
    """`with running(a_pass):` makes it the one that attention sees; it may be entered again."""

    def __init__(self, current: ForwardPass | RecordingPass | None) -> None:
        self._pass = current
        self._tokens: list[Token] = []

    def __enter__(self) -> None:
        self._tokens.append(_current.set(self._pass))

    def __exit__(self, *_: object) -> None:
        _current.reset(self._tokens.pop())


def checkpoint_contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
    """`context_fn` of torch.utils.checkpoint: a layer is computed again in the pass that first computed it."""
    return contextlib.nullcontext(), running(_current.get())
