"""Rows of texts with a label each, as a reader finds them: in lists, or those of large files in the cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprompt.data.packed import CHUNK
from fastprompt.errors import DataError

import numpy

STORED_FROM = 2**24  # bytes of a file; one of half the size is read in the time that the cache's library is imported

Add = Callable[[Sequence[str], int | float], None]
Read = Callable[[Add], dict[str, Any]]


@dataclass(frozen=True)
class Gathered:
    """What was read.

    Attributes:
        columns: of texts, or of texts and their pairs.
        labels: one number a row.
        about: what the reader returned.
        notes: on the cache.
    """

    columns: list[Sequence[str]]
    labels: numpy.ndarray
    about: dict[str, Any]
    notes: list[str]


def gather(files: Sequence[Path], settings: dict[str, Any], read: Read) -> Gathered:
    """The rows that `read` finds in `files`; those of large files are written to the cache once and memory-mapped.

    Args:
        settings: by what else than the files the rows are found, as JSON.
        read: calls its argument with the texts and the label of each row, and returns, as JSON, what else is to be
            known of them: nothing that names the files, for a copy of them is read the same. It is called again where
            the cache turns out to be unusable.

    Raises:
        DataError: what `read` raises, or a file changes meanwhile; then nothing is stored.
    """
    notes: list[str] = []
    if sum(path.stat().st_size for path in files if path.is_file()) >= STORED_FROM:
        found = _from_store(files, settings, read, notes)
        if found is not None:
            return found
    columns: list[list[str]] = []
    labels: list[int | float] = []

    def add(texts: Sequence[str], label: int | float) -> None:
        if not columns:
            columns.extend([] for _ in texts)
        for column, text in zip(columns, texts, strict=True):
            column.append(text)
        labels.append(label)

    about = read(add)
    return Gathered(columns, numpy.array(labels), about, notes)


def _from_store(files: Sequence[Path], settings: dict[str, Any], read: Read, notes: list[str]) -> Gathered | None:
    from fastprompt.data import store
    from fastprompt.data.stored_texts import StoredTexts

    import pyarrow

    def write(add_chunk: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        rows: list[tuple[Any, ...]] = []

        def flush() -> None:
            *columns, labels = map(list, zip(*rows, strict=True))
            texts = {f"texts {number}": column for number, column in enumerate(columns)}
            add_chunk({**texts, "labels": numpy.array(labels)})
            rows.clear()

        def add(texts: Sequence[str], label: int | float) -> None:
            rows.append((*texts, label))
            if len(rows) == CHUNK:
                flush()

        about = read(add)
        if rows:
            flush()
        for path, digest in zip(files, digests, strict=True):
            if store.file_digest(path) != digest:
                raise DataError(f"{path} was changed while it was read; start again.")
        return about

    try:
        digests = [store.file_digest(path) for path in files]
    except OSError:  # which `read` says better
        return None
    entry = store.stored("texts", {"files": digests, **settings}, write, notes)
    if entry is None:
        return None
    names = [name for name in entry.batches[0].schema.names if name != "labels"]
    columns = [
        StoredTexts(pyarrow.chunked_array([batch.column(name) for batch in entry.batches]), f"{entry.digest} {name}")
        for name in names
    ]
    labels = numpy.concatenate([batch.column("labels").to_numpy() for batch in entry.batches])
    return Gathered(columns, labels, entry.about, notes)
