"""A column of texts in a memory-mapped file."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from fastprompt.data.packed import CHUNK

import numpy


class StoredTexts(Sequence):
    """Strings that stay in their file until they are asked for; slices of it are lists.

    Args:
        column: pyarrow's chunked array of strings, none of them null.
        digest: a hash of what is in it; None: it is made where it is asked for.
        places: (N,) which of the strings these are; None: all.
    """

    def __init__(self, column: Any, digest: str | None = None, places: numpy.ndarray | None = None) -> None:
        self._column = column
        self._digest = digest
        self._places = places

    @property
    def digest(self) -> str:
        """A hash of the strings; of the same ones it may be another where they come from elsewhere."""
        found = hashlib.sha256()
        if self._digest is None:
            for text in self:
                found.update(f"\n{text!r}".encode())
        else:
            found.update(self._digest.encode())
            found.update(b"" if self._places is None else self._places.tobytes())
        return found.hexdigest()

    def __len__(self) -> int:
        return len(self._column if self._places is None else self._places)

    def __getitem__(self, place: int | slice) -> Any:
        count = len(self)
        if isinstance(place, slice):
            wanted = range(count)[place]
            if self._places is None and wanted.step == 1:
                return self._column.slice(wanted.start, len(wanted)).to_pylist()
            return [self[one] for one in wanted]
        if not -count <= place < count:
            raise IndexError(f"Text {place} of {count}.")
        place %= count
        return self._column[place if self._places is None else int(self._places[place])].as_py()

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
        return StoredTexts(self._column, self._digest, wanted if self._places is None else self._places[wanted])


def column_of(dataset: Any, name: str) -> Sequence[Any]:
    """A column of a `datasets.Dataset`: texts stay in its file, whatever else it is becomes a list."""
    if not hasattr(dataset, "with_format"):
        return list(dataset[name])
    column = dataset.with_format("arrow")[:][name]
    is_text = str(column.type) in ("string", "large_string") and not column.null_count
    return StoredTexts(column) if is_text else list(dataset[name])
