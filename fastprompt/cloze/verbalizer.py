"""Verbalizers (Schick and Schuetze, 2021, arXiv:2001.07676): the words that stand for a label at a cloze's blank."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastprompt.errors import ConfigError

if TYPE_CHECKING:
    pass

Verbalizer = dict[str, list[str]]  # label -> its words


def read_verbalizer(text: str) -> Verbalizer:
    """A verbalizer from JSON text, or from the JSON file that `text` names.

    Raises:
        ConfigError: there is no such file, or it is no object of labels with their words.
    """
    source = "--verbalizer"
    if not text.lstrip().startswith("{"):
        source = text
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"--verbalizer {source} is neither JSON (an object of labels) nor a file of it."
            ) from error
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source} is no valid JSON ({error}).") from error
    return check_verbalizer(content)


def check_verbalizer(content: Any) -> Verbalizer:
    """`content` where it is a verbalizer; a label's single word may stand without a list.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(content, dict) or len(content) < 2:
        raise ConfigError('A verbalizer names the words of two labels or more: {"negative": ["bad"], "positive": ...}.')
    made = {label: [words] if isinstance(words, str) else words for label, words in content.items()}
    for label, words in made.items():
        if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
            raise ConfigError(f"verbalizer: the label {label!r} has {words!r}; give it one word or a list of words.")
    return made
