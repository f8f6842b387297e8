"""What a head's outputs stand for: how many there are, their names, and whether they are classes or numbers."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from fastprompt.errors import ConfigError
from fastprompt.methods.checks import numbered_labels

CLASSES, LABELS, NUMBERS = PROBLEM_TYPES = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)  # transformers' names


class Outputs(NamedTuple):
    """The names of a head's outputs in order of their indices, and sequence classification's problem_type."""

    label_names: list[str]
    problem_type: str | None = None


def problem_type_of(problem_type: str | None, num_labels: int | None) -> str:
    """`problem_type`, or what `num_labels` says where it is None: one output is a number, more are classes.

    Raises:
        ConfigError: there is no such type, or one class.
    """
    if problem_type is None:
        return NUMBERS if num_labels == 1 else CLASSES
    if problem_type not in PROBLEM_TYPES:
        raise ConfigError(f"problem_type is {problem_type!r}; it is one of {', '.join(PROBLEM_TYPES)}.")
    if problem_type == CLASSES and num_labels == 1:
        raise ConfigError("num_labels is 1, and one class distinguishes nothing; use 2, or problem_type='regression'.")
    return problem_type


def label_names_of(num_labels: int | None, label_names: list[str] | None, default: int) -> list[str]:
    """The outputs' names, "LABEL_<index>" where none are given.

    Args:
        default: how many there are where neither their number nor their names are given.

    Raises:
        ConfigError: number and names differ.
    """
    if num_labels is None:
        num_labels = len(label_names) if label_names else default
    if label_names is None:
        label_names = numbered_labels(num_labels)
    if len(label_names) != num_labels:
        raise ConfigError(f"num_labels is {num_labels}, but there are {len(label_names)} label names.")
    return list(label_names)


class ModelOutput(dict):
    """What calling a model returns: as transformers' ModelOutput a dict of what there is, whose values are attributes
    too and, by their places, items; an attribute that there is nothing for is None.

    loss is a scalar or None; logits are (B, num_labels), of tokens (B, T, num_labels), of choices (B, choices);
    hidden_states are those after the embeddings and after every layer, each (B, T, hidden), where they were asked for.

    Args:
        loss: or a mapping with all of them, which is how libraries that move or cast a batch make it again.
    """

    fields: ClassVar[tuple[str, ...]] = ("loss", "logits", "hidden_states")

    def __init__(self, loss: Any = None, logits: Any = None, hidden_states: list[Any] | None = None) -> None:
        given = loss if isinstance(loss, Mapping) else {"loss": loss, "logits": logits, "hidden_states": hidden_states}
        super().__init__({name: value for name, value in given.items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        if name in type(self).fields:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; it has {', '.join(type(self).fields)}.")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that there are, without their names."""
        return tuple(self.values())
