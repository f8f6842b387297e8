"""What people have at hand, as examples: tables of texts and labels from anywhere, and tokenizers of transformers'."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastprompt.data.encoding import Encodable
from fastprompt.data.examples import LabelledTexts
from fastprompt.data.stored_texts import column_of
from fastprompt.errors import CheckpointError, DataError
from fastprompt.methods.checks import numbered_labels, plain
from fastprompt.pretrained.tokenizer import Tokenizer, load_tokenizer

# the columns of a text alone, or of a text and its pair; GLUE's and SuperGLUE's names among them
_TEXTS = (
    *(("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2")),
    *(("question", "sentence"), ("text",), ("sentence",)),
)
_LABELS = ("label", "labels", "target")
_FIX = "make fastprompt.data.examples.LabelledTexts(texts, labels, label_names, pairs) of it"


def as_examples(data: Any, label_names: Sequence[str] | None = None, regression: bool = False) -> Encodable:
    """The examples that `data` holds.

    Args:
        data: examples already; or a `datasets.Dataset`, a fastNLP `DataSet`, a pandas `DataFrame`, a dict of columns or
            a list of dicts, with a column of texts (and one of pairs) and one of labels; or a list of (text, label) or
            (text, pair, label).
        label_names: the model's, by which labels that are names are looked up.
        regression: whether whole numbers are numbers too, and not classes.

    Raises:
        DataError: nothing says which texts and labels are meant.
    """
    if isinstance(data, Encodable):
        return data
    columns = _columns(data)
    if "input_ids" in columns:
        raise DataError(
            "The data hold token ids already; give the texts, or hand these rows to a loader with transformers' "
            "DataCollatorWithPadding, whose batches fastNLP's Trainer takes."
        )
    texts = next((names for names in _TEXTS if all(name in columns for name in names)), None)
    labels = next((name for name in _LABELS if name in columns), None)
    if texts is None or labels is None:
        what = "texts" if texts is None else "labels"
        raise DataError(f"No column of {', '.join(map(str, columns)) or 'none'} is known to hold the {what}; {_FIX}.")
    found = [columns[name] for name in texts]
    values = [plain(value) for value in columns[labels]]
    if regression or any(isinstance(value, float) for value in values):
        return LabelledTexts(found[0], values, None, *found[1:])
    names = _names_in(data, labels)
    if names and label_names and sorted(names) == sorted(label_names):  # the model's order is what its head has
        values, names = [names[value] for value in values], label_names
    names = names or label_names
    if any(isinstance(value, str) for value in values):
        values = _looked_up(values, names)
    return LabelledTexts(found[0], values, names or _numbered(values), *found[1:])


def as_tokenizer(given: Any) -> Tokenizer:
    """The tokenizer that `given` is or names, or that has the vocabulary of transformers' one.

    Raises:
        DataError: transformers' has another vocabulary than its folder, or it is no tokenizer at all.
        CheckpointError: there is no tokenizer in the folder.
    """
    if isinstance(given, Tokenizer):
        return given
    if isinstance(given, str | Path):
        return load_tokenizer(given)
    if not hasattr(given, "name_or_path") or not hasattr(given, "get_vocab"):
        raise DataError(f"tokenizer is of the type {type(given).__name__}; give fp.load_tokenizer(model).")
    fix = "save it by its save_pretrained(folder) and give fp.load_tokenizer(folder)"
    try:
        own = load_tokenizer(given.name_or_path)
    except CheckpointError as error:
        raise DataError(f"{type(given).__name__} names no folder that can be read ({error}); {fix}.") from error
    if own.vocabulary() != given.get_vocab():
        raise DataError(f"{type(given).__name__} has other tokens than {given.name_or_path}; {fix}.")
    return own


def _columns(data: Any) -> dict[Any, Sequence[Any]]:
    several = isinstance(data, dict) and any(hasattr(part, "column_names") for part in data.values())
    if several or hasattr(data, "get_dataset"):
        raise DataError(f"{type(data).__name__} holds several data sets; give one of them, such as its 'train'.")
    if isinstance(data, dict):
        return {name: list(values) for name, values in data.items()}
    if hasattr(data, "get_all_fields"):  # fastNLP
        return {name: list(field.content) for name, field in data.get_all_fields().items()}
    names = getattr(data, "column_names", getattr(data, "columns", None))  # datasets, pandas
    if names is not None:
        return {name: column_of(data, name) for name in names}
    if not isinstance(data, list | tuple):
        raise DataError(f"data is of the type {type(data).__name__}, which nothing is known of; {_FIX}.")
    return _columns_of_rows(data)


def _columns_of_rows(rows: Sequence[Any]) -> dict[str, list[Any]]:
    if not rows:
        raise DataError("data is empty; give a row or more.")
    first = rows[0]
    if isinstance(first, dict):
        names = list(first)
        rows = [[row.get(name) for name in names] if isinstance(row, dict) else None for row in rows]
    else:
        known = {2: ["text", "label"], 3: ["text", "text_pair", "label"]}
        names = known.get(len(first)) if isinstance(first, list | tuple) else None
    if names is None:
        raise DataError(f"A row is {first!r}; rows are (text, label), (text, pair, label) or dicts of columns.")
    for place, row in enumerate(rows):
        if not isinstance(row, list | tuple) or len(row) != len(names):
            raise DataError(f"Row {place} has not the columns of the first row, {', '.join(map(str, names))}.")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _names_in(data: Any, column: str) -> Sequence[str] | None:
    """The names of the classes that a `datasets.Dataset` says."""
    features = getattr(data, "features", None)
    return getattr(features[column], "names", None) if hasattr(features, "keys") and column in features else None


def _looked_up(values: list[Any], names: Sequence[str] | None) -> list[int]:
    if not names:
        raise DataError(f"The labels are names, such as {values[0]!r}, and nothing says their order; give model=.")
    places = {name: place for place, name in enumerate(names)}
    for row, value in enumerate(values):
        if value not in places:
            raise DataError(f"Row {row}: the label is {value!r}; there are {', '.join(names)}.")
    return [places[value] for value in values]


def _numbered(values: list[Any]) -> list[str]:
    count = max((value for value in values if isinstance(value, int)), default=0) + 1
    return numbered_labels(max(count, 2))
