"""What readers hand out: one dataclass per kind of task, each a split of a data set, checked."""

import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

from fastprompt.cloze.template import Template
from fastprompt.data.chat import write_instruction
from fastprompt.data.packed import CHUNK
from fastprompt.data.stored_texts import StoredTexts
from fastprompt.errors import DataError
from fastprompt.methods.checks import label_names, plain
from fastprompt.pretrained.texts import as_list, check_texts, check_words

_Data = TypeVar("_Data", bound="Selectable")


class Selectable:
    """A data class whose `columns` hold one value per example each, or are None."""

    columns: ClassVar[tuple[str, ...]]

    def __len__(self) -> int:
        return len(getattr(self, self.columns[0]))

    @property
    def fingerprint(self) -> str:
        """A hash of all examples, and of the names of their labels."""
        digest = hashlib.sha256(repr(getattr(self, "label_names", None)).encode())
        for name in self.columns:
            digest.update(f"\n{name}".encode())
            _add_values(digest, getattr(self, name) or ())
        return digest.hexdigest()[:16]

    @property
    def identity(self) -> dict[str, str]:
        """What its rows of tokens depend on: its kind, a hash of each column, and what else it says."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "notes"}
        hashes = {name: _hash(v) if name in self.columns and v is not None else repr(v) for name, v in values.items()}
        return {"kind": type(self).__name__, **hashes}

    @property
    def text_settings(self) -> dict[str, Any]:
        """By what options beside max_seq_length their texts become tokens; see `saving.prompt_file.TEXT_SETTINGS`."""
        return {}

    def select(self: _Data, places: Sequence[int]) -> _Data:
        """The examples at `places`, in that order."""
        picked = {name: getattr(self, name) for name in self.columns}
        return replace(self, **{name: v if v is None else _picked(v, places) for name, v in picked.items()})

    def head(self: _Data, count: int | None) -> _Data:
        """The first `count` examples; all where it is None."""
        return self if count is None else self.select(range(min(count, len(self))))


def _picked(column: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    return column.select(places) if isinstance(column, StoredTexts) else [column[place] for place in places]


def _texts(name: str, texts: Any) -> Sequence[str]:
    return texts if isinstance(texts, StoredTexts) else check_texts(name, texts)


def _add_values(digest: Any, values: Sequence[Any]) -> None:
    for start in range(0, len(values), CHUNK):
        lines = "".join(f"\n{value!r}" for value in values[start : start + CHUNK])
        digest.update(lines.encode("utf-8", "surrogatepass"))


def _hash(column: Sequence[Any]) -> str:
    if isinstance(column, StoredTexts):
        return column.digest
    digest = hashlib.sha256()
    _add_values(digest, column)
    return digest.hexdigest()


def _check_lengths(**columns: list[Any] | None) -> None:
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if len(set(lengths.values())) > 1:
        raise DataError(f"The columns have different lengths: {', '.join(f'{n} {k}' for k, n in lengths.items())}.")


def _classes(labels: Any, count: int) -> list[int]:
    """Class indices as Python's ints.

    Raises:
        DataError: one is no whole number from 0 to `count` - 1.
    """
    made = [plain(label) for label in as_list("labels", labels)]
    for row, label in enumerate(made):
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < count:
            raise DataError(f"Row {row}: the label is {label!r}; classes are whole numbers from 0 to {count - 1}.")
    return made


def _numbers(labels: Any) -> list[float]:
    """Raises: DataError: one is no finite number."""
    made = [plain(label) for label in as_list("labels", labels)]
    for row, label in enumerate(made):
        if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
            raise DataError(f"Row {row}: the label is {label!r}; a regression takes numbers.")
    return made


@dataclass
class LabelledTexts(Selectable):
    """Texts, or pairs of texts, each with a class or a number.

    Args:
        labels: class indices; numbers for a regression.
        label_names: the classes' names; None for a regression.
        pairs: the second texts.
        groups: which question each example answers, where they are scored together (MultiRC).
        notes: what was fixed or left out on the way, for the user to read.

    Columns are lists, tuples or arrays, or of texts `StoredTexts`. `label_names` may also be a dict between indices and
    names.

    Raises:
        DataError: columns of different lengths, a text that is no string, or a label that is no class or no number.
    """

    columns = ("texts", "labels", "pairs", "groups")

    texts: Sequence[str]
    labels: list[int] | list[float]
    label_names: list[str] | None = field(default_factory=lambda: ["negative", "positive"])
    pairs: Sequence[str] | None = None
    groups: list[int] | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts = _texts("texts", self.texts)
        self.pairs = None if self.pairs is None else _texts("pairs", self.pairs)
        self.groups = None if self.groups is None else as_list("groups", self.groups)
        if self.label_names is None:
            self.labels = _numbers(self.labels)
        else:
            self.label_names = label_names(self.label_names)
            self.labels = _classes(self.labels, len(self.label_names))
        _check_lengths(texts=self.texts, pairs=self.pairs, labels=self.labels, groups=self.groups)


@dataclass
class ClozeTexts(Selectable):
    """Texts that stand in a template with a blank, each with what belongs there.

    Args:
        labels: indices of a verbalizer's labels, or ids of words.
        template: as `fastprompt.cloze.template` says.
        causal: whether they are for a causal model, which reads up to the blank.

    Raises:
        DataError: columns of different lengths, or a label that is no index.
        ConfigError: the template has no blank or no place for the text, or two, or for a causal model words after it.
    """

    columns = ("texts", "labels")
    texts: Sequence[str]
    labels: list[int]
    template: str
    causal: bool = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts, self.labels = _texts("texts", self.texts), _classes(self.labels, sys.maxsize)
        _check_lengths(texts=self.texts, labels=self.labels)
        template = Template(self.template)
        if self.causal:
            template.check_blank_is_last()


@dataclass
class MultipleChoices(Selectable):
    """Examples of which one choice is right.

    Args:
        choices: per example its choices, each a pair of texts (what is asked, what is answered).
        labels: the index of the right choice.

    Raises:
        DataError: columns of different lengths, different numbers of choices, or a label that is no choice.
    """

    columns = ("choices", "labels")

    choices: list[list[tuple[str, str]]]
    labels: list[int]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_lengths(choices=self.choices, labels=self.labels)
        for row, choices in enumerate(self.choices):
            if len(choices) != self.num_choices:
                raise DataError(f"Row {row} has {len(choices)} choices, the first row {self.num_choices}.")
            for choice in choices:
                check_texts(f"choices of row {row}", choice, "text")
        self.labels = _classes(self.labels, self.num_choices)

    @property
    def num_choices(self) -> int:
        return len(self.choices[0]) if self.choices else 0


@dataclass
class TaggedTokens(Selectable):
    """Sentences of tokens (words), each with a tag.

    Args:
        tags: class indices, one a token.
        label_names: the tags' names.
        pairs: tokens of a second segment without tags: the predicate, in semantic role labelling.

    Raises:
        DataError: columns of different lengths, a sentence without tokens or with another number of tags, or a tag that
            is no class.
    """

    columns = ("tokens", "tags", "pairs")

    tokens: list[list[str]]
    tags: list[list[int]]
    label_names: list[str]
    pairs: list[list[str]] | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_lengths(tokens=self.tokens, tags=self.tags, pairs=self.pairs)
        self.label_names = label_names(self.label_names)
        self.tokens = check_words("tokens", self.tokens)
        self.pairs = None if self.pairs is None else check_words("pairs", self.pairs)
        self.tags = [_classes(tags, len(self.label_names)) for tags in self.tags]
        for row, (tokens, tags) in enumerate(zip(self.tokens, self.tags, strict=True)):
            if not tokens or len(tokens) != len(tags):
                raise DataError(f"Row {row} has {len(tokens)} tokens and {len(tags)} tags.")


@dataclass
class Instructions(Selectable):
    """Instructions with their answers.

    Args:
        contexts: what an instruction is about; "" for none.
        template: how they are written, one of `chat.CHAT_TEMPLATES`.

    Raises:
        DataError: columns of different lengths.
    """

    columns = ("instructions", "contexts", "outputs")

    instructions: Sequence[str]
    contexts: Sequence[str]
    outputs: Sequence[str]
    template: str
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in self.columns:
            setattr(self, name, _texts(name, getattr(self, name)))
        _check_lengths(instructions=self.instructions, contexts=self.contexts, outputs=self.outputs)

    @property
    def text_settings(self) -> dict[str, Any]:
        return {"chat_template": self.template}

    def written(self, part: slice = slice(None)) -> list[str]:
        """What stands before each answer of `part`."""
        pairs = zip(self.instructions[part], self.contexts[part], strict=True)
        return [write_instruction(self.template, instruction, context) for instruction, context in pairs]

    def as_text_to_text(self) -> "TextToText":
        """The same for an encoder-decoder."""
        return TextToText(self.written(), self.outputs, self.template)


@dataclass
class TextToText(Selectable):
    """Texts, each with what an encoder-decoder is to write.

    Args:
        template: how they were written of instructions, one of `chat.CHAT_TEMPLATES`; None for other texts.

    Raises:
        DataError: columns of different lengths.
    """

    columns = ("texts", "outputs")

    texts: Sequence[str]
    outputs: Sequence[str]
    template: str | None = None

    def __post_init__(self) -> None:
        self.texts, self.outputs = _texts("texts", self.texts), _texts("outputs", self.outputs)
        _check_lengths(texts=self.texts, outputs=self.outputs)

    @property
    def text_settings(self) -> dict[str, Any]:
        return {} if self.template is None else {"chat_template": self.template}


@dataclass
class SquadQuestion:
    """A question and its answers as (text, first character in the context).

    Only a question of SQuAD 2.0 that cannot be answered has none.
    """

    id: str
    question: str
    context: str
    answers: list[tuple[str, int]]


@dataclass
class SquadData(Selectable):
    """A split of SQuAD.

    Attributes:
        version_2: whether questions may have no answer.
        notes: what was fixed on the way, for the user to read.
    """

    columns = ("questions",)

    questions: list[SquadQuestion]
    version_2: bool
    notes: list[str] = field(default_factory=list)
