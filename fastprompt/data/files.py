"""Data files: found by their split, read as UTF-8, refused by name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastprompt.errors import DataError

# What the published data sets call the file of a split.
_STEMS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev")}


def read_text(path: Path) -> str:
    """A file's text, a byte-order mark left off.

    Raises:
        DataError: there is no such file, it cannot be read, or it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}; --data_dir names the folder with the data set's files.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error


def read_json(path: Path) -> Any:
    """Raises: DataError: `read_text`'s reasons, or the content is no JSON."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: no valid JSON ({error.msg}).") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line that is not blank.

    Raises:
        DataError: `read_text`'s reasons, or a line is no JSON object.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: no valid JSON ({error.msg}).") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: a JSON object is wanted, not {type(row).__name__}.")
        yield number, row


def find_split(data_dir: str | Path, split: str, suffixes: tuple[str, ...]) -> Path:
    """The one file of a split: train, or validation, valid, val or dev, also with more behind a hyphen (dev-v1.1.json).

    Raises:
        DataError: there is no such file, or there are several.
    """
    folder = Path(data_dir).expanduser()
    stems = _STEMS[split]
    found = sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix in suffixes and path.name.removesuffix(path.suffix).partition("-")[0] in stems
    )
    if len(found) == 1:
        return found[0]
    wanted = f"{' or '.join(stems)} with {' or '.join(suffixes)}"
    if not found:
        raise DataError(f"--data_dir {folder} has no file of the {split} split; its name is {wanted}.")
    names = ", ".join(path.name for path in found)
    raise DataError(f"--data_dir {folder} has several files of the {split} split ({names}); leave one there.")
