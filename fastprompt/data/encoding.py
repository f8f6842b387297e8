"""Examples -> rows of token ids, one a model's input, for each kind of task."""

from collections.abc import Iterator
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
from fastprompt.data.packed import CHUNK
from fastprompt.data.squad_windows import SquadWindows
from fastprompt.errors import DataError
from fastprompt.pretrained.tokenizer import Tokenizer

Encodable = LabelledTexts | ClozeTexts | MultipleChoices | TaggedTokens | SquadWindows | Instructions | TextToText
IGNORE_INDEX = -100  # the label of what does not count, as in torch and transformers
READ = -1  # in "unread_tags": this word has a token, whose label is its tag


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
    rows = list(encode_rows(data, tokenizer, max_length, [] if notes is None else notes))
    if isinstance(data, TaggedTokens) and all(tag == READ for row in rows for tag in row["unread_tags"]):
        return [{name: value for name, value in row.items() if name != "unread_tags"} for row in rows]
    return rows


@singledispatch
def encode_rows(data: Any, tokenizer: Tokenizer, max_length: int, notes: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of `encode` one by one, those of `TaggedTokens` always with "unread_tags"; `notes` after the last."""
    raise TypeError(f"{type(data).__name__} is no data set.")


def _parts(count: int) -> Iterator[slice]:
    """Slices of examples to be tokenised together; an encoding takes far more memory than its ids."""
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _note_cuts(notes: list[str], cut: int, count: int, what: str, max_length: int) -> None:
    if cut:
        notes.append(f"{cut} of {count} {what} are cut to {max_length} tokens (max_seq_length).")


@encode_rows.register
def _texts(data: LabelledTexts, tokenizer: Tokenizer, max_length: int, notes: list[str]) -> Iterator[dict[str, Any]]:
    cut: list[int] = []
    kind = float if data.label_names is None else int
    for part in _parts(len(data)):
        rows = tokenizer(data.texts[part], None if data.pairs is None else data.pairs[part], max_length, cut)
        groups = [{}] * len(rows) if data.groups is None else [{"groups": group} for group in data.groups[part]]
        for row, label, group in zip(rows, data.labels[part], groups, strict=True):
            yield {**row, "labels": kind(label), **group}
    _note_cuts(notes, len(cut), len(data), "texts" if data.pairs is None else "pairs of texts", max_length)


@encode_rows.register
def _blanks(data: ClozeTexts, tokenizer: Tokenizer, max_length: int, notes: list[str]) -> Iterator[dict[str, Any]]:
    cut: list[int] = []
    template = Template(data.template)
    for part in _parts(len(data)):
        rows = template.lay_out(data.texts[part], tokenizer, max_length, data.causal, cut)
        yield from ({**row, "labels": label} for row, label in zip(rows, data.labels[part], strict=True))
    _note_cuts(notes, len(cut), len(data), "texts in the template", max_length)


@encode_rows.register
def _choices(
    data: MultipleChoices, tokenizer: Tokenizer, max_length: int, notes: list[str]
) -> Iterator[dict[str, Any]]:
    cut = 0
    for part in _parts(len(data)):
        texts, pairs = zip(*(choice for choices in data.choices[part] for choice in choices), strict=True)
        places: list[int] = []
        flat = iter(tokenizer(texts, pairs, max_length, places))
        cut += len({place // data.num_choices for place in places})
        for label in data.labels[part]:
            choices = [next(flat) for _ in range(data.num_choices)]
            yield {name: [choice[name] for choice in choices] for name in choices[0]} | {"labels": label}
    _note_cuts(notes, cut, len(data), "examples with choices", max_length)


@encode_rows.register
def _tokens(data: TaggedTokens, tokenizer: Tokenizer, max_length: int, notes: list[str]) -> Iterator[dict[str, Any]]:
    cut = empty = sentences = 0
    for part in _parts(len(data)):
        pairs = None if data.pairs is None else data.pairs[part]
        encoded = tokenizer.words(data.tokens[part], pairs, max_length)
        for row, tags in zip(encoded, data.tags[part], strict=True):
            words = enumerate(row["word_ids"])
            first = {word: position for position, word in reversed(list(words)) if word is not None}
            labels = [IGNORE_INDEX] * len(row["input_ids"])
            for word, position in first.items():
                labels[position] = tags[word]
            unread = [READ if word in first else tag for word, tag in enumerate(tags)]
            yield {
                **{name: row[name] for name in ("input_ids", "token_type_ids")},
                "labels": labels,
                "unread_tags": unread,
            }
            behind = len(tags) - 1 - max(first, default=-1) if row["cut"] else 0
            cut += behind
            empty += len(tags) - len(first) - behind
            sentences += len(first) < len(tags)
    if cut + empty:
        reasons = [f"{cut} are cut off after {max_length} tokens (max_seq_length)"] * bool(cut)
        reasons += [f"{empty} have no token of this vocabulary"] * bool(empty)
        notes.append(
            f"{cut + empty} words of {sentences} in {len(data)} sentences are not read ({', '.join(reasons)}); "
            f"they are not learnt and get no tag, and entity_f1 takes O as their prediction."
        )


@encode_rows.register
def _windows(data: SquadWindows, tokenizer: Tokenizer, max_length: int, notes: list[str]) -> Iterator[dict[str, Any]]:
    yield from data.rows()
    notes += data.notes


@encode_rows.register
def _instructions(
    data: Instructions, tokenizer: Tokenizer, max_length: int, notes: list[str]
) -> Iterator[dict[str, Any]]:
    cut = lost = 0
    start, _ = tokenizer.special_tokens_around()
    for part in _parts(len(data)):
        written, outputs = data.written(part), data.outputs[part]
        for asked, answer in zip(tokenizer.plain(written), tokenizer.plain(outputs), strict=True):
            asked, answer = start + asked, [*answer, tokenizer.eos_token_id]
            cut += len(asked) < max_length < len(asked) + len(answer)
            lost += len(asked) >= max_length
            if len(asked) < max_length:
                ids, labels = asked + answer, [IGNORE_INDEX] * len(asked) + answer
                yield {"input_ids": ids[:max_length], "labels": labels[:max_length]}
    if cut or lost:
        notes.append(
            f"Of {len(data)} answers {cut} are cut at {max_length} tokens (max_seq_length); {lost} are left out, whose "
            f"instructions alone are as long."
        )
    if lost == len(data):
        raise DataError(f"No instruction is shorter than {max_length} tokens; raise max_seq_length.")


@encode_rows.register
def _text_to_text(
    data: TextToText, tokenizer: Tokenizer, max_length: int, notes: list[str]
) -> Iterator[dict[str, Any]]:
    start, end = tokenizer.special_tokens_around()
    room = max_length - len(start) - len(end)
    cut = cut_outputs = 0
    for part in _parts(len(data)):
        texts, outputs = tokenizer.plain(data.texts[part]), tokenizer.plain(data.outputs[part])
        for text, output in zip(texts, outputs, strict=True):
            written = [*start, *output, tokenizer.eos_token_id]
            cut += len(text) > room
            cut_outputs += len(written) > max_length
            asked = start + text[:room] + end or [tokenizer.empty_token_id]
            yield {"input_ids": asked, "labels": written[:max_length]}
    if cut or cut_outputs:
        notes.append(
            f"Of {len(data)} texts {cut} are cut at {max_length} tokens (max_seq_length), and {cut_outputs} of their "
            f"outputs."
        )
