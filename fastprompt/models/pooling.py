"""What a head reads of the last hidden states."""

from typing import Any

from fastprompt.framework import ops


def pool(last: Any, attention_mask: Any, pooling: str | None, skipped: int) -> Any:
    """What a head reads of hidden states (B, skipped + T, hidden): (B, hidden), or (B, T, hidden) unpooled.

    Args:
        attention_mask: (B, skipped + T), 1 for prompt and real tokens.
        pooling: one of `fastprompt.methods.base.POOLINGS`; None leaves the tokens as they are.
        skipped: how many positions a shallow prompt takes.
    """
    if pooling is None:
        return last[:, skipped:]
    if pooling == "prompt":
        return last[:, 0]
    if pooling == "first":
        return last[:, skipped]
    mask = attention_mask[:, skipped:]
    if pooling == "last":  # of all real tokens the one that has as many up to it as there are
        counts = ops.cumsum(mask, axis=1)
        mask = mask * ops.cast(counts == counts[:, -1:], "int64")
    weights = ops.cast_like(mask, last)[:, :, None]
    return ops.sum(last[:, skipped:] * weights, axis=1) / ops.sum(weights, axis=1)
