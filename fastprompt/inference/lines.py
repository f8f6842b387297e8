"""Lines of input: of a file or of standard input, in batches, and as records that a task of a model reads.

They are read as the data to train on are: a byte-order mark is no part of a text, and blank lines between JSON objects
are none. A line that is not UTF-8 is passed on and refused by itself, where it is read as a record.
"""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fastprompt.data.readers.files import Record, parse_line
from fastprompt.errors import DataError

Line = tuple[str, str]  # where it stands, what it says


def open_input(source: str | None) -> tuple[Iterator[Line], bool]:
    """The lines of a file, or of standard input as they come, and whether each is a JSON object.

    They are objects in a file named .jsonl or .json, whose list may also stretch over several lines, and on standard
    input where the first line that is not blank is one or all of it is a list of them.

    Raises:
        DataError: the file cannot be read, or with the line: a .json file holds no JSON.
    """
    if source is None:
        return _detected(_decoded(sys.stdin.buffer, "standard input"), "standard input")
    lines = _of_file(source)
    if not source.endswith((".json", ".jsonl")):
        return lines, False
    if source.endswith(".jsonl"):
        return _objects(lines), True
    objects = list(_objects(lines))
    return (iter(objects) if _is_object(objects) else _of_list(objects, source)), True


def _of_file(source: str) -> Iterator[Line]:
    try:
        with Path(source).open("rb") as file:
            yield from _decoded(file, source)
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}).") from error


def _decoded(raw: Iterable[bytes], name: str) -> Iterator[Line]:
    for number, line in enumerate(raw, 1):
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="surrogateescape")
        yield f"{name}, line {number}", text.rstrip("\r\n")


def text_of(line: Line) -> str:
    """What a line says.

    Raises:
        DataError: it is not UTF-8.
    """
    where, text = line
    try:
        text.encode()
    except UnicodeEncodeError as error:  # bytes that `_decoded` has passed on
        raise DataError(f"{where} is not UTF-8; save it as UTF-8.") from error
    return text


def without_blanks(lines: Iterable[Line]) -> Iterator[Line]:
    return (line for line in lines if line[1].strip())


def _objects(lines: Iterable[Line]) -> Iterator[Line]:
    """Lines that are JSON objects each; where files were joined, a byte-order mark stands before a later one."""
    return without_blanks((where, text.removeprefix("\ufeff")) for where, text in lines)


def _detected(lines: Iterator[Line], name: str) -> tuple[Iterator[Line], bool]:
    """Lines that may be texts or JSON; more than the first that is not blank is read only where that begins a list."""
    first: list[Line] = []
    for line in lines:
        first.append(line)
        if line[1].strip():
            break
    if _is_object(first[-1:]):
        return _objects(itertools.chain(first, lines)), True
    if not first or not first[-1][1].lstrip().startswith("["):
        return itertools.chain(first, lines), False
    first += lines
    try:
        return _of_list(first, name), True
    except DataError:  # a text that begins with a bracket
        return iter(first), False


def _is_object(lines: list[Line]) -> bool:
    """Whether the first line is a JSON object by itself."""
    try:
        return bool(lines) and isinstance(json.loads(lines[0][1]), dict)
    except json.JSONDecodeError:
        return False


def _of_list(lines: list[Line], name: str) -> Iterator[Line]:
    """The objects of a JSON list, or the one object, that all lines together are."""
    try:
        found = json.loads("\n".join(map(text_of, lines)))
    except json.JSONDecodeError as error:
        where = lines[error.lineno - 1][0] if lines else name
        raise DataError(f"{where}: no valid JSON ({error.msg}).") from error
    rows = found if isinstance(found, list) else [found]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{name}: a JSON object, or a list of them, is expected.")
    return iter([(f"{name}, row {number}", json.dumps(row)) for number, row in enumerate(rows, 1)])


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
        DataError: it is none, or not UTF-8.
    """
    where, _ = line
    try:
        return Record(where, "", parse_line(text_of(line)))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: a JSON object is expected ({error.msg}).") from error


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
