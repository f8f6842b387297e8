"""Lines of input: in batches, and as records that a task of a model reads."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from fastprompt.data.readers.files import Record
from fastprompt.errors import DataError

Line = tuple[str, str]  # where it stands, what it says


def batches(lines: Iterable[Line], size: int) -> Iterator[list[Line]]:
    """Lines in groups of `size`, as they come."""
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def parsed(line: Line) -> Record:
    """A line that is a JSON object.

    Raises:
        DataError: it is none.
    """
    where, text = line
    try:
        return Record(where, "", json.loads(text))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: a JSON object is wanted ({error.msg}).") from error


def all_or_none(records: list[Record], key: str, *kinds: type) -> list[Any] | None:
    """The values of a key that every object has, or none of them.

    Raises:
        DataError: some have it and some have not.
    """
    if not records or key not in (records[0].value if isinstance(records[0].value, dict) else ()):
        if extra := [record for record in records if isinstance(record.value, dict) and key in record.value]:
            raise extra[0].wrong(f"it has the key {key!r}, the lines before it have not")
        return None
    return [record.get(key, *kinds) for record in records]
