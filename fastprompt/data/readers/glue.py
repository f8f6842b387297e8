"""GLUE's nine tasks (Wang et al., 2018), from their official files or from the hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprompt.data.examples import LabelledTexts
from fastprompt.data.readers.files import read_tsv
from fastprompt.data.readers.hub import load_from_hub
from fastprompt.data.readers.labelled import Add, gather
from fastprompt.data.stored_texts import column_of
from fastprompt.errors import DataError

_ENTAILMENT = ("entailment", "not_entailment")


@dataclass(frozen=True)
class GlueTask:
    """How a task is written down.

    Args:
        title: what people call it.
        columns: of its files: text, second text where there is one, label.
        hub_columns: the same of its rows on the hub, where they have other names; the label is "label" there.
        label_names: the classes; None for a regression.
        labels: the classes as its files write them; None where they write the names.
        header: its files' columns where they have no header.
        leaves_out_short: whether lines with too few columns are left out: QQP's official files have a few.
    """

    title: str
    columns: tuple[str, ...]
    label_names: tuple[str, ...] | None
    labels: tuple[str, ...] | None = None
    hub_columns: tuple[str, ...] | None = None
    header: tuple[str, ...] | None = None
    leaves_out_short: bool = False


_NUMBERS = ("0", "1")
_SENTENCES = ("sentence1", "sentence2")

GLUE = {
    "cola": GlueTask(
        "CoLA",
        ("sentence", "label"),
        ("unacceptable", "acceptable"),
        _NUMBERS,
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueTask("SST-2", ("sentence", "label"), ("negative", "positive"), _NUMBERS),
    "mrpc": GlueTask(
        "MRPC", ("#1 String", "#2 String", "Quality"), ("not_equivalent", "equivalent"), _NUMBERS, _SENTENCES
    ),
    "stsb": GlueTask("STS-B", (*_SENTENCES, "score"), None),
    "qqp": GlueTask(
        "QQP",
        ("question1", "question2", "is_duplicate"),
        ("not_duplicate", "duplicate"),
        _NUMBERS,
        leaves_out_short=True,
    ),
    "mnli": GlueTask(
        "MNLI",
        (*_SENTENCES, "gold_label"),
        ("entailment", "neutral", "contradiction"),
        hub_columns=("premise", "hypothesis"),
    ),
    "qnli": GlueTask("QNLI", ("question", "sentence", "label"), _ENTAILMENT),
    "rte": GlueTask("RTE", (*_SENTENCES, "label"), _ENTAILMENT),
    "wnli": GlueTask("WNLI", (*_SENTENCES, "label"), ("not_entailment", "entailment"), _NUMBERS),
}


def load_glue(dataset_name: str, split: str, data_dir: str | Path | None = None) -> LabelledTexts:
    """Split "train", "validation" or "test" of a task; MNLI has "validation_mismatched" too, and the matched ones are
    its "validation" and "test". The labels of "test", which are not published, are 0.

    Args:
        data_dir: a folder with the task's official files (train.tsv, dev.tsv, test.tsv; dev_matched.tsv,
            dev_mismatched.tsv and test_matched.tsv of MNLI; of MRPC also msr_paraphrase_train.txt with dev_ids.tsv);
            None takes the hub's copy.

    Raises:
        DataError: a file or the hub cannot be read, or a row is not what the task's rows are.
    """
    task = GLUE[dataset_name]
    if data_dir is None:
        return _from_hub(task, dataset_name, split)
    folder = Path(data_dir).expanduser()
    name = {"train": "train.tsv", "test": "test.tsv"}.get(split, "dev.tsv")
    if dataset_name == "mnli" and split != "train":
        name = name.replace(".", "_mismatched." if split == "validation_mismatched" else "_matched.")
    original = folder / "msr_paraphrase_train.txt"
    if split == "test":
        return _read_unlabelled(GLUE[dataset_name], folder / name)
    if dataset_name == "mrpc" and original.exists() and not (folder / name).exists():
        return _read(task, original, folder / "dev_ids.tsv", split)
    return read_glue(dataset_name, folder / name)


def read_glue(dataset_name: str, path: Path) -> LabelledTexts:
    """One of a task's official files: tabs between columns, no quoting, UTF-8.

    Raises:
        DataError: with the file, the line and the fix.
    """
    return _read(GLUE[dataset_name], path)


def _read(task: GlueTask, path: Path, dev: Path | None = None, split: str = "") -> LabelledTexts:
    """Args: dev: MRPC's pairs of ids that GLUE put into its development set; `split` keeps those, or the others."""
    *text_columns, label_column = task.columns

    def read(add: Add) -> dict[str, Any]:
        ids = None if dev is None else _ids_of_dev(dev)
        short: list[int] | None = [] if task.leaves_out_short else None
        empty = True
        for number, row in read_tsv(path, task.columns, task.header, short):
            if ids is not None and ((row.get("#1 ID", ""), row.get("#2 ID", "")) in ids) != (split == "validation"):
                continue
            add([row[name] for name in text_columns], _label(task, row[label_column], f"{path}, line {number}"))
            empty = False
        if empty:
            names = "<TAB>".join(task.header or task.columns)
            raise DataError(f"{path} has no rows; {task.title}'s have the columns {names}.")
        return {"short": short}

    settings = {"glue": task.title, "split": split if dev else "labelled"}
    found = gather([path, dev] if dev else [path], settings, read)
    made = _make(task, found.columns, found.labels.tolist())
    if short := found.about["short"]:
        made.notes.append(f"{path}: {len(short)} lines have too few columns and are left out (the first: {short[0]}).")
    made.notes += found.notes
    return made


