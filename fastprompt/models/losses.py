"""What a head is trained on: the losses of classes, labels, numbers, tokens and spans."""

from typing import Any

from fastprompt.data.encoding import IGNORE_INDEX
from fastprompt.errors import DataError
from fastprompt.framework import ops


def class_loss(logits: Any, labels: Any) -> Any:
    """Mean cross entropy of class indices.

    Args:
        logits: (..., C).
        labels: (...), -100 where nothing counts; 0 is the mean of none.

    Raises:
        DataError: labels are of another shape, or no indices.
    """
    classes = logits.shape[-1]
    _check_shape(labels, tuple(logits.shape)[:-1])
    if "float" in str(labels.dtype):
        raise DataError(
            "labels are fractions where class indices are expected; "
            "sequence classification takes them with problem_type='regression' or 'multi_label_classification'."
        )
    return ops.cross_entropy(ops.reshape(logits, (-1, classes)), ops.reshape(labels, (-1,)))


def multi_label_loss(logits: Any, labels: Any) -> Any:
    """Mean binary cross entropy; logits and labels (B, C), labels 0 or 1.

    Raises:
        DataError: labels are of another shape.
    """
    _check_shape(labels, tuple(logits.shape))
    return ops.bce_with_logits(logits, ops.cast_like(labels, logits))


def regression_loss(logits: Any, labels: Any) -> Any:
    """Mean squared error; logits and labels (B, C), or labels (B,) where C is 1.

    Raises:
        DataError: labels are of another shape.
    """
    rows, numbers = logits.shape
    _check_shape(labels, (rows, numbers), *([(rows,)] if numbers == 1 else []))
    return ops.mse(logits, ops.cast_like(ops.reshape(labels, (rows, numbers)), logits))


def span_loss(logits: Any, start_positions: Any, end_positions: Any) -> Any:
    """Mean of the cross entropies of starts and ends.

    As in transformers, a position after the sequence does not count, and one before it counts as the first.

    Args:
        logits: (B, T, 2), a token's as start and as end.
        start_positions, end_positions: (B,) token indices.
    """
    length = logits.shape[1]
    losses = []
    for side, positions in enumerate((start_positions, end_positions)):
        first = positions * ops.cast(positions > 0, "int64")
        inside = ops.cast(first < length, "int64")
        losses.append(class_loss(logits[:, :, side], first * inside + IGNORE_INDEX * (1 - inside)))
    return (losses[0] + losses[1]) / 2


def _check_shape(labels: Any, *expected: tuple[int, ...]) -> None:
    found = tuple(labels.shape)
    if found not in expected:
        raise DataError(f"labels have the shape {found}; this head takes {' or '.join(map(str, expected))}.")
