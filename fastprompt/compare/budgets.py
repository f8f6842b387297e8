"""How far two frameworks may lie apart, and how far they do."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy

LOGITS = 1e-5  # largest absolute difference
GRADIENTS = 1e-4  # largest difference over the tensor's largest gradient
UPDATE = 1e-6  # tuned tensors after one step from identical gradients
LOSSES = 1e-4  # relative, at every step
NEGLIGIBLE = 1e-9  # of the model's largest gradient: a tensor below (key biases: exactly 0) has no scale of its own


class Difference(NamedTuple):
    name: str
    value: float
    budget: float

    @property
    def holds(self) -> bool:
        return self.value <= self.budget


def largest(found: numpy.ndarray, reference: numpy.ndarray) -> float:
    """Largest absolute difference; infinite where one has a NaN."""
    difference = float(numpy.abs(found.astype("float64") - reference).max())
    return difference if numpy.isfinite(difference) else float("inf")


def compare_logits(found: dict[str, numpy.ndarray], reference: dict[str, numpy.ndarray]) -> Difference:
    return Difference("logits", largest(found["logits"], reference["logits"]), LOGITS)


def compare_gradients(found: dict[str, numpy.ndarray], reference: dict[str, numpy.ndarray]) -> Iterator[Difference]:
    """Every tuned tensor's gradient against a float64 reference's.

    A tensor whose reference gradient is negligible beside the model's largest is held to float32's noise on that one.
    """
    names = [name for name in reference if name.startswith("gradient.")]
    top = max(float(numpy.abs(reference[name]).max()) for name in names)
    for name in names:
        scale = float(numpy.abs(reference[name]).max())
        difference = largest(found[name], reference[name])
        if scale < NEGLIGIBLE * top:
            yield Difference(name, difference / top, GRADIENTS)
        else:
            yield Difference(name, difference / scale, GRADIENTS)


def compare_losses(found: dict[str, numpy.ndarray], reference: dict[str, numpy.ndarray]) -> Difference:
    """Loss curves, relative, at the step where they lie furthest apart."""
    ours, theirs = found["losses"], reference["losses"]
    return Difference("losses", float((numpy.abs(ours - theirs) / numpy.abs(theirs)).max()), LOSSES)
