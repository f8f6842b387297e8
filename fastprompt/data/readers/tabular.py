"""The user's own texts with classes or numbers: CSV, TSV, JSON lines, or a folder that `datasets` saved."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastprompt.data.examples import LabelledTexts
from fastprompt.data.readers.files import (
    Record,
    check_columns,
    find_split,
    has_csv_quotes,
    load_saved,
    read_csv,
    read_json_lines,
    read_tsv,
    shown,
)
from fastprompt.errors import ConfigError, DataError

_WHOLE = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def load_own(
    data_dir: str | Path,
    split: str,
    text_columns: Sequence[str] | None,
    label_column: str = "label",
    label_names: Sequence[str] | None = None,
    regression: bool = False,
) -> LabelledTexts:
    """Split "train", "validation" or "test" of a folder with train.csv, dev.jsonl or the like, or with `datasets`' own
    files. Labels of "test" are left unread and are 0.

    Args:
        text_columns: one column, or two for pairs of texts; spaces around a column's name are no part of it.
        label_names: the classes of training; None where this is training, whose own labels they are: numbers in their
            order, words in the alphabet's. Spaces around a label are no part of it.
        regression: labels are numbers.

    Raises:
        ConfigError: not one or two text columns.
        DataError: a column does not exist, or with the line: a text is none, or a label is no class or no number or
            does not occur in training.
    """
    if text_columns is None or not 1 <= len(text_columns) <= 2:
        raise ConfigError("--text_columns names the column of the texts, or the two columns of pairs of texts.")
    text_columns, label_column = [name.strip() for name in text_columns], label_column.strip()
    texts: list[list[str]] = [[] for _ in text_columns]
    labels: list[Record] = []
    label_columns = [] if split == "test" else [label_column]
    source, rows, class_names = _open(Path(data_dir).expanduser(), split, [*text_columns, *label_columns])
    for row in rows:
        for column, name in zip(texts, text_columns, strict=True):
            column.append(row.get(name, str))
        labels.append(Record(row.source, row.trail, row.value.get(label_column)))
    if not labels:
        raise DataError(f"{source} has no rows.")
    first, *second = texts
    pairs = second[0] if second else None
    if split == "test":
        unknown: list[Any] = [0.0 if regression else 0] * len(first)
        if label_names is None and not regression:
            raise ConfigError("The test split does not name the classes; give label_names=, those of training.")
        return LabelledTexts(first, unknown, None if regression else list(label_names), pairs)
    if regression:
        return LabelledTexts(first, [_number(label) for label in labels], None, pairs)
    written = [_class(label) for label in labels]
    found = [label.strip() for label in written]
    names = list(dict.fromkeys(name.strip() for name in label_names or class_names or _in_order(set(found))))
    if len(names) < 2:
        raise DataError(f"{source}: all labels are {names[0]!r}; at least two classes are expected.")
    index = {name: number for number, name in enumerate(names)}
    for name, label in zip(found, labels, strict=True):
        if name not in index:
            raise label.wrong(f"the label {name!r} does not occur in training, whose labels are {shown(names)}")
    made = LabelledTexts(first, [index[name] for name in found], names, pairs)
    if spaced := sum(label != trimmed for label, trimmed in zip(written, found, strict=True)):
        made.notes.append(f"{source}: {spaced} labels have spaces around them, which are no part of a class's name.")
    return made


def _open(folder: Path, split: str, required: list[str]) -> tuple[Path, Iterator[Record], list[str] | None]:
    """Where a split stands, its rows, and the classes' names where the data say them."""
    if (folder / "dataset_dict.json").exists():
        return folder, *_open_saved(folder, split, required)
    path = find_split(folder, split, (".csv", ".tsv", ".jsonl"))
    if path.suffix == ".jsonl":
        return path, _checked(read_json_lines(path), required), None
    if path.suffix == ".csv":
        lines = read_csv(path, required)
    elif has_csv_quotes(path):
        lines = read_csv(path, required, "\t")
    else:
        lines = read_tsv(path, required)
    return path, (Record(str(path), f"line {number}", row) for number, row in lines), None


def _checked(rows: Iterator[Record], required: list[str]) -> Iterator[Record]:
    for row in rows:
        if not isinstance(row.value, dict):
            raise row.wrong(f"an object is expected, not {type(row.value).__name__}")
        check_columns(f"{row.source}, {row.trail}", required, list(row.value))
        yield row


def _open_saved(folder: Path, split: str, required: list[str]) -> tuple[Iterator[Record], list[str] | None]:
    """A folder that `DatasetDict.save_to_disk` made."""
    where, rows = load_saved(folder, split)
    label = required[-1]
    check_columns(where, required, rows.column_names)
    names = getattr(rows.features[label], "names", None)  # a text column has none
    if names is not None:
        rows = ({**row, label: names[row[label]] if row[label] in range(len(names)) else None} for row in rows)
    return (Record(where, f"row {number}", row) for number, row in enumerate(rows)), names


def _number(label: Record) -> float:
    try:
        value = math.nan if isinstance(label.value, bool) else float(label.value)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise label.wrong(f"the label is {label.value!r}; a regression takes numbers")
    return value


def _class(label: Record) -> str:
    """The name of a class: a word, a whole number, or true and false."""
    value = label.value
    if isinstance(value, str) and value.strip() and not (_NUMBER.fullmatch(value) and not _WHOLE.fullmatch(value)):
        return value
    if isinstance(value, int):  # bool too
        return json.dumps(value)
    problem = "is empty" if value is None or not str(value).strip() else f"is {value!r}"
    raise label.wrong(f"the label {problem}; classes are words or whole numbers (numbers: --task_name regression)")


def _in_order(names: set[str]) -> list[str]:
    return sorted(names, key=int if all(map(_WHOLE.fullmatch, names)) else None)
