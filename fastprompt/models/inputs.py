"""What the backbone is called with for a batch and its prompt."""

from typing import Any

from fastprompt.framework import ops


def causal_positions(attention_mask: Any, shift: int) -> Any:
    """Position ids (B, T) of a causal model, from its mask: tokens are counted and not places, as in transformers'
    generate, so that padding in front moves none."""
    return (ops.cumsum(attention_mask, axis=1) - 1 + shift) * attention_mask
