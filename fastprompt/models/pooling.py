"""What a head reads of the last hidden states."""

from typing import Any

from fastprompt.framework import ops
from fastprompt.models.protocol import Model


def pool(last: Any, attention_mask: Any, pooling: str | None, skipped: int) -> Any:
    """What a head reads of hidden states (B, skipped + T, hidden): (B, hidden), or (B, T, hidden) unpooled.

    Args:
        last: or (B, 1, hidden), where the backbone was asked for the position of `read_alone`.
        attention_mask: (B, skipped + T), 1 for prompt and real tokens.
        pooling: one of `fastprompt.methods.base.POOLINGS`; None leaves the tokens as they are.
        skipped: how many positions a shallow prompt takes.
    """
    if pooling is None:
        return last[:, skipped:]
    if pooling == "prompt" or last.shape[1] == 1:
        return last[:, 0]
    if pooling == "first":
        return last[:, skipped]
    mask = attention_mask[:, skipped:]
    if pooling == "last":  # of all real tokens the one that has as many up to it as there are
        counts = ops.cumsum(mask, axis=1)
        mask = mask * ops.cast(counts == counts[:, -1:], "int64")
    weights = ops.cast_like(mask, last)[:, :, None]
    return ops.sum(last[:, skipped:] * weights, axis=1) / ops.sum(weights, axis=1)


def read_alone(model: Model) -> dict[str, int]:
    """{"read": the one position of the last hidden states that the head reads}, to call the backbone with; {} where the
    head reads more, or the backbone computes all anyway.

    Where dropout acts it does: what is drawn then does not depend on the definition that runs.
    """
    config, backbone = model.method_config, model.backbone
    if not getattr(backbone, "reads_one", False) or config.pooling not in ("first", "prompt"):
        return {}
    if model.training and backbone.has_dropout:
        return {}
    return {"read": config.length_before if config.pooling == "first" else 0}
