"""Rotary positions (Su et al., 2021, arXiv:2104.09864): queries and keys are turned by angles that grow with their
positions, so that a score depends on the distance alone.

A deep prefix stands at no position: its keys are not turned.
"""

from typing import Any

from fastprompt.errors import CheckpointError
from fastprompt.framework import ops

import numpy

Rotation = tuple[Any, Any]  # cosines and sines, (B, 1, T, head_dim) each


def rope_frequencies(settings: dict[str, Any], head_dim: int, theta: float) -> numpy.ndarray:
    """The angle of one step of each pair of a head's numbers: (head_dim / 2,) float32.

    For texts longer than a model was first trained on, they are divided by a factor ("linear"), or, as Llama 3.1 has it
    ("llama3"), only those are that turn too seldom within the first training's texts.

    Args:
        settings: `rope_parameters` of a config.json, or the older `rope_scaling`; may be empty.
        theta: the base where `settings` names none.

    Raises:
        CheckpointError: config.json asks for others.
    """
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise CheckpointError(
            f"config.json asks for rope_type {kind!r}, which the portable definition lacks; use torch."
        )
    frequencies = 1.0 / settings.get("rope_theta", theta) ** (numpy.arange(0, head_dim, 2) / head_dim)
    if kind == "linear":
        frequencies = frequencies / settings["factor"]
    if kind == "llama3":
        low, high = settings["low_freq_factor"], settings["high_freq_factor"]
        turns = settings["original_max_position_embeddings"] * frequencies / (2 * numpy.pi)
        share = numpy.clip((turns - low) / (high - low), 0, 1)
        frequencies = share * frequencies + (1 - share) * frequencies / settings["factor"]
    return frequencies.astype("float32")


def rotation_at(position_ids: Any, frequencies: numpy.ndarray, like: Any) -> Rotation:
    """The rotation of every position (B, T), in `like`'s dtype.

    The angles are float32: bfloat16 counts to 256 only.
    """
    batch, length = position_ids.shape
    steps = ops.reshape(ops.cast(position_ids, "float32"), (batch, 1, length, 1))
    half = steps * ops.tensor(frequencies.reshape(1, 1, 1, -1), like=steps)
    angles = ops.cat([half, half], axis=3)  # (B, 1, T, head_dim)
    return ops.cast_like(ops.cos(angles), like), ops.cast_like(ops.sin(angles), like)


def rotate(x: Any, rotation: Rotation) -> Any:
    """(B, heads, T, head_dim) turned by its positions, halves paired as Hugging Face's checkpoints have them."""
    cos, sin = rotation
    half = x.shape[-1] // 2
    return x * cos + ops.cat([x[..., half:] * -1.0, x[..., :half]], axis=3) * sin
