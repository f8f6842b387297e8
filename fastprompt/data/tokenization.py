"""Token ids equal to transformers' AutoTokenizer's, without importing it: that imports torch under any backend."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastprompt.backbones.checkpoint import locate, read_json
from fastprompt.errors import CheckpointError

from tokenizers import BertWordPieceTokenizer
from tokenizers import Tokenizer as FastTokenizer


class Tokenizer:
    """A checkpoint's tokenizer.

    Attributes:
        pad_token_id: what padding is filled with.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "tokenizer_config.json"
        self._settings = read_json(path) if path.exists() else {}
        self._fast = _load(directory, self._settings)
        self._fast.no_padding()  # some checkpoints bring fixed lengths along
        self._fast.no_truncation()
        self.pad_token_id = self._find_pad(directory)

    def _find_pad(self, directory: Path) -> int:
        token = self._settings.get("pad_token", "[PAD]")
        token = token["content"] if isinstance(token, dict) else token
        found = self._fast.token_to_id(token) if token else None
        if found is None:
            config = directory / "config.json"
            found = read_json(config).get("pad_token_id") if config.exists() else None
        if found is None:
            raise CheckpointError(f"{directory} names no pad token; set pad_token in its tokenizer_config.json.")
        return found

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenise texts, or pairs of texts, with their special tokens.

        Args:
            max_length: cut to so many tokens, special ones included, the longer text of a pair first.

        Returns:
            One {"input_ids", "token_type_ids"} per text.
        """
        if max_length is not None:
            self._fast.enable_truncation(max_length)
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encoded = self._fast.encode_batch(inputs)
        self._fast.no_truncation()
        return [{"input_ids": e.ids, "token_type_ids": e.type_ids} for e in encoded]

    def windows(
        self, texts: Sequence[str], pairs: Sequence[str], max_length: int, stride: int
    ) -> list[list[dict[str, list[Any]]]]:
        """Tokenise pairs of texts, the second of each cut into overlapping windows.

        Args:
            max_length: tokens of a window, special ones and the whole first text included.
            stride: tokens of the second text that two neighbours share, as in transformers.

        Returns:
            The windows of each pair, each {"input_ids", "token_type_ids", "offsets", "sequence_ids"}: an offset is a
            token's first character and the one behind its last, in its own text; a sequence id is 0 or 1 for the text,
            None for a special token.
        """
        self._fast.enable_truncation(max_length, stride=stride, strategy="only_second")
        encoded = self._fast.encode_batch(list(zip(texts, pairs, strict=True)))
        self._fast.no_truncation()
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
        encoded = self._fast.encode_batch(list(texts), add_special_tokens=False)
        return [
            text[: e.offsets[max_length - 1][1]] if len(e.ids) > max_length else text
            for text, e in zip(texts, encoded, strict=True)
        ]

    def special_tokens_of_pair(self) -> int:
        """How many special tokens a pair of texts gets."""
        return self._fast.num_special_tokens_to_add(is_pair=True)

    def plain_ids(self, text: str) -> list[int]:
        """The ids of `text` without special tokens."""
        return self._fast.encode(text, add_special_tokens=False).ids


def _load(directory: Path, settings: dict) -> FastTokenizer:
    whole, words = directory / "tokenizer.json", directory / "vocab.txt"
    if whole.exists():
        try:
            return FastTokenizer.from_file(str(whole))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{whole} cannot be read ({error}); fetch it again.") from error
    if words.exists():  # BERT checkpoints of the first years
        lower = settings.get("do_lower_case", True)
        return BertWordPieceTokenizer(
            str(words),
            lowercase=lower,
            strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        )
    raise CheckpointError(
        f"{directory} has neither tokenizer.json nor vocab.txt; "
        f"AutoTokenizer.from_pretrained(...).save_pretrained(folder) writes the first."
    )


def load_tokenizer(name_or_path: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint's folder or hub id.

    Raises:
        CheckpointError: there is none that can be read without transformers.
    """
    return Tokenizer(locate(name_or_path))
