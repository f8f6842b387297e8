"""Clozes as token ids: what templates and verbalizers are to a tokenizer."""

from typing import TYPE_CHECKING

from fastprompt.cloze.verbalizer import Verbalizer
from fastprompt.errors import ConfigError

if TYPE_CHECKING:
    from fastprompt.pretrained.tokenizer import Tokenizer


def word_ids(verbalizer: Verbalizer, tokenizer: "Tokenizer") -> list[list[int]]:
    """The vocabulary's ids of each label's words.

    Raises:
        ConfigError: a word is several tokens, or none of the vocabulary's.
    """
    ids = []
    for label, words in verbalizer.items():
        ids.append([tokenizer.id_of_word(word) for word in words])
        for word, found in zip(words, ids[-1], strict=True):
            if found is None:
                pieces = tokenizer.pieces_of_word(word)
                reason = f"is {len(pieces)} tokens ({' '.join(pieces)})" if len(pieces) > 1 else "is unknown"
                raise ConfigError(
                    f"verbalizer: {word!r} of the label {label!r} {reason} to this model's vocabulary; "
                    f"choose a word that is one token of it."
                )
    return ids