def _read_unlabelled(task: GlueTask, path: Path) -> LabelledTexts:
    """A test file: it has a header, CoLA's too, and no labels."""
    names = task.columns[:-1]

    def read(add: Add) -> dict[str, Any]:
        empty = True
        for _, row in read_tsv(path, names):
            add([row[name] for name in names], 0)
            empty = False
        if empty:
            raise DataError(f"{path} has no rows; {task.title}'s test file has the columns {', '.join(names)}.")
        return {}

    found = gather([path], {"glue": task.title, "split": "test"}, read)
    made = _make(task, found.columns, _unknown(task, len(found.labels)))
    made.notes += found.notes
    return made


def _unknown(task: GlueTask, count: int) -> list[int | float]:
    return [0.0 if task.label_names is None else 0] * count


def _label(task: GlueTask, text: str, where: str) -> int | float:
    if task.label_names is None:
        try:
            score = float(text)
        except ValueError:
            score = -1.0
        if not 0 <= score <= 5:
            raise DataError(f"{where}: the score is {text!r}; {task.title}'s are numbers from 0 to 5.")
        return score
    labels = task.labels or task.label_names
    if text not in labels:
        raise DataError(
            f"{where}: the label is {text!r}; {task.title}'s are {', '.join(labels[:-1])} and {labels[-1]}."
        )
    return labels.index(text)


def _make(task: GlueTask, columns: list[Sequence[str]], labels: list[int | float]) -> LabelledTexts:
    texts, *pairs = columns
    names = None if task.label_names is None else list(task.label_names)
    return LabelledTexts(texts, labels, names, pairs[0] if pairs else None)


def _ids_of_dev(path: Path) -> set[tuple[str, str]]:
    return {(row["first"], row["second"]) for _, row in read_tsv(path, (), header=("first", "second"))}


def _from_hub(task: GlueTask, dataset_name: str, split: str) -> LabelledTexts:
    if dataset_name == "mnli" and split in ("validation", "test"):
        split += "_matched"
    rows = load_from_hub(task.title, "nyu-mll/glue", dataset_name, split)
    columns = [column_of(rows, name) for name in task.hub_columns or task.columns[:-1]]
    labels = _unknown(task, len(columns[0])) if split.startswith("test") else list(rows["label"])
    return _make(task, columns, labels)
