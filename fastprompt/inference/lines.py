"""Lines of input as the data that a model reads."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from fastprompt.data.chat import CHAT_TEMPLATES
from fastprompt.data.examples import (
    Instructions,
    LabelledTexts,
    MultipleChoices,
    SquadData,
    SquadQuestion,
    TaggedTokens,
)
from fastprompt.data.readers.files import Record
from fastprompt.data.tasks import TaskData
from fastprompt.errors import DataError
from fastprompt.models.base import PromptModel
from fastprompt.models.outputs import NUMBERS

Line = tuple[str, str]  # where it stands, what it says


def read_lines(
    model: PromptModel,
    lines: Iterable[Line],
    structured: bool = False,
    version_2: bool = False,
    chat_template: str = CHAT_TEMPLATES[0],
) -> TaskData:
    """Lines of input as the data that the model reads; what is to be answered is left open.

    Args:
        version_2: questions may have no answer, as in SQuAD 2.0.
        chat_template: how instructions are written.

    A line is a text, or words with spaces between them for a tagger. With `structured`, and always for questions and
    choices, it is a JSON object: {"text", "text_pair"}, {"tokens", "predicate"}, {"text", "choices"}, {"question",
    "context", "id"}, or {"instruction", "input"}; text_pair, predicate, id and input may be left off.

    Raises:
        DataError: with the line: it is not such an object, or differs from the others.
    """
    readers = {
        "sequence_classification": _read_texts,
        "masked_lm": _read_texts,
        "multiple_choice": _read_choices,
        "token_classification": _read_tokens,
        "question_answering": partial(_read_questions, version_2=version_2),
        "causal_lm": partial(_read_instructions, chat_template=chat_template),
        "seq2seq_lm": partial(_read_instructions, chat_template=chat_template),
    }
    reader = readers[model.task]
    if structured or model.task in STRUCTURED:
        return reader(model, [_parsed(line) for line in lines])
    instruction = ("instruction", str)
    kinds = {"token_classification": ("tokens", str.split), "causal_lm": instruction, "seq2seq_lm": instruction}
    key, read = kinds.get(model.task, ("text", str))
    return reader(model, [Record(where, "", {key: read(text)}) for where, text in lines])


STRUCTURED = ("multiple_choice", "question_answering")  # tasks that no bare line of text can pose


def _parsed(line: Line) -> Record:
    where, text = line
    try:
        return Record(where, "", json.loads(text))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: a JSON object is wanted ({error.msg}).") from error


def _all_or_none(records: list[Record], key: str, *kinds: type) -> list[Any] | None:
    """The values of a key that every object has, or none of them."""
    if not records or key not in (records[0].value if isinstance(records[0].value, dict) else ()):
        if extra := [record for record in records if isinstance(record.value, dict) and key in record.value]:
            raise extra[0].wrong(f"it has the key {key!r}, the lines before it have not")
        return None
    return [record.get(key, *kinds) for record in records]


def _read_texts(model: PromptModel, records: list[Record]) -> LabelledTexts:
    texts = [record.get("text", str) for record in records]
    pairs = _all_or_none(records, "text_pair", str)
    if pairs is not None and model.fills_blanks:
        raise records[0].wrong("a cloze is asked with one text; leave text_pair off")
    open_ended = model.problem_type == NUMBERS or not model.label_names
    labels: list[Any] = [0.0 if open_ended else 0] * len(texts)
    return LabelledTexts(texts, labels, None if open_ended else model.label_names, pairs)


def _read_choices(model: PromptModel, records: list[Record]) -> MultipleChoices:
    choices = []
    for record in records:
        text, given = record.get("text", str), record.get("choices", list)
        if len(given) < 2 or not all(isinstance(choice, str) for choice in given):
            raise record.wrong("'choices' is a list of two texts or more")
        if choices and len(given) != len(choices[0]):
            raise record.wrong(f"it has {len(given)} choices, the line before it {len(choices[0])}")
        choices.append([(text, choice) for choice in given])
    return MultipleChoices(choices, [0] * len(choices))


def _read_tokens(model: PromptModel, records: list[Record]) -> TaggedTokens:
    sentences = []
    for record in records:
        tokens = record.get("tokens", list)
        if not tokens or not all(isinstance(token, str) and token for token in tokens):
            raise record.wrong("it has no words; a tagger wants one or more")
        sentences.append(tokens)
    predicates = _all_or_none(records, "predicate", str)
    tags = [[0] * len(tokens) for tokens in sentences]
    return TaggedTokens(sentences, tags, model.label_names, predicates and [[word] for word in predicates])


def _read_questions(model: PromptModel, records: list[Record], version_2: bool) -> SquadData:
    questions: dict[str, SquadQuestion] = {}
    for record in records:
        key = record.get("id", str) if isinstance(record.value, dict) and "id" in record.value else record.source
        if key in questions:
            raise record.wrong(f"the id {key!r} is an earlier line's")
        context = record.get("context", str)
        if not context.strip():
            raise record.wrong("its context is empty")
        questions[key] = SquadQuestion(key, record.get("question", str), context, [])
    return SquadData(list(questions.values()), version_2)


def _read_instructions(model: PromptModel, records: list[Record], chat_template: str) -> Instructions:
    instructions = [record.get("instruction", str) for record in records]
    contexts = [record.get("input", str) if "input" in record.value else "" for record in records]
    return Instructions(instructions, contexts, [""] * len(records), chat_template)


def batches(lines: Iterable[Line], size: int) -> Iterator[list[Line]]:
    """Lines in groups of `size`, as they come."""
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
