"""What readers hand out: one dataclass per kind of task, each a split of a data set, checked."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastprompt.errors import DataError
from fastprompt.template import Template


def _first(values: list[Any] | None, count: int | None) -> list[Any] | None:
    return None if values is None else values[:count]


def _check_lengths(**columns: list[Any] | None) -> None:
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if len(set(lengths.values())) > 1:
        raise DataError(f"The columns have different lengths: {', '.join(f'{n} {k}' for k, n in lengths.items())}.")


def _check_classes(labels: Sequence[int], count: int) -> None:
    for row, label in enumerate(labels):
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < count:
            raise DataError(f"Row {row}: the label is {label!r}; classes are whole numbers from 0 to {count - 1}.")


@dataclass
class LabelledTexts:
    """Texts, or pairs of texts, each with a class or a number.

    Args:
        labels: class indices; numbers for a regression.
        label_names: the classes' names; None for a regression.
        pairs: the second texts.
        groups: which question each example answers, where they are scored together (MultiRC).
        notes: what was mended or left out on the way, for the user to read.

    Raises:
        DataError: columns of different lengths, or a label that is no class or no number.
    """

    texts: list[str]
    labels: list[int] | list[float]
    label_names: list[str] | None = field(default_factory=lambda: ["negative", "positive"])
    pairs: list[str] | None = None
    groups: list[int] | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_lengths(texts=self.texts, pairs=self.pairs, labels=self.labels, groups=self.groups)
        if self.label_names is not None:
            _check_classes(self.labels, len(self.label_names))
            return
        for row, label in enumerate(self.labels):
            if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
                raise DataError(f"Row {row}: the label is {label!r}; a regression wants numbers.")

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, count: int | None) -> "LabelledTexts":
        """The first `count` rows; all where it is None."""
        columns = {name: _first(getattr(self, name), count) for name in ("texts", "labels", "pairs", "groups")}
        return replace(self, **columns)


@dataclass
class ClozeTexts:
    """Texts that stand in a template with a blank, each with what belongs there.

    Args:
        labels: indices of a verbalizer's labels, or ids of words.
        template: as `fastprompt.template` says.

    Raises:
        DataError: columns of different lengths, or a label that is no index.
        ConfigError: the template has no blank or no place for the text, or two.
    """

    texts: list[str]
    labels: list[int]
    template: str
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_lengths(texts=self.texts, labels=self.labels)
        _check_classes(self.labels, sys.maxsize)
        Template(self.template)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass
class MultipleChoices:
    """Examples of which one choice is right.

    Args:
        choices: per example its choices, each a pair of texts (what is asked, what is answered).
        labels: the index of the right choice.

    Raises:
        DataError: columns of different lengths, different numbers of choices, or a label that is no choice.
    """

    choices: list[list[tuple[str, str]]]
    labels: list[int]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_lengths(choices=self.choices, labels=self.labels)
        for row, choices in enumerate(self.choices):
            if len(choices) != self.num_choices:
                raise DataError(f"Row {row} has {len(choices)} choices, the first row {self.num_choices}.")
        _check_classes(self.labels, self.num_choices)

    @property
    def num_choices(self) -> int:
        return len(self.choices[0]) if self.choices else 0

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int | None) -> "MultipleChoices":
        """The first `count` rows; all where it is None."""
        return replace(self, choices=self.choices[:count], labels=self.labels[:count])


@dataclass
class TaggedTokens:
    """Sentences of tokens (words), each with a tag.

    Args:
        tags: class indices, one a token.
        label_names: the tags' names.
        pairs: tokens of a second segment without tags: the predicate, in semantic role labelling.

    Raises:
        DataError: columns of different lengths, a sentence without tokens or with another number of tags, or a tag that
            is no class.
    """

    tokens: list[list[str]]
    tags: list[list[int]]
    label_names: list[str]
    pairs: list[list[str]] | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_lengths(tokens=self.tokens, tags=self.tags, pairs=self.pairs)
        for row, (tokens, tags) in enumerate(zip(self.tokens, self.tags, strict=True)):
            if not tokens or len(tokens) != len(tags):
                raise DataError(f"Row {row} has {len(tokens)} tokens and {len(tags)} tags.")
            _check_classes(tags, len(self.label_names))

    def __len__(self) -> int:
        return len(self.tokens)

    def head(self, count: int | None) -> "TaggedTokens":
        """The first `count` sentences; all where it is None."""
        return replace(self, **{name: _first(getattr(self, name), count) for name in ("tokens", "tags", "pairs")})
