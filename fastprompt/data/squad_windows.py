"""SQuAD's questions as windows of tokens: the question, and as much of its context as fits beside it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastprompt.data.examples import SquadData, SquadQuestion
from fastprompt.data.packed import Column, PackedRows, in_chunks
from fastprompt.errors import ConfigError
from fastprompt.pretrained.tokenizer import Tokenizer

import numpy
import tokenizers

_CHUNK = 512  # questions tokenised together; an encoding takes far more memory than what is stored of it
STORED_FROM = 20_000  # questions: cutting so many takes several times as long as importing the cache's library


@dataclass(slots=True)
class Window:
    """One input: [CLS] question [SEP] part of the context [SEP].

    Attributes:
        question: the index of its question in the data.
        input_ids, token_type_ids: (T,).
        offsets: (T, 2) each token's first character in the context and the one after its last; -1 outside the
            context.
        start, end: first and last token of the first answer; 0, the first token, where the window does not hold all of
            it.
    """

    question: int
    input_ids: numpy.ndarray
    token_type_ids: numpy.ndarray
    offsets: numpy.ndarray
    start: int
    end: int


class StoredWindows(Sequence):
    """Windows that stay in their file until they are asked for.

    Args:
        rows: what `SquadWindows.rows` gives; and "questions", each window's, and "begins" and "ends", its offsets.
    """

    def __init__(self, rows: PackedRows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        row = self.rows[place]
        offsets = numpy.stack([row["begins"], row["ends"]], axis=1)
        ids, types = row["input_ids"], row["token_type_ids"]
        return Window(row["questions"], ids, types, offsets, row["start_positions"], row["end_positions"])


@dataclass
class SquadWindows:
    """What a model reads of a split.

    Attributes:
        windows: a list; `StoredWindows` where there are many.
        notes: what was cut on the way, for the user to read.
        text_settings: the options that they were made with.
    """

    data: SquadData
    windows: Sequence[Window]
    notes: list[str]
    text_settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.windows)

    def rows(self) -> list[dict[str, Any]]:
        """One {"input_ids", "token_type_ids", "start_positions", "end_positions", "window_ids"} per window."""
        return [_row(number, window) for number, window in enumerate(self.windows)]

    def share(self, rows: Sequence[dict[str, Any]]) -> None:
        """Let the windows have the same arrays as their packed rows, so that memory holds them once."""
        for window, row in zip(self.windows, rows, strict=True):
            window.input_ids, window.token_type_ids = row["input_ids"], row["token_type_ids"]


def _row(number: int, window: Window) -> dict[str, Any]:
    return {
        "input_ids": window.input_ids,
        "token_type_ids": window.token_type_ids,
        "start_positions": window.start,
        "end_positions": window.end,
        "window_ids": number,
    }


def make_windows(
    data: SquadData,
    tokenizer: Tokenizer,
    max_seq_length: int = 384,
    doc_stride: int | None = None,
    max_query_length: int = 64,
) -> SquadWindows:
    """Cut every question's context into windows of at most `max_seq_length` tokens.

    Args:
        doc_stride: tokens of the context that two neighbouring windows share; None for a third of `max_seq_length`,
            which is P-Tuning v2's 128 of 384.
        max_query_length: cut questions to so many tokens.

    Raises:
        ConfigError: beside the longest question there is no room for a context.
    """
    stride = max_seq_length // 3 if doc_stride is None else doc_stride
    room = max_seq_length - max_query_length - tokenizer.special_tokens_of_pair()
    if max_query_length < 1 or not 0 <= stride < room:
        raise ConfigError(
            f"max_seq_length {max_seq_length} leaves {room} tokens for the context beside a question of "
            f"max_query_length {max_query_length}; that must be more than doc_stride, which is {stride}."
        )
    settings = {"max_seq_length": max_seq_length, "doc_stride": stride, "max_query_length": max_query_length}
    notes: list[str] = []
    if len(data) >= STORED_FROM:
        found = _from_store(data, tokenizer, settings, notes)
        if found is not None:
            return SquadWindows(data, found, notes, settings)
    windows = list(_cut(data, tokenizer, **settings, notes=notes))
    return SquadWindows(data, windows, notes, settings)


def _from_store(
    data: SquadData, tokenizer: Tokenizer, settings: dict[str, Any], notes: list[str]
) -> StoredWindows | None:
    from fastprompt.data import store

    def write(add: Callable[[dict[str, Column]], None]) -> dict[str, list[str]]:
        found: list[str] = []
        windows = enumerate(_cut(data, tokenizer, **settings, notes=found))
        rows = (
            {**_row(number, window), "questions": window.question, "begins": begins, "ends": ends}
            for number, window in windows
            for begins, ends in [window.offsets.T]
        )
        for chunk in in_chunks(rows):
            add(chunk)
        return {"notes": found}

    key = {"data": data.identity, "tokenizer": tokenizer.fingerprint, **settings}
    entry = store.stored("windows", {**key, "tokenizers": tokenizers.__version__}, write, notes)
    if entry is None:
        return None
    notes += entry.about["notes"]
    return StoredWindows(PackedRows([store.unpacked(batch) for batch in entry.batches]))


def _cut(
    data: SquadData, tokenizer: Tokenizer, max_seq_length: int, doc_stride: int, max_query_length: int, notes: list[str]
) -> Iterator[Window]:
    """The windows of all questions; `notes` after the last."""
    cut = without_answer = 0
    for start in range(0, len(data.questions), _CHUNK):
        chunk = data.questions[start : start + _CHUNK]
        texts = [question.question.lstrip() for question in chunk]  # P-Tuning v2 does; some begin with many spaces
        shorter = tokenizer.cut(texts, max_query_length)
        cut += sum(a != b for a, b in zip(texts, shorter, strict=True))
        encoded = tokenizer.windows(shorter, [q.context for q in chunk], max_seq_length, doc_stride)
        for number, (question, parts) in enumerate(zip(chunk, encoded, strict=True), start):
            found = list(_windows_of(number, question, parts))
            without_answer += bool(question.answers) and not any(window.end for window in found)
            yield from found
    if cut:
        notes.append(f"{cut} of {len(data)} questions were cut to {max_query_length} tokens (max_query_length).")
    if without_answer:
        notes.append(
            f"{without_answer} of {len(data)} questions have no window that holds their answer; they teach no answer."
        )


def _windows_of(number: int, question: SquadQuestion, parts: list[dict[str, list[Any]]]) -> Iterator[Window]:
    for part in parts:
        offsets = numpy.array(part["offsets"], dtype="int32").reshape(-1, 2)
        offsets[[sequence != 1 for sequence in part["sequence_ids"]]] = -1
        start, end = _locate(question.answers[0], offsets) if question.answers else (0, 0)
        ids, types = (numpy.array(part[name], dtype="int32") for name in ("input_ids", "token_type_ids"))
        yield Window(number, ids, types, offsets, start, end)


def _locate(answer: tuple[str, int], offsets: numpy.ndarray) -> tuple[int, int]:
    """First and last token of an answer; (0, 0) where the window does not hold all of it."""
    text, first = answer
    last = first + len(text.rstrip())
    first += len(text) - len(text.lstrip())
    begins, ends = offsets.T
    inside = numpy.flatnonzero(begins >= 0)
    if not len(inside) or begins[inside[0]] > first or ends[inside[-1]] < last:
        return 0, 0
    # Neighbours may share a character whose bytes are tokens of their own.
    return int(inside[ends[inside] > first][0]), int(inside[begins[inside] < last][-1])
