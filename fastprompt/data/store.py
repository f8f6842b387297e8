"""Large data in the cache of `datasets`: Arrow files, memory-mapped, which all processes and runs of a machine share.

An entry is a folder `fastprompt/KIND-HASH` there, with rows.arrow, and entry.json, which says what it depends on and
the rows' hash. It appears whole, by a rename; a lock lets one process write while others wait for it. An entry that is
not what its entry.json says is made anew. HF_DATASETS_CACHE moves the folder; it may be deleted when nothing runs.

This module imports `datasets`, which takes a second; import it for large data alone.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastprompt.data.packed import CHUNK, Column, Lists
from fastprompt.launch.lock import locked

import datasets
import pyarrow
from datasets.arrow_writer import ArrowWriter

Chunk = dict[str, Column | list[str]]
_ROWS, _ABOUT = "rows.arrow", "entry.json"
_unusable: set[Path] = set()  # folders that could not be written; said once a process


@dataclass(frozen=True)
class Entry:
    """What was stored.

    Attributes:
        batches: `CHUNK` rows each; the last may have fewer.
        about: what its writer returned.
        digest: the rows' sha256.
    """

    batches: list[pyarrow.RecordBatch]
    about: dict[str, Any]
    digest: str


def stored(
    kind: str, key: dict[str, Any], write: Callable[[Callable[[Chunk], None]], dict[str, Any]], notes: list[str]
) -> Entry | None:
    """The entry of `key`, written by `write` where there is none; None where the cache cannot be read or written.

    Args:
        kind: how its folder's name begins.
        key: what the rows depend on, as JSON; the code that makes them is added here.
        write: gets a function that adds `CHUNK` rows (the last may be fewer), and returns what to note of them as JSON.
        notes: gets a line about an entry that is made anew, and once a process about a folder that cannot be used.
    """
    key = {**key, "code": _code(), "rows a batch": CHUNK}
    root = Path(datasets.config.HF_DATASETS_CACHE) / "fastprompt"
    name = f"{kind}-{hashlib.sha256(_as_json(key)).hexdigest()[:32]}"
    folder = root / name
    try:
        found = _read(folder, key)
        if found is not None or root in _unusable:
            return found
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f"{name}.lock"):
            found = _read(folder, key)  # of another process, which wrote in the meantime
            if found is None:
                if folder.exists():
                    notes.append(f"{folder} was cut short or changed; it is made anew.")
                    shutil.rmtree(folder)
                _write(folder, key, write)
                found = _read(folder, key)
    except OSError as error:
        if root not in _unusable:
            _unusable.add(root)
            notes.append(
                f"{root} cannot be used ({error.strerror or error}): the data are held in the memory of each process. "
                f"HF_DATASETS_CACHE names another folder."
            )
        return None
    return found


def _as_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


@cache
def _code() -> str:
    """A hash of the modules that read data and make rows of it."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in ("cloze", "data", "pretrained"):
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _read(folder: Path, key: dict[str, Any]) -> Entry | None:
    """None where there is no entry, or none that is whole and of `key`."""
    try:
        entry = json.loads((folder / _ABOUT).read_bytes())
        digest = file_digest(folder / _ROWS)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(entry, dict) or entry.get("key") != key or entry.get("sha256") != digest:
        return None
    if entry.get("about_sha256") != hashlib.sha256(_as_json(entry.get("about"))).hexdigest():
        return None
    batches = datasets.Dataset.from_file(str(folder / _ROWS)).data.to_batches() if entry["count"] else []
    return Entry(batches, entry["about"], digest)


def _write(folder: Path, key: dict[str, Any], write: Callable[[Callable[[Chunk], None]], dict[str, Any]]) -> None:
    """Write an entry whole or not at all; who calls has the lock."""
    for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed
        shutil.rmtree(left)
    made = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        made.mkdir()
        with ArrowWriter(path=str(made / _ROWS), writer_batch_size=CHUNK) as writer:
            about = write(lambda chunk: writer.write_table(_table(chunk)))
            count, _ = writer.finalize()
        entry = {"key": key, "sha256": file_digest(made / _ROWS), "count": count, "about": about}
        entry["about_sha256"] = hashlib.sha256(_as_json(about)).hexdigest()
        (made / _ABOUT).write_bytes(_as_json(entry))
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def file_digest(path: Path) -> str:
    """A file's sha256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _table(chunk: Chunk) -> pyarrow.Table:
    return pyarrow.table({name: _array(column) for name, column in chunk.items()})


def _array(column: Column | list[str]) -> pyarrow.Array:
    if isinstance(column, Lists):
        return pyarrow.ListArray.from_arrays(pyarrow.array(column.offsets), _array(column.values))
    return pyarrow.array(column, pyarrow.string() if isinstance(column, list) else None)


def unpacked(batch: pyarrow.RecordBatch) -> dict[str, Column]:
    """The columns of a batch of numbers and lists of numbers, which stay in the file."""
    return {name: _column(batch.column(name)) for name in batch.schema.names}


def _column(array: pyarrow.Array) -> Column:
    if isinstance(array, pyarrow.ListArray):
        return Lists(_column(array.values), array.offsets.to_numpy())
    return array.to_numpy()
