"""A head's first values: the checkpoint's own, or fresh ones."""

from typing import Any

from fastprompt.framework import nn
from fastprompt.methods.initial_values import normal
from fastprompt.pretrained.checkpoint import Checkpoint

import numpy


def initialise_head(head: Any, checkpoint: Checkpoint, std: float, seed: int) -> set[str]:
    """Give a head its checkpoint's values where it has them, else fresh ones.

    Args:
        std: standard deviation of fresh weights; biases start at 0, the weights of norms at 1.

    Returns:
        The names of those that are fresh.
    """
    parameters = nn.named_parameters(head)
    stored = checkpoint.tensors(only={key for name in parameters for key in (name, f"head:{name}")})
    fresh = set()
    for name, parameter in parameters.items():
        shape = tuple(parameter.shape)
        value = next((stored[key] for key in (name, f"head:{name}") if key in stored), None)
        if value is None or value.shape != shape:
            fresh.add(name)
            if "norm." in name.lower() and name.endswith("weight"):
                value = numpy.ones(shape)
            else:
                value = normal(seed, f"head.{name}", shape, 0.0 if name.endswith("bias") else std)
        nn.set_value(parameter, value.astype("float32"))
    return fresh
