"""Rows of token ids in flat arrays: 4 bytes a number, where Python's lists of a row of 40 tokens take 9 KB."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy

CHUNK = 1024  # rows that are tokenised and stored together


@dataclass(frozen=True)
class Lists:
    """A list for each row, all in one array.

    Attributes:
        values: (N,) int32; or lists again, where a row has a list of lists.
        offsets: (rows + 1,) where each row's list begins, and after the last where it ends.
    """

    values: "numpy.ndarray | Lists"
    offsets: numpy.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> "numpy.ndarray | list[numpy.ndarray]":
        first, last = self.offsets[row], self.offsets[row + 1]
        if isinstance(self.values, Lists):
            return [self.values[place] for place in range(first, last)]
        return self.values[first:last]

    def lengths(self) -> numpy.ndarray:
        """(rows,) how long each row's list is; of lists of lists the longest of the row."""
        if isinstance(self.values, Lists):
            return numpy.maximum.reduceat(self.values.lengths(), self.offsets[:-1])
        return numpy.diff(self.offsets)

    def totals(self) -> numpy.ndarray:
        """(rows,) how many numbers each row has, those of all its lists together."""
        return numpy.diff(self.values.offsets[self.offsets] if isinstance(self.values, Lists) else self.offsets)

    def extremes(self, ignored: int | None) -> set[int]:
        """Two rows at most, which hold the lowest and the highest number; `ignored` is none."""
        inner = self.values.extremes(ignored) if isinstance(self.values, Lists) else _extremes(self.values, ignored)
        return {int(numpy.searchsorted(self.offsets, place, side="right")) - 1 for place in inner}

    def counts_without(self, ignored: int) -> numpy.ndarray:
        """(rows,) how many of each row's numbers are not `ignored`."""
        before = numpy.concatenate([[0], numpy.cumsum(self.values != ignored)])
        return before[self.offsets[1:]] - before[self.offsets[:-1]]


def _extremes(values: numpy.ndarray, ignored: int | None) -> set[int]:
    values = values if ignored is None else numpy.where(values == ignored, values.max(), values)
    return {int(values.argmin()), int(values.argmax())}


Column = numpy.ndarray | Lists  # (rows,) int64 or float64, a number each; or a list each


def pack(rows: list[dict[str, Any]]) -> dict[str, Column]:
    """The columns of a chunk of rows, which have the same names and no empty list."""
    return {name: _column([row[name] for row in rows]) for name in rows[0]}


def _column(values: list[Any]) -> Column:
    if not is_list(values[0]):
        return numpy.array(values, dtype="float64" if isinstance(values[0], float) else "int64")
    offsets = numpy.zeros(len(values) + 1, dtype="int32")
    numpy.cumsum([len(value) for value in values], out=offsets[1:])
    if is_list(values[0][0]):
        return Lists(_column(list(chain.from_iterable(values))), offsets)
    if isinstance(values[0], numpy.ndarray):
        return Lists(numpy.concatenate(values).astype("int32"), offsets)
    return Lists(numpy.fromiter(chain.from_iterable(values), "int32", count=offsets[-1]), offsets)


def is_list(value: Any) -> bool:
    return isinstance(value, list | numpy.ndarray)


class PackedRows(Sequence):
    """Rows that are unpacked when they are asked for, as dicts: lists of numbers are int32 arrays then.

    Args:
        chunks: the columns of `CHUNK` rows each; the last may have fewer.
    """

    def __init__(self, chunks: Sequence[dict[str, Column]]) -> None:
        self.chunks = chunks
        self._count = sum(len(chunk["input_ids"]) for chunk in chunks)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> dict[str, Any]:
        if not -self._count <= place < self._count:
            raise IndexError(f"Row {place} of {self._count}.")
        chunk, row = divmod(place % self._count, CHUNK)
        return {
            name: column[row] if isinstance(column, Lists) else column[row].item()
            for name, column in self.chunks[chunk].items()
        }

    def extremes(self, chunk: int, ignored: int) -> list[int]:
        """The rows of a chunk that hold the lowest and the highest number of each column; `ignored` is no label."""
        found: set[int] = set()
        for name, column in self.chunks[chunk].items():
            skipped = ignored if name == "labels" else None
            found |= column.extremes(skipped) if isinstance(column, Lists) else _extremes(column, skipped)
        return [chunk * CHUNK + row for row in sorted(found)]

    @cached_property
    def lengths(self) -> numpy.ndarray:
        """(rows,) each row's tokens; of several choices those of the longest."""
        return _joined([chunk["input_ids"].lengths() for chunk in self.chunks])

    def token_counts(self) -> numpy.ndarray:
        """(rows,) each row's tokens; of several choices those of all."""
        return _joined([chunk["input_ids"].totals() for chunk in self.chunks])

    def label_counts(self, ignored: int) -> numpy.ndarray:
        """(rows,) how many labels a row has that are not `ignored`; 1 where it has one, or none is asked for."""
        counts = [
            labels.counts_without(ignored) if isinstance(labels, Lists) else numpy.ones(len(chunk["input_ids"]), int)
            for chunk in self.chunks
            for labels in [chunk.get("labels")]
        ]
        return _joined(counts)


def _joined(parts: list[numpy.ndarray]) -> numpy.ndarray:
    return numpy.concatenate(parts) if parts else numpy.zeros(0, int)


def in_chunks(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Column]]:
    """The columns of each `CHUNK` rows."""
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        yield pack(chunk)
