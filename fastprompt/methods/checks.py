"""Checks of values that a caller gives; each raises a ConfigError that names the option."""

import math
from typing import Any

from fastprompt.errors import ConfigError

import numpy


def plain(value: Any) -> Any:
    """A value of NumPy's as Python's own, which JSON has a form for; any other as it is."""
    return value.tolist() if isinstance(value, numpy.generic | numpy.ndarray) else value


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """`value` as Python's int, from `least` on."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} is {value!r}; it is a whole number from {least} on.")
    return value


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; it is one of {', '.join(allowed)}.")


def some_of(name: str, values: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """`values` in the order of `allowed`."""
    if not isinstance(values, list | tuple) or not values or len(set(values)) < len(values):
        raise ConfigError(f"{name} is {values!r}; it holds one or more of {', '.join(allowed)}, each once.")
    for value in values:
        one_of(name, value, allowed)
    return tuple(value for value in allowed if value in values)


def probability(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value < 1:
        raise ConfigError(f"{name} is {value!r}; it lies from 0 up to, but not including, 1.")


def positive(name: str, value: Any) -> None:
    if not _is_number(value) or not value > 0:
        raise ConfigError(f"{name} is {value!r}; it must be above 0.")


def not_negative(name: str, value: Any) -> None:
    if not _is_number(value) or value < 0:
        raise ConfigError(f"{name} is {value!r}; it must be 0 or above.")


def share(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value!r}; it lies between 0 and 1.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def label_names(names: Any) -> list[str]:
    """Names of classes in order of their indices, as texts.

    Args:
        names: a list, a tuple or an array of texts or whole numbers; or a dict between indices and names, as the
            id2label and label2id of transformers' configurations.
    """
    if isinstance(names, dict):
        names = _in_order(names)
    if isinstance(names, str | set | frozenset) or not hasattr(names, "__iter__"):
        raise ConfigError(f"label_names is {names!r}; it is a list of names in order of their indices.")
    made = [plain(name) for name in names]
    for name in made:
        if not isinstance(name, str | int):
            raise ConfigError(f"label_names holds {name!r}; a name is a text.")
    made = [str(name) for name in made]
    if twice := [name for place, name in enumerate(made) if name in made[:place]]:
        raise ConfigError(f"label_names holds {twice[0]!r} twice; each class has a name of its own.")
    return made


def numbered_labels(count: int) -> list[str]:
    """The names of classes that have none, as transformers gives them."""
    return [f"LABEL_{index}" for index in range(count)]


def _in_order(names: dict[Any, Any]) -> list[Any]:
    """The names of a dict index -> name, or name -> index."""
    found = []
    for indices, others in ((list(names), list(names.values())), (list(names.values()), list(names))):
        read = [int(i) if isinstance(i, str) and i.isdecimal() else plain(i) for i in indices]
        if sorted(map(repr, read)) == sorted(map(repr, range(len(names)))):
            found.append([name for _, name in sorted(zip(read, others, strict=True), key=lambda pair: pair[0])])
    if not found or any(other != found[0] for other in found):
        raise ConfigError(f"label_names is {names!r}; give a list of names in order of their indices.")
    return found[0]


def check_init(init: str, text: str | None, allowed: tuple[str, ...]) -> None:
    one_of("init", init, allowed)
    if (init == "text") != bool(text):
        raise ConfigError("init_text goes with init='text', and init='text' needs it.")
