"""Operations of `ops` in NumPy, for float64: what a network makes for the prompt file has the same bytes under every
framework."""

from collections.abc import Sequence

import numpy
from numpy import ndarray

tanh = numpy.tanh


def sigmoid(x: ndarray) -> ndarray:
    return (1 + numpy.tanh(x / 2)) / 2  # without exp(-x), which overflows


def relu(x: ndarray) -> ndarray:
    return numpy.maximum(x, 0)


def linear(x: ndarray, weight: ndarray, bias: ndarray | None = None) -> ndarray:
    y = x @ weight.T
    return y if bias is None else y + bias


def cat(tensors: Sequence[ndarray], axis: int) -> ndarray:
    return numpy.concatenate(tensors, axis=axis)


def dropout(x: ndarray, p: float, training: bool) -> ndarray:
    return x
