"""What a tokenizer takes: lists of texts, each a string."""

from collections.abc import Iterable
from typing import Any

from fastprompt.errors import DataError


def check_texts(name: str, texts: Any, each: str = "row") -> list[str]:
    """`texts` as a list of strings.

    Args:
        name, each: what the caller calls them and one of them, for the message.

    Raises:
        DataError: they are one string, or no list, or one of them is no string (None, NaN, a number).
    """
    values = as_list(name, texts)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{name}: {each} {row} is {value!r}, not a text; leave it out, or write '' for no text.")
    return values


def check_words(name: str, sentences: Any) -> list[list[str]]:
    """`sentences`, each split into words already, as a list of lists of strings.

    Raises:
        DataError: a sentence is one string, or one of its words is none.
    """
    return [check_texts(f"{name} of row {row}", words, "word") for row, words in enumerate(as_list(name, sentences))]


def as_list(name: str, values: Any) -> list[Any]:
    """A column as a list: of a list, a tuple, an array, or whatever else is iterated in order.

    Raises:
        DataError: it is one string, which would be taken letter by letter, or is not iterated in an order.
    """
    if isinstance(values, list):
        return values
    if isinstance(values, str | bytes):
        raise DataError(f"{name} is one string, {values[:40]!r}; a list is expected: [text].")
    if isinstance(values, set | frozenset | dict) or not isinstance(values, Iterable):
        raise DataError(f"{name} is of the type {type(values).__name__}; a list is expected.")
    return values.tolist() if hasattr(values, "tolist") else list(values)
