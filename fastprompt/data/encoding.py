"""Examples -> rows of token ids, one a model's input, for each kind of task."""

from collections.abc import Collection
from functools import singledispatch
from typing import Any

from fastprompt.cloze.template import Template
from fastprompt.data.examples import (
    ClozeTexts,
    Instructions,
    LabelledTexts,
    MultipleChoices,
    TaggedTokens,
    TextToText,
)
from fastprompt.data.squad_windows import SquadWindows
from fastprompt.errors import DataError
from fastprompt.pretrained.tokenizer import Tokenizer

Encodable = LabelledTexts | ClozeTexts | MultipleChoices | TaggedTokens | SquadWindows | Instructions | TextToText
IGNORE_INDEX = -100  # the label of what does not count, as in torch and transformers
READ = -1  # in "unread_tags": this word has a token, whose label is its tag


@singledispatch
def encode(data: Any, tokenizer: Tokenizer, max_length: int, notes: list[str] | None = None) -> list[dict[str, Any]]:
    """One row per example: "input_ids" and "token_type_ids", cut to `max_length` tokens, and what is learnt.

    - `LabelledTexts`: "labels", a class or a float; "groups" where there are some.
    - `ClozeTexts`: what `Template.lay_out` makes; "labels".
    - `MultipleChoices`: ids of every choice, a list of lists; "labels".
    - `TaggedTokens`: "labels", one a token: a word's tag at its first token, -100 elsewhere. Where words of the data
      have no token in their rows, all rows have "unread_tags", one a word: its tag, or READ where it has one.
    - `Instructions`: no "token_type_ids"; "labels", the answer's tokens and the one that ends it, -100 before them.
    - `TextToText`: no "token_type_ids"; "labels", the output's tokens and the one that ends it.
    - `SquadWindows`: see its `rows`; they were cut when they were made.

    Args:
        notes: gets a line about what is cut or left out.
    """
    raise TypeError(f"{type(data).__name__} is no data set.")


def _note_cuts(notes: list[str] | None, cut: Collection[int], count: int, what: str, max_length: int) -> None:
    if cut and notes is not None:
        notes.append(f"{len(cut)} of {count} {what} are cut to {max_length} tokens (max_seq_length).")


@encode.register
def _texts(
    data: LabelledTexts, tokenizer: Tokenizer, max_length: int, notes: list[str] | None = None
) -> list[dict[str, Any]]:
    cut: list[int] = []
    rows = tokenizer(data.texts, data.pairs, max_length, cut)
    _note_cuts(notes, cut, len(data), "texts" if data.pairs is None else "pairs of texts", max_length)
    kind = float if data.label_names is None else int
    rows = [{**row, "labels": kind(label)} for row, label in zip(rows, data.labels, strict=True)]
    if data.groups is not None:
        rows = [{**row, "groups": group} for row, group in zip(rows, data.groups, strict=True)]
    return rows


@encode.register
def _blanks(
    data: ClozeTexts, tokenizer: Tokenizer, max_length: int, notes: list[str] | None = None
) -> list[dict[str, Any]]:
    cut: list[int] = []
    rows = Template(data.template).lay_out(data.texts, tokenizer, max_length, data.causal, cut)
    _note_cuts(notes, cut, len(data), "texts in the template", max_length)
    return [{**row, "labels": label} for row, label in zip(rows, data.labels, strict=True)]


