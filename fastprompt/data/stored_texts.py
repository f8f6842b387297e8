"""A column of texts in a memory-mapped file."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from fastprompt.data.packed import CHUNK

import numpy


class StoredTexts(Sequence):
    """Strings that stay in their file until they are asked for; slices of it are lists.

    Args:
        arrays: pyarrow's, of `CHUNK` strings each; the last may have fewer.
        digest: a hash of what is in them.
        places: (N,) which of the strings these are; None: all.
    """

    def __init__(self, arrays: list[Any], digest: str, places: numpy.ndarray | None = None) -> None:
        self._arrays = arrays
        self._digest = digest
        self._places = places
        self._count = sum(map(len, arrays)) if places is None else len(places)

    @property
    def digest(self) -> str:
        """A hash of the strings."""
        places = b"" if self._places is None else self._places.tobytes()
        return hashlib.sha256(self._digest.encode() + places).hexdigest()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            wanted = range(self._count)[place]
            if self._places is None and wanted.step == 1:
                return self._between(wanted.start, wanted.stop)
            return [self[one] for one in wanted]
        if not -self._count <= place < self._count:
            raise IndexError(f"Text {place} of {self._count}.")
        place %= self._count
        chunk, row = divmod(place if self._places is None else int(self._places[place]), CHUNK)
        return self._arrays[chunk][row].as_py()

    def _between(self, start: int, stop: int) -> list[str]:
        found: list[str] = []
        while start < stop:
            chunk, row = divmod(start, CHUNK)
            found += self._arrays[chunk].slice(row, min(CHUNK - row, stop - start)).to_pylist()
            start += CHUNK - row
        return found

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None

    def select(self, places: Sequence[int]) -> "StoredTexts":
        """The strings at `places`, in that order."""
        wanted = numpy.asarray(places, dtype="int64")
        return StoredTexts(self._arrays, self._digest, wanted if self._places is None else self._places[wanted])
