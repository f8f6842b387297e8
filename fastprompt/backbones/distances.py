"""Distances between tokens in buckets, for the learned bias that T5 and MPNet add to attention scores."""

import contextlib
from typing import Any

from fastprompt.framework import nn, ops

import numpy


def distance_buckets(
    queries: int, keys: int, buckets: int = 32, furthest: int = 128, both_ways: bool = True
) -> numpy.ndarray:
    """The row of the bias table for each query and key, (queries, keys), int64; the queries are the last of the keys.

    Half of a direction's buckets stand for one distance each, from 0 on; those further share ever wider ones, up to
    `furthest`, from where on all share the last. Where both ways count, the first half of all is for keys up to the
    query's own place and the second for those after it; else those after it count as its own place.
    """
    distances = numpy.arange(keys) - numpy.arange(keys - queries, keys)[:, None]  # key's less query's
    one_way = buckets // 2 if both_ways else buckets
    exact = one_way // 2
    away = numpy.abs(distances) if both_ways else numpy.maximum(-distances, 0)
    # In float64, where the powers of 2, whose buckets begin right there, come out at whole numbers.
    steps = numpy.log2(numpy.maximum(away, exact) / exact) / numpy.log2(furthest / exact) * (one_way - exact)
    far = numpy.minimum(exact + steps.astype("int64"), one_way - 1)
    return numpy.where(away < exact, away, far) + one_way * (both_ways & (distances > 0))


def learned_bias(table: nn.Embedding, buckets: numpy.ndarray, like: Any) -> Any:
    """What is added to the scores of queries and keys in these buckets (queries, keys): (1, heads, queries, keys).

    Args:
        table: a row of a bucket, a column of a head.
        like: any tensor, for its device.
    """
    # Of a frozen table no layer need compute a gradient.
    with contextlib.nullcontext() if nn.is_trainable(table.weight) else ops.no_grad():
        rows = table(ops.tensor(buckets, like=like))  # (queries, keys, heads)
        return ops.reshape(ops.transpose(rows, (2, 0, 1)), (1, rows.shape[2], *buckets.shape))
