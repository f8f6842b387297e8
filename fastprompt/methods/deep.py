"""A deep prompt: keys and values before every layer's attention."""

from typing import Any

from fastprompt.backbones.prefix import Prefix
from fastprompt.framework import ops


def deep_prefix(key: Any, value: Any, batch: int, dropout: float, bf16: bool, placed: bool) -> Prefix:
    """A prompt's keys and values [layers, heads_kv, pre_seq_len, head_dim] for `batch` rows, in one copy for all of
    them where they need not differ; `placed` as `Prefix` has it."""
    layers, heads, length, width = key.shape
    rows = batch if dropout else 1  # dropout differs from row to row
    shape = (layers, rows, heads, length, width)
    pair = [ops.expand(ops.reshape(x, (layers, 1, heads, length, width)), shape) for x in (key, value)]
    if dropout:
        pair = [ops.dropout(x, dropout, training=True) for x in pair]
    if bf16:
        pair = [ops.cast(x, "bfloat16") for x in pair]
    return Prefix(*pair, placed=placed)
