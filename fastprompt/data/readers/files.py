"""Data files: found by their split, read as UTF-8, refused by name and line."""

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastprompt.errors import DataError

# What the published data sets call a split.
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev", "devel"),
    "test": ("test",),
}
_LONGEST_FIELD = 131_072  # characters; Python's csv has the same limit
# A field of a file with tabs whose quotes are CSV's: around the whole field, doubled within it.
_TSV_FIELD = re.compile(r'"[^"]*(?:""[^"]*)*"|[^"\t\n]*')


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, but for hidden files, such as the ._train.csv that macOS leaves beside a train.csv."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def find_split(data_dir: str | Path, split: str, suffixes: tuple[str, ...]) -> Path:
    """The one file of a split: its name has the split's among its parts (train.csv, dev-v1.1.json, conll05.devel.txt).

    Raises:
        DataError: there is no such file, or there are several.
    """
    folder = Path(data_dir).expanduser()
    names = SPLIT_NAMES[split]
    found = [
        path for path in listed(folder) if path.suffix in suffixes and set(re.split(r"[-._]", path.stem)) & set(names)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        known = f"{'|'.join(names)} with {'|'.join(suffixes)}"
        raise DataError(f"--data_dir {folder} has no {split} file, such as {names[0]}{suffixes[0]} ({known}).")
    several = ", ".join(path.name for path in found)
    raise DataError(f"--data_dir {folder} has several {split} files ({several}); leave one there.")


def load_saved(folder: Path, split: str | None) -> tuple[str, Any]:
    """(where it stands, the rows) of a folder that `datasets` saved.

    Args:
        split: of a DatasetDict; None for a Dataset.

    Raises:
        DataError: `datasets` cannot read it, or it lacks the split.
    """
    import datasets

    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} cannot be read by datasets ({error}); save it again with save_to_disk.") from error
    if split is None:
        return str(folder), saved
    found = [name for name in SPLIT_NAMES[split] if name in saved]
    if not found:
        raise DataError(f"{folder} has the splits {', '.join(saved)}; it lacks {split!r}.")
    return f"{folder}, {found[0]}", saved[found[0]]


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, line without its end), a byte-order mark left off.

    Raises:
        DataError: there is no such file, it cannot be read, or a line is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}; --data_dir names the folder with the data set's files.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: this is not UTF-8; save the file as UTF-8.") from error


def read_json(path: Path) -> Any:
    """Raises: DataError: `read_lines`'s reasons, or the content is no JSON."""
    try:
        return json.loads("\n".join(line for _, line in read_lines(path)))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: no valid JSON ({error.msg}).") from error


def read_json_lines(path: Path) -> Iterator["Record"]:
    """The object of each line that is not blank; where files were joined, a byte-order mark stands before a later one.

    Raises:
        DataError: `read_lines`'s reasons, or a line is no JSON.
    """
    for number, line in read_lines(path):
        if (line := line.removeprefix("\ufeff")).strip():
            try:
                yield Record(str(path), f"line {number}", parse_line(line))
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: no valid JSON ({error.msg}).") from error


def parse_line(text: str) -> Any:
    """The value of a line of JSON.

    Raises:
        json.JSONDecodeError: it is none, or holds half of a pair of \\u escapes, which is no character.
    """
    value = json.loads(text)
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise json.JSONDecodeError("half a character in a \\u escape", text, 0) from error
    return value


