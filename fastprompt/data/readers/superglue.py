"""SuperGLUE's tasks but ReCoRD (Wang et al., 2019), from JSON lines or the hub, posed as P-Tuning v2 poses them."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fastprompt.data.examples import LabelledTexts, MultipleChoices
from fastprompt.data.readers.files import Record, find_split, read_json_lines
from fastprompt.data.readers.hub import load_from_hub
from fastprompt.errors import DataError

_TRUTH = ("False", "True")
_JOINERS = {"cause": "because", "effect": "so"}


@dataclass
class _Example:
    record: Record  # where the label stands
    text: str
    pair: str
    group: object = None


def _plain(text: str, pair: str) -> Callable[[Record], Iterator[_Example]]:
    """Two columns as they are."""

    def examples(row: Record) -> Iterator[_Example]:
        yield _Example(row, row.get(text, str), row.get(pair, str))

    return examples


def _wic(row: Record) -> Iterator[_Example]:
    """Each sentence after the word whose sense is asked for."""
    word = row.get("word", str)
    yield _Example(row, *(f"{word}: {row.get(name, str)}" for name in ("sentence1", "sentence2")))


def _wsc(row: Record) -> Iterator[_Example]:
    """The pronoun between asterisks; the second text is what it may stand for."""
    spans = row.child("target") if "target" in row.value else row  # the hub's rows are flat
    words, index = row.get("text", str).split(), spans.get("span2_index", int)
    if not 0 <= index < len(words):
        raise row.wrong(f"span2_index is {index}; the text has {len(words)} words")
    words[index] = f"*{words[index]}*"
    yield _Example(row, " ".join(words), spans.get("span1_text", str))


def _multirc(row: Record) -> Iterator[_Example]:
    """One example an answer, read after its question; all of a question's are one group."""
    if "passage" not in row.value:  # the hub's rows are one an answer
        index = row.child("idx")
        group = index.get("paragraph", int), index.get("question", int)
        pair = f"{row.get('question', str)} {row.get('answer', str)}"
        yield _Example(row, row.get("paragraph", str), pair, group)
        return
    passage = row.child("passage")
    for question in passage.items("questions"):
        for answer in question.items("answers"):
            pair = f"{question.get('question', str)} {answer.get('text', str)}"
            yield _Example(answer, passage.get("text", str), pair, question.trail)


@dataclass(frozen=True)
class SuperGlueTask:
    """Args: title: what people call it; label_names: its classes; columns: the keys of a row of its files; examples:
    those of one row."""

    title: str
    label_names: tuple[str, ...]
    columns: tuple[str, ...]
    examples: Callable[[Record], Iterator[_Example]]


_NLI = ("premise", "hypothesis")

SUPERGLUE = {
    "boolq": SuperGlueTask("BoolQ", _TRUTH, ("question", "passage", "label"), _plain("question", "passage")),
    "cb": SuperGlueTask("CB", ("entailment", "contradiction", "neutral"), (*_NLI, "label"), _plain(*_NLI)),
    "rte": SuperGlueTask("RTE", ("entailment", "not_entailment"), (*_NLI, "label"), _plain(*_NLI)),
    "wic": SuperGlueTask("WiC", _TRUTH, ("word", "sentence1", "sentence2", "label"), _wic),
    "wsc": SuperGlueTask("WSC", _TRUTH, ("text", "target", "label"), _wsc),
    "multirc": SuperGlueTask("MultiRC", _TRUTH, ("passage",), _multirc),
}
COPA_COLUMNS = ("premise", "question", "choice1", "choice2", "label")


def load_superglue(
    dataset_name: str, split: str, data_dir: str | Path | None = None
) -> LabelledTexts | MultipleChoices:
    """Split "train", "validation" or "test" of a task; COPA's are `MultipleChoices`. The labels of "test", which are
    not published, are 0.

    Args:
        data_dir: a folder with the task's official train.jsonl, val.jsonl and test.jsonl; None takes the hub's copy.

    Raises:
        DataError: a file or the hub cannot be read, or a row is not what the task's rows are.
    """
    if data_dir is None:
        title = "COPA" if dataset_name == "copa" else SUPERGLUE[dataset_name].title
        found = load_from_hub(title, "aps/super_glue", dataset_name, split, "refs/convert/parquet")
        rows = (Record(f"the hub's {title}", f"row {number}", row) for number, row in enumerate(found))
    else:
        rows = read_json_lines(find_split(data_dir, split, (".jsonl",)))
    labelled = split != "test"
    return (
        copa_from_rows(rows, labelled) if dataset_name == "copa" else superglue_from_rows(dataset_name, rows, labelled)
    )


def superglue_from_rows(dataset_name: str, rows: Iterable[Record], labelled: bool = True) -> LabelledTexts:
    """Pairs of texts from the rows of a task, MultiRC's with their questions as groups.

    Args:
        labelled: whether rows have a label; else it is 0.

    Raises:
        DataError: with the row and the fix.
    """
    task = SUPERGLUE[dataset_name]
    examples = [example for row in rows for example in task.examples(row)]
    if not examples:
        raise DataError(f"There are no rows of {task.title}; its files have one JSON object a line.")
    groups = {example.group: number for number, example in enumerate(examples)}
    return LabelledTexts(
        [example.text for example in examples],
        [_label(example.record, task.label_names) if labelled else 0 for example in examples],
        list(task.label_names),
        [example.pair for example in examples],
        [groups[example.group] for example in examples] if dataset_name == "multirc" else None,
    )


def _label(record: Record, names: tuple[str, ...]) -> int:
    """The class: a name, a truth value, or an index, as the hub and MultiRC write it."""
    label = record.get("label", str, bool, int)
    if isinstance(label, bool) and names == _TRUTH:
        return int(label)
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
        return label
    raise record.wrong(f"the label is {label!r}; there are {', '.join(names)}")


def copa_from_rows(rows: Iterable[Record], labelled: bool = True) -> MultipleChoices:
    """COPA (Roemmele et al., 2011): what is the premise's cause, or its effect? Choices are choice1, choice2, ...

    Args:
        labelled: whether rows have a label; else it is 0.

    Raises:
        DataError: with the row: other choices than the first row has, or a label that is none of them.
    """
    choices, labels = [], []
    for row in rows:
        relation = row.get("question", str)
        if relation not in _JOINERS:
            raise row.wrong(f"the question is {relation!r}; it is cause or effect")
        premise = f"{row.get('premise', str)} {_JOINERS[relation]}"
        count = next(number for number in itertools.count() if f"choice{number + 1}" not in row.value)
        if count < 2 or (choices and count != len(choices[0])):
            expected = f"the first row has {len(choices[0])}" if choices else "two or more are expected"
            raise row.wrong(f"it has {count} choices; {expected}")
        label = row.get("label", int) if labelled else 0
        if not 0 <= label < count:
            raise row.wrong(f"the label is {label}; there are {count} choices, counted from 0")
        choices.append([(premise, row.get(f"choice{number}", str)) for number in range(1, count + 1)])
        labels.append(label)
    if not choices:
        raise DataError("There are no rows of COPA; its files have one JSON object a line.")
    return MultipleChoices(choices, labels)
