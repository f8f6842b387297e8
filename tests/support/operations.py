"""Definitions in NumPy and checks, for tests of operations and layers."""

from fastprompt.framework import nn

import numpy as np

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def trainable(array):
    """A leaf tensor that asks for gradients, made the way a model makes one."""
    holder = nn.Embedding(1, array.size)
    nn.set_value(holder.weight, array.reshape(1, -1))
    return holder.weight


def output_weights(shape):
    return np.random.default_rng(1).standard_normal(tuple(shape)).astype("float32")


def central_differences(function, arrays, step=1e-5):
    """The same gradients from the NumPy definition, in float64."""
    arrays = [array.astype("float64") for array in arrays]
    weights = output_weights(np.shape(function(*arrays))).astype("float64")
    gradients = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            original = array[index]
            sides = []
            for side in (original + step, original - step):
                array[index] = side
                sides.append((function(*arrays) * weights).sum())
            array[index] = original
            gradient[index] = (sides[0] - sides[1]) / (2 * step)
        gradients.append(gradient)
    return gradients