@encode.register
def _choices(
    data: MultipleChoices, tokenizer: Tokenizer, max_length: int, notes: list[str] | None = None
) -> list[dict[str, Any]]:
    texts, pairs = zip(*(choice for choices in data.choices for choice in choices), strict=True)
    cut: list[int] = []
    flat = iter(tokenizer(texts, pairs, max_length, cut))
    _note_cuts(notes, {place // data.num_choices for place in cut}, len(data), "examples with choices", max_length)
    rows = []
    for label in data.labels:
        choices = [next(flat) for _ in range(data.num_choices)]
        rows.append({name: [choice[name] for choice in choices] for name in choices[0]} | {"labels": label})
    return rows


@encode.register
def _tokens(
    data: TaggedTokens, tokenizer: Tokenizer, max_length: int, notes: list[str] | None = None
) -> list[dict[str, Any]]:
    rows, unread, cut, empty = [], [], 0, 0
    for row, tags in zip(tokenizer.words(data.tokens, data.pairs, max_length), data.tags, strict=True):
        words = enumerate(row["word_ids"])
        first = {word: position for position, word in reversed(list(words)) if word is not None}
        labels = [IGNORE_INDEX] * len(row["input_ids"])
        for word, position in first.items():
            labels[position] = tags[word]
        rows.append({**{name: row[name] for name in ("input_ids", "token_type_ids")}, "labels": labels})
        unread.append([READ if word in first else tag for word, tag in enumerate(tags)])
        behind = len(tags) - 1 - max(first, default=-1) if row["cut"] else 0
        cut += behind
        empty += len(tags) - len(first) - behind
    if not cut + empty:
        return rows
    if notes is not None:
        reasons = [f"{cut} are cut off after {max_length} tokens (max_seq_length)"] * bool(cut)
        reasons += [f"{empty} have no token of this vocabulary"] * bool(empty)
        count = sum(tag != READ for tags in unread for tag in tags)
        sentences = sum(any(tag != READ for tag in tags) for tags in unread)
        notes.append(
            f"{count} words of {sentences} in {len(data)} sentences are not read ({', '.join(reasons)}); "
            f"they are not learnt and get no tag, and entity_f1 takes O as their prediction."
        )
    return [{**row, "unread_tags": tags} for row, tags in zip(rows, unread, strict=True)]


@encode.register
def _windows(
    data: SquadWindows, tokenizer: Tokenizer, max_length: int, notes: list[str] | None = None
) -> list[dict[str, Any]]:
    if notes is not None:
        notes += data.notes
    return data.rows()


@encode.register
def _instructions(
    data: Instructions, tokenizer: Tokenizer, max_length: int, notes: list[str] | None = None
) -> list[dict[str, Any]]:
    rows, cut, lost = [], 0, 0
    start, _ = tokenizer.special_tokens_around()
    for asked, answer in zip(tokenizer.plain(data.written()), tokenizer.plain(data.outputs), strict=True):
        asked, answer = start + asked, [*answer, tokenizer.eos_token_id]
        cut += len(asked) < max_length < len(asked) + len(answer)
        lost += len(asked) >= max_length
        if len(asked) < max_length:
            ids, labels = asked + answer, [IGNORE_INDEX] * len(asked) + answer
            rows.append({"input_ids": ids[:max_length], "labels": labels[:max_length]})
    if (cut or lost) and notes is not None:
        notes.append(
            f"Of {len(data)} answers {cut} are cut at {max_length} tokens (max_seq_length); {lost} are left out, whose "
            f"instructions alone are as long."
        )
    if not rows:
        raise DataError(f"No instruction is shorter than {max_length} tokens; raise max_seq_length.")
    return rows


@encode.register
def _text_to_text(
    data: TextToText, tokenizer: Tokenizer, max_length: int, notes: list[str] | None = None
) -> list[dict[str, Any]]:
    start, end = tokenizer.special_tokens_around()
    room = max_length - len(start) - len(end)
    texts = tokenizer.plain(data.texts)
    outputs = [[*start, *output, tokenizer.eos_token_id] for output in tokenizer.plain(data.outputs)]
    cut = sum(len(text) > room for text in texts)
    cut_outputs = sum(len(output) > max_length for output in outputs)
    if (cut or cut_outputs) and notes is not None:
        notes.append(
            f"Of {len(data)} texts {cut} are cut at {max_length} tokens (max_seq_length), and {cut_outputs} of their "
            f"outputs."
        )
    asked = [start + text[:room] + end or [tokenizer.empty_token_id] for text in texts]
    pairs = zip(asked, outputs, strict=True)
    return [{"input_ids": ids, "labels": output[:max_length]} for ids, output in pairs]
