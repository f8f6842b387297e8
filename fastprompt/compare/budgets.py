"""How far two frameworks may lie apart, and how far they do."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy

HIDDEN = 1e-5  # largest difference over the state's largest entry
LOGITS = 1e-5  # largest absolute difference
GRADIENTS = 1e-4  # largest difference over the tensor's largest gradient
UPDATE = 1e-6  # tuned tensors after one step from identical gradients
LOSSES = 1e-4  # relative, at every step
NEGLIGIBLE = 1e-9  # of the model's largest gradient: a tensor below (key biases: exactly 0) has no scale of its own

Arrays = dict[str, numpy.ndarray]


class Difference(NamedTuple):
    """How far a quantity lies from its reference; without a budget it is reported and not judged."""

    quantity: str
    name: str
    value: float
    budget: float | None

    @property
    def holds(self) -> bool:
        return self.budget is None or self.value <= self.budget


def differences(found: Arrays, reference: Arrays, learning_rate: float) -> Iterator[Difference]:
    """Everything that `measure` measures, against a reference: the forward pass from the embeddings on, the backward
    pass from the last layer back, the tuned tensors' gradients, and the two steps.

    "step" is one from the reference's gradients; "update / rate" one from a framework's own, in units of the rate.
    """
    for key in sorted(key for key in reference if key.startswith("hidden.")):
        yield Difference("hidden state", layer_name(key), _relative(found[key], reference[key]), HIDDEN)
    yield compare_logits(found, reference)
    for key in sorted((key for key in reference if key.startswith("hidden_gradient.")), reverse=True):
        value = _relative(found[key], reference[key])
        yield Difference("gradient of hidden state", layer_name(key), value, GRADIENTS)
    yield from compare_gradients(found, reference)
    tuned = [key.removeprefix("updated.") for key in reference if key.startswith("updated.")]
    for name in tuned:
        yield Difference("step", name, largest(found[f"stepped.{name}"], reference[f"updated.{name}"]), UPDATE)
    for name in tuned:
        value = largest(found[f"updated.{name}"], reference[f"updated.{name}"]) / learning_rate
        yield Difference("update / rate", name, value, None)


def layer_name(key: str) -> str:
    """ "hidden.00" -> "embeddings", "hidden_gradient.03" -> "layer 3": layers count from 1."""
    index = int(key.rpartition(".")[2])
    return f"layer {index}" if index else "embeddings"


def _relative(found: numpy.ndarray, reference: numpy.ndarray) -> float:
    """Largest difference over the reference's largest entry."""
    return largest(found, reference) / (float(numpy.abs(reference).max()) or 1.0)


def largest(found: numpy.ndarray, reference: numpy.ndarray) -> float:
    """Largest absolute difference; infinite where one has a NaN."""
    difference = float(numpy.abs(found.astype("float64") - reference).max())
    return difference if numpy.isfinite(difference) else float("inf")


def compare_logits(found: Arrays, reference: Arrays) -> Difference:
    return Difference("logits", "logits", largest(found["logits"], reference["logits"]), LOGITS)


def compare_gradients(found: Arrays, reference: Arrays) -> Iterator[Difference]:
    """Every tuned tensor's gradient against a float64 reference's.

    A tensor whose reference gradient is negligible beside the model's largest is compared on the scale of that one,
    whose float32 noise it shares.
    """
    keys = [key for key in reference if key.startswith("gradient.")]
    top = max(float(numpy.abs(reference[key]).max()) for key in keys)
    for key in keys:
        scale = float(numpy.abs(reference[key]).max())
        difference = largest(found[key], reference[key])
        value = difference / (top if scale < NEGLIGIBLE * top else scale)
        yield Difference("gradient", key.removeprefix("gradient."), value, GRADIENTS)


def loss_differences(ours: numpy.ndarray, theirs: numpy.ndarray) -> numpy.ndarray:
    """Relative difference of two loss curves, (steps,); infinite where one has a NaN."""
    found = numpy.abs(ours - theirs) / numpy.abs(theirs)
    return numpy.where(numpy.isfinite(found), found, numpy.inf)


def compare_losses(found: Arrays, reference: Arrays) -> Difference:
    """Loss curves, relative, at the step where they lie furthest apart."""
    return Difference("losses", "losses", float(loss_differences(found["losses"], reference["losses"]).max()), LOSSES)
