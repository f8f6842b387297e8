"""The flat layouts in which tools store a deep prefix, and the prompt file's.

A row per position holds 2 * layers * heads_kv * head_dim numbers. In "chunks" each layer's key stands before its value
(K0, V0, K1, V1, ...: P-Tuning v2 and PEFT split the axis of layers into chunks of two); in "halves" all keys stand
before all values (PaddleNLP splits it into two halves).
"""

import numpy


def from_chunks(rows: numpy.ndarray, layers: int, heads: int, head_dim: int) -> dict[str, numpy.ndarray]:
    """(P, layers * 2 * heads * head_dim) -> {"key", "value"}, [layers, heads, P, head_dim] each."""
    both = rows.reshape(len(rows), layers, 2, heads, head_dim).transpose(2, 1, 3, 0, 4)
    return _pair(both)


def to_chunks(key: numpy.ndarray, value: numpy.ndarray) -> numpy.ndarray:
    both = numpy.stack([key, value])  # (2, layers, heads, P, head_dim)
    return numpy.ascontiguousarray(both.transpose(3, 1, 0, 2, 4).reshape(both.shape[3], -1))


def from_halves(rows: numpy.ndarray, layers: int, heads: int, head_dim: int) -> dict[str, numpy.ndarray]:
    """(P, 2 * layers * heads * head_dim) -> {"key", "value"}, [layers, heads, P, head_dim] each."""
    both = rows.reshape(len(rows), 2, layers, heads, head_dim).transpose(1, 2, 3, 0, 4)
    return _pair(both)


def to_halves(key: numpy.ndarray, value: numpy.ndarray) -> numpy.ndarray:
    both = numpy.stack([key, value])
    return numpy.ascontiguousarray(both.transpose(3, 0, 1, 2, 4).reshape(both.shape[3], -1))


def _pair(both: numpy.ndarray) -> dict[str, numpy.ndarray]:
    return {name: numpy.ascontiguousarray(array, "float32") for name, array in zip(("key", "value"), both, strict=True)}
