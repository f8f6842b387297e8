"""Token ids equal to transformers' AutoTokenizer's, without importing it: that imports torch under any backend."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fastprompt.errors import CheckpointError, ConfigError, DataError
from fastprompt.pretrained.checkpoint import locate, read_json
from fastprompt.pretrained.families import family_of
from fastprompt.pretrained.texts import check_texts, check_words
from fastprompt.pretrained.tokenizer_files import content, load_fast, read_settings

from tokenizers import Tokenizer as FastTokenizer


class Tokenizer:
    """A checkpoint's tokenizer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._settings = read_settings(directory)
        self._fast = load_fast(directory, self._settings)
        self._fast.no_padding()  # some checkpoints bring fixed lengths along
        self._fast.no_truncation()

    @cached_property
    def pad_token_id(self) -> int:
        """What padding is filled with; 0 where a causal model's folder does not say, for it never sees padding.

        Raises:
            CheckpointError: nothing says it.
        """
        found = self._special("pad", "[PAD]")
        if found is None and family_of(self._config.get("model_type", "")).causal:
            found = 0
        if found is None:
            raise CheckpointError(f"{self._directory} names no pad token; set pad_token in its tokenizer_config.json.")
        return found

    @cached_property
    def empty_token_id(self) -> int:
        """What stands for a text without tokens where a vocabulary adds none around it (GPT-2, BLOOM, Qwen): the token
        that begins a text, with which transformers generates from nothing, else the one that ends it, else padding.

        Raises:
            CheckpointError: nothing says any of them.
        """
        found = next((i for i in map(self._special, ("bos", "eos", "pad")) if i is not None), None)
        if found is None:
            raise CheckpointError(
                f"A text has no tokens, and {self._directory} names no token to stand for it; leave such texts out, or "
                f"set bos_token in its tokenizer_config.json."
            )
        return found

    @cached_property
    def _config(self) -> dict[str, Any]:
        path = self._directory / "config.json"
        return read_json(path) if path.exists() else {}

    def _special(self, name: str, default: str = "") -> int | None:
        """The id of the "bos", "eos" or "pad" token that the tokenizer's settings name, or else config.json."""
        found = self._named(f"{name}_token", default)
        found = self._config.get(f"{name}_token_id") if found is None else found
        return found[0] if isinstance(found, list) else found

    def _named(self, name: str, default: str) -> int | None:
        """The id of a special token by its name in the folder's settings."""
        token = content(self._settings.get(name, default))
        return self._fast.token_to_id(token) if token else None

    def __call__(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        max_length: int | None = None,
        cut: list[int] | None = None,
    ) -> list[dict[str, list[int]]]:
        """Tokenise texts, or pairs of texts, with their special tokens.

        Args:
            max_length: cut to so many tokens, special ones included, the longer text of a pair first.
            cut: gets the indices of the texts of which tokens were cut off.

        Returns:
            One {"input_ids", "token_type_ids"} per text; see `empty_token_id` for a text without tokens.

        Raises:
            DataError: texts or pairs are one string instead of a list, or one of them is no string.
        """
        inputs: list[Any] = check_texts("texts", texts)
        if pairs is not None:
            inputs = _paired(inputs, check_texts("pairs", pairs))
        encoded = _encode(self._fast, inputs, max_length, offsets=False)
        if cut is not None:
            cut += [place for place, e in enumerate(encoded) if e.overflowing]
        return [self._row(e) for e in encoded]

    def _row(self, encoding: Any) -> dict[str, list[Any]]:
        """A row has one token at least."""
        if not encoding.ids:
            return {"input_ids": [self.empty_token_id], "token_type_ids": [0]}
        return {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}

    def words(
        self, sentences: Sequence[Sequence[str]], pairs: Sequence[Sequence[str]] | None, max_length: int
    ) -> list[dict[str, list[Any]]]:
        """Tokenise sentences that are split into words already, each word by itself as if a space stood before it.

        Args:
            pairs: second segments, split too; only the first is cut.

        Returns:
            One {"input_ids", "token_type_ids", "word_ids", "cut"} per sentence: which word of the first segment a token
            is part of, None for special tokens and the second segment; whether tokens were cut off. A word that leaves
            no token (a zero-width space, a control character) is in no row's word_ids.
        """
        inputs: list[Any] = check_words("words", sentences)
        if pairs is not None:
            inputs = _paired(inputs, check_words("pairs", pairs))
        strategy = "longest_first" if pairs is None else "only_first"
        encoded = _encode(self._of_words, inputs, max_length, strategy=strategy, is_pretokenized=True)
        return [
            {
                **self._row(e),
                "word_ids": [w if s == 0 else None for w, s in zip(e.word_ids, e.sequence_ids, strict=True)] or [None],
                "cut": bool(e.overflowing),
            }
            for e in encoded
        ]

    @cached_property
    def _of_words(self) -> FastTokenizer:
        """The same tokenizer, byte-level vocabularies with a space before every word."""
        state = json.loads(self._fast.to_str())

        def add_spaces(part: dict[str, Any] | None) -> None:
            if part and part["type"] == "ByteLevel":
                part["add_prefix_space"] = True
            for inner in (part or {}).get("pretokenizers", ()):
                add_spaces(inner)

        add_spaces(state["pre_tokenizer"])
        return FastTokenizer.from_str(json.dumps(state))

    def windows(
        self, texts: Sequence[str], pairs: Sequence[str], max_length: int, stride: int
    ) -> list[list[dict[str, list[Any]]]]:
        """Tokenise pairs of texts, the second of each cut into overlapping windows.

        Args:
            max_length: tokens of a window, special ones and the whole first text included.
            stride: tokens of the second text that two neighbours share, as in transformers.

        Returns:
            The windows of each pair, each {"input_ids", "token_type_ids", "offsets", "sequence_ids"}: an offset is a
            token's first character and the one after its last, in its own text; a sequence id is 0 or 1 for the text,
            None for a special token.
        """
        inputs = _paired(check_texts("texts", texts), check_texts("pairs", pairs))
        encoded = _encode(self._fast, inputs, max_length, stride=stride, strategy="only_second")
        return [
            [
                {
                    "input_ids": e.ids,
                    "token_type_ids": e.type_ids,
                    "offsets": e.offsets,
                    "sequence_ids": e.sequence_ids,
                }
                for e in (first, *first.overflowing)
            ]
            for first in encoded
        ]

    def cut(self, texts: Sequence[str], max_length: int) -> list[str]:
        """Each text up to its `max_length`th token, special ones not counted."""
        texts = check_texts("texts", texts)
        encoded = self._fast.encode_batch(texts, add_special_tokens=False)
        return [
            text[: e.offsets[max_length - 1][1]] if len(e.ids) > max_length else text
            for text, e in zip(texts, encoded, strict=True)
        ]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what ids depend on: the whole tokenizer with its settings, and the ids of its special tokens."""
        state = json.loads(self._fast.to_str())  # some of its maps are written in no order
        special = [self._special("bos"), self._special("eos"), self._special("pad", "[PAD]")]
        special.append(self._named("mask_token", "[MASK]"))
        return hashlib.sha256(json.dumps([state, special], sort_keys=True).encode()).hexdigest()

    def vocabulary(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return self._fast.get_vocab()

    def special_tokens_of_pair(self) -> int:
        """How many special tokens a pair of texts gets."""
        return self._fast.num_special_tokens_to_add(is_pair=True)

    def plain_ids(self, text: str) -> list[int]:
        """The ids of `text` without special tokens."""
        return self._fast.encode(text, add_special_tokens=False).ids

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text without special tokens."""
        return [e.ids for e in self._fast.encode_batch_fast(check_texts("texts", texts), add_special_tokens=False)]

    def special_tokens_around(self) -> tuple[list[int], list[int]]:
        """What a single text gets before it and after it."""
        encoded = self._fast.encode("a")
        special = encoded.special_tokens_mask
        return encoded.ids[: special.index(0)], encoded.ids[len(special) - special[::-1].index(0) :]

    @cached_property
    def mask_token_id(self) -> int:
        """Raises: CheckpointError: there is no such token, so that no blank can be written."""
        found = self._named("mask_token", "[MASK]")
        if found is None:
            raise CheckpointError("The tokenizer has no mask token to write a blank with; use a masked language model.")
        return found

    @cached_property
    def eos_token_id(self) -> int:
        """What ends an answer.

        Raises:
            CheckpointError: nothing says it.
        """
        found = self._special("eos")
        if found is None:
            raise CheckpointError(f"{self._directory} names no eos token; set eos_token in its tokenizer_config.json.")
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left off."""
        return self._fast.decode(list(ids))

    def pieces_of_word(self, word: str) -> list[str]:
        """The tokens of a word inside a text; the unknown token's name for what is none."""
        return self._fast.encode(f" {word.strip()}", add_special_tokens=False).tokens

    def id_of_word(self, word: str) -> int | None:
        """The id of the one token that is `word` inside a text; None where it takes several or is unknown."""
        ids = self.plain_ids(f" {word.strip()}")
        return ids[0] if len(ids) == 1 and ids[0] != self._unknown_id else None

    def words_of(self, ids: Sequence[int]) -> list[str]:
        """The tokens of ids, as they are read."""
        return [self._fast.decode([i], skip_special_tokens=False).strip() for i in ids]

    @cached_property
    def _unknown_id(self) -> int | None:
        return self._named("unk_token", "[UNK]")

    @cached_property
    def whole_words(self) -> list[int]:
        """The ids of all tokens that are one word, or one mark, each by itself."""
        special = {token["id"] for token in json.loads(self._fast.to_str())["added_tokens"] if token["special"]}
        ids = [i for i in range(self._fast.get_vocab_size()) if i not in special and i != self._unknown_id]
        again = self.plain([f" {word}" for word in self.words_of(ids)])
        return [i for i, found in zip(ids, again, strict=True) if found == [i]]


def _paired(texts: list[Any], pairs: list[Any]) -> list[tuple[Any, Any]]:
    if len(texts) != len(pairs):
        raise DataError(f"There are {len(texts)} texts and {len(pairs)} pairs; each text takes one.")
    return list(zip(texts, pairs, strict=True))


def _encode(
    fast: FastTokenizer,
    inputs: list[Any],
    max_length: int | None,
    is_pretokenized: bool = False,
    offsets: bool = True,
    **truncation: Any,
) -> list[Any]:
    if max_length is not None:
        fast.enable_truncation(max_length, **truncation)
    try:
        encode = fast.encode_batch if offsets else fast.encode_batch_fast
        return encode(inputs, is_pretokenized=is_pretokenized)
    except Exception as error:  # the library raises bare Exception
        raise ConfigError(f"The texts cannot be cut to max_seq_length {max_length} ({error}).") from error
    finally:
        fast.no_truncation()


def load_tokenizer(name_or_path: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint's folder or hub id.

    Raises:
        CheckpointError: there is none that can be read without transformers.
    """
    return Tokenizer(locate(name_or_path))