def read_tsv(
    path: Path, required: Sequence[str], header: Sequence[str] | None = None, short: list[int] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a file with tabs between its columns, no quoting; blank lines are none.

    Args:
        required: columns that must be there.
        header: the columns' names where the file's first line is no header.
        short: gets the lines that have too few columns, which are then left out.

    Raises:
        DataError: `read_lines`'s reasons, a column is missing, a line has another number of columns, or a field is so
            long that line ends are missing.
    """
    for number, line in read_lines(path):
        if not line:
            continue
        fields = line.split("\t")
        if header is None:
            header = [name.strip() for name in fields]
            check_columns(path, required, header)
            continue
        if short is not None and len(fields) < len(header):
            short.append(number)
            continue
        if len(fields) != len(header):
            raise DataError(f"{path}, line {number}: {len(fields)} columns where the header has {len(header)}.")
        if len(line) > _LONGEST_FIELD and max(map(len, fields)) > _LONGEST_FIELD:
            raise DataError(
                f"{path}, line {number}: a field of more than {_LONGEST_FIELD:,} characters; is a line end missing?"
            )
        yield number, dict(zip(header, fields, strict=True))


def read_csv(path: Path, required: Sequence[str], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a file with double quotes around fields that need them, as `read_tsv` gives them.

    Where the header has a space after a delimiter, one after any is no part of a field.

    Raises:
        DataError: as `read_tsv`, or a quote is not closed.
    """
    lines = (f"{line}\n" for _, line in read_lines(path))
    first = next(lines, "")
    spaced = f"{delimiter} " in first
    reader = csv.reader(
        itertools.chain([first] if first else (), lines), strict=True, delimiter=delimiter, skipinitialspace=spaced
    )
    header, number = None, 1
    try:
        for fields in reader:
            if header is None:
                header = [name.strip() for name in fields]
                check_columns(path, required, header)
            elif len(fields) == len(header):
                yield number, dict(zip(header, fields, strict=True))
            elif fields:
                raise DataError(f"{path}, line {number}: {len(fields)} columns where the header has {len(header)}.")
            number = reader.line_num + 1  # where the next row begins; a field may hold line ends
    except csv.Error as error:
        raise DataError(f"{path}, line {number}: this is no CSV ({error}); is a quote not closed?") from error


def has_csv_quotes(path: Path) -> bool:
    """Whether a file with tabs has quotes, and all as pandas and spreadsheets write them: around a whole field that
    holds a tab, a quote or a line end, quotes within it doubled. Else a quote is a character like any other.

    Raises:
        DataError: `read_lines`'s reasons.
    """
    if not any('"' in line for _, line in read_lines(path)):
        return False
    # Where every line is a row, no field holds a line end: quotes then open and close in one line.
    if len({line.count("\t") for _, line in read_lines(path) if line}) == 1:
        return all(_quotes_are_csvs(line) for _, line in read_lines(path))
    return _quotes_are_csvs("\n".join(line for _, line in read_lines(path)))


def _quotes_are_csvs(text: str) -> bool:
    end = -1
    while end < len(text):
        end = _TSV_FIELD.match(text, end + 1).end()
        if text[end : end + 1] not in ("\t", "\n", ""):
            return False
    return True


def check_columns(source: str | Path, required: Sequence[str], found: list[str]) -> None:
    """Raises: DataError: a column is missing, and is named with those that are there, or two have one name."""
    if twice := [name for name in found if found.count(name) > 1]:
        raise DataError(f"{source} has two columns {twice[0]!r}; rename one.")
    for name in required:
        if name not in found:
            raise DataError(f"{source} has the columns {', '.join(found)}; it lacks {name!r}.")


def shown(names: Iterable[str], most: int = 10) -> str:
    """Names for an error message: the first few, and how many there are."""
    names = list(names)
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])}, ... ({len(names)} in all)"


class Record:
    """A value read from JSON that knows where it stands."""

    def __init__(self, source: str, trail: str, value: Any) -> None:
        self.source = source
        self.trail = trail
        self.value = value

    def wrong(self, text: str) -> DataError:
        return DataError(f"{self.source}{', ' if self.trail else ''}{self.trail}: {text}.")

    def get(self, key: str, *kinds: type) -> Any:
        """The value of a key.

        Raises:
            DataError: the key is missing or its value is of none of `kinds`.
        """
        if not isinstance(self.value, dict):
            raise self.wrong(f"an object is expected, not {type(self.value).__name__}")
        if key not in self.value:
            raise self.wrong(f"the key {key!r} is missing")
        found = self.value[key]
        if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise self.wrong(f"{key!r} is {type(found).__name__}, not {names}")
        return found

    def child(self, key: str) -> "Record":
        """The object of a key."""
        return Record(self.source, self._under(key), self.get(key, dict))

    def items(self, key: str) -> "list[Record]":
        """What is in the list of a key."""
        return [Record(self.source, f"{self._under(key)}[{i}]", value) for i, value in enumerate(self.get(key, list))]

    def _under(self, key: str) -> str:
        return f"{self.trail}.{key}" if self.trail else key
