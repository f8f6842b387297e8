"""Checks of a configuration's values; each raises a ConfigError that names the option."""

from typing import Any

from fastprompt.errors import ConfigError


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


def at_least_one(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} is {value!r}; it is a whole number from 1 on.")


def probability(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} is {value!r}; it lies from 0 up to, but not including, 1.")


def positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} is {value!r}; it must be above 0.")


def check_init(init: str, text: str | None, known: tuple[str, ...]) -> None:
    one_of("init", init, known)
    if (init == "text") != bool(text):
        raise ConfigError("init_text goes with init='text', and init='text' needs it.")
