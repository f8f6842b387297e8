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
from fastprompt.data.readers.labelled import Add, gather
from fastprompt.errors import ConfigError, DataError

import numpy

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
    required = text_columns if split == "test" else [*text_columns, label_column]
    found = _Found(Path(data_dir).expanduser(), split, required)
    labels = _Labels(found.where, split, label_names, regression)

    def read(add: Add) -> dict[str, Any]:
        labels.clear()
        rows, class_names = found.rows()
        for row in rows:
            texts = [row.get(name, str) for name in text_columns]
            add(texts, labels.number(Record(row.source, row.trail, row.value.get(label_column))))
        return labels.finish(class_names)

    settings = {"columns": required, "label_names": label_names and list(label_names), "regression": regression}
    gathered = gather(found.files, {"tabular": found.suffix, "split": split, **settings}, read)
    numbers, names = gathered.labels, gathered.about["names"]
    if names is not None:
        index = {name: number for number, name in enumerate(names)}
        numbers = numpy.array([index[name] for name in gathered.about["classes"]] or [0])[numbers]
    first, *second = gathered.columns
    made = LabelledTexts(first, numbers.tolist(), names, second[0] if second else None)
    if spaced := gathered.about["spaced"]:
        made.notes.append(
            f"{found.where}: {spaced} labels have spaces around them, which are no part of a class's name."
        )
    made.notes += gathered.notes
    return made


class _Labels:
    """The labels of a split as numbers: of a regression themselves, else of the classes as they come."""

    def __init__(self, where: Path, split: str, label_names: Sequence[str] | None, regression: bool) -> None:
        self.where, self.split, self.label_names, self.regression = where, split, label_names, regression
        self.clear()

    def clear(self) -> None:
        self.classes: dict[str, int] = {}
        self.first: list[Record] = []  # where each class comes first
        self.count = self.spaced = 0
        self.problem: DataError | None = None  # raised after the last row: a row that cannot be read comes before it

    def number(self, label: Record) -> int | float:
        self.count += 1
        if self.split == "test" or self.problem is not None:
            return 0.0 if self.regression else 0
        try:
            if self.regression:
                return _number(label)
            written = _class(label)
        except DataError as problem:
            self.problem = problem
            return 0
        name = written.strip()
        self.spaced += name != written
        if name not in self.classes:
            self.first.append(label)
        return self.classes.setdefault(name, len(self.classes))

    def finish(self, class_names: list[str] | None) -> dict[str, Any]:
        """What is to be known of the numbers: "names" in their order, "classes" as they are numbered here."""
        if not self.count:
            raise DataError(f"{self.where} has no rows.")
        if self.problem is not None:
            raise self.problem
        names = None if self.regression else self._names(class_names)
        return {"names": names, "classes": list(self.classes), "spaced": self.spaced}

    def _names(self, class_names: list[str] | None) -> list[str]:
        if self.split == "test":
            if self.label_names is None:
                raise ConfigError("The test split does not name the classes; give label_names=, those of training.")
            return list(self.label_names)
        names = self.label_names or class_names or _in_order(set(self.classes))
        names = list(dict.fromkeys(name.strip() for name in names))
        if len(names) < 2:
            raise DataError(f"{self.where}: all labels are {names[0]!r}; at least two classes are expected.")
        known = set(names)
        for name, label in zip(self.classes, self.first, strict=True):
            if name not in known:
                raise label.wrong(f"the label {name!r} does not occur in training, whose labels are {shown(names)}")
        return names


class _Found:
    """A split of a folder.

    Attributes:
        where: its file, or the folder that `datasets` saved.
        files: what its rows depend on.
        suffix: how the file's name ends; "" of a folder.
    """

    def __init__(self, folder: Path, split: str, required: list[str]) -> None:
        self.split, self.required, self.suffix = split, required, ""
        if (folder / "dataset_dict.json").exists():
            self.where = folder
            self.files = sorted(path for path in folder.rglob("*") if path.is_file())
        else:
            self.where = find_split(folder, split, (".csv", ".tsv", ".jsonl"))
            self.files, self.suffix = [self.where], self.where.suffix

    def rows(self) -> tuple[Iterator[Record], list[str] | None]:
        """The rows, and the classes' names where the data say them."""
        path, required = self.where, self.required
        if not self.suffix:
            return _open_saved(path, self.split, required)
        if self.suffix == ".jsonl":
            return _checked(read_json_lines(path), required), None
        if self.suffix == ".csv":
            lines = read_csv(path, required)
        elif has_csv_quotes(path):
            lines = read_csv(path, required, "\t")
        else:
            lines = read_tsv(path, required)
        return (Record(str(path), f"line {number}", row) for number, row in lines), None


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
