"""A prefix at the attention of stock transformers models."""

from typing import Any

from fastprompt.backbones.prefix import Prefix

import torch
import torch.nn.functional as F
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ATTENTION = "fastprompt"


class _Calls:
    """Which attention call of a forward pass is whose: filled once, by a pass over two tokens.

    ALBERT calls one attention module for all its layers, so the index belongs to the call and not to the module;
    a gradient checkpoint calls them again in another order, so for all others it belongs to the module.
    """

    def __init__(self) -> None:
        self.recording = True
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] | None = None  # see StockBackbone.keys_and_values
        self.modules: list[nn.Module] = []
        self._shapes: list[tuple[int, int]] = []  # heads_kv, head_dim
        self._lengths: list[tuple[int, int] | None] = []  # of queries and keys
        self.start(None)

    def start(self, prefix: Prefix | None) -> None:
        """Begin a forward pass with `prefix`."""
        self.prefix = prefix
        self._next = 0
        self._widened: dict[int, torch.Tensor] = {}
        self._causal: torch.Tensor | None = None

    def record(self, module: nn.Module, heads_kv: int, head_dim: int, lengths: tuple[int, int] | None = None) -> None:
        self.modules.append(module)
        self._shapes.append((heads_kv, head_dim))
        self._lengths.append(lengths)

    @property
    def shape(self) -> tuple[int, int] | None:
        """(heads_kv, head_dim); None where no call was seen."""
        return self._shapes[0] if self._shapes else None

    def of_lengths(self, queries: int, keys: int) -> "_Calls":
        """Those calls alone that were recorded with so many queries and keys."""
        found = _Calls()
        for module, shape, lengths in zip(self.modules, self._shapes, self._lengths, strict=True):
            if lengths == (queries, keys):
                found.record(module, *shape, lengths)
                module.__dict__["_fastprompt_calls"] = found
        found.finish_recording()
        return found

    def finish_recording(self) -> None:
        self.recording = False
        self.shared = len(set(self.modules)) < len(self.modules)

    def layer_of(self, module: nn.Module) -> int:
        if not self.shared:
            return self.modules.index(module)
        index = self._next % len(self.modules)
        self._next += 1
        return index

    def prefix_of(self, module: nn.Module, batch: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values to stand before those of this call, (batch, heads_kv, pre_seq_len, head_dim) each."""
        return None if self.prefix is None else self.prefix.layer(self.layer_of(module), batch)

    def unseen(self, dtype: torch.dtype) -> torch.Tensor | None:
        """To be added to scores of the prefix, (B, 1, 1, P): `dtype`'s lowest where a row's own has none; None: 0."""
        if self.prefix is None or self.prefix.mask is None:
            return None
        seen = self.prefix.mask.bool()[:, None, None]
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)

    def causal(self, query: torch.Tensor) -> torch.Tensor:
        """Which tokens each of the queries (B, heads, T, head_dim) sees, (B, 1, T, T); made once for all layers."""
        if self._causal is None:
            batch, _, length, _ = query.shape
            seen = torch.ones((length, length), dtype=torch.bool, device=query.device).tril()
            self._causal = seen.expand(batch, 1, length, length)
        return self._causal

    def widened(self, mask: torch.Tensor | None, key: torch.Tensor) -> torch.Tensor | None:
        """The tokens' `mask`, None or (B, 1, T, T), with the prefix before it; made once for all layers that share it.

        key is (B, heads_kv, T, head_dim). None stays None where every row sees the whole prefix.
        """
        rows = self.prefix.mask  # (B, P)
        if mask is None and rows is None:
            return None
        name = id(mask)
        if name not in self._widened:
            if mask is None:
                mask = key.new_ones((key.shape[0], 1, 1, key.shape[2]), dtype=torch.bool)
            shape = (*mask.shape[:3], self.prefix.length)
            if rows is None:
                seen = mask.new_full(shape, mask.dtype == torch.bool)  # True, or 0 to add
            else:
                own = rows.bool()[:, None, None] if mask.dtype is torch.bool else self.unseen(mask.dtype)
                seen = own.expand(shape)
            self._widened[name] = torch.cat([seen, mask], dim=-1)
        return self._widened[name]


def _attention(
    module: nn.Module,
    query: torch.Tensor,  # (B, heads, T, head_dim)
    key: torch.Tensor,  # (B, heads_kv, T, head_dim)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # (B, 1, T, T), bool or additive
    **options: Any,
) -> tuple[torch.Tensor, None]:
    calls: _Calls | None = module.__dict__.get("_fastprompt_calls")
    if calls is not None and calls.recording:
        calls.record(module, key.shape[1], key.shape[3], (query.shape[2], key.shape[2]))
    elif calls is not None and calls.kept is not None:
        calls.kept.append((key, value))
    elif calls is not None and (prefix := calls.prefix_of(module, query.shape[0])) is not None:
        prefix_key, prefix_value = prefix
        if attention_mask is None and _is_causal(module, options) and query.shape[2] > 1:
            # Left to is_causal, the corner of a mask that is wider than high would be the wrong one.
            attention_mask = calls.causal(query)
        attention_mask = calls.widened(attention_mask, key)
        if options.get("position_bias") is not None:  # T5's, of distances: a prefix has none
            options["position_bias"] = F.pad(options["position_bias"], (prefix_key.shape[2], 0))
        key = torch.cat([prefix_key.to(key.dtype), key], dim=2)
        value = torch.cat([prefix_value.to(value.dtype), value], dim=2)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _is_causal(module: nn.Module, options: dict[str, Any]) -> bool:
    asked = options.get("is_causal")
    return getattr(module, "is_causal", True) if asked is None else asked
