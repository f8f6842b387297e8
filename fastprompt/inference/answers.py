"""What a tuned model answers: one plain object an example, from a split of a task or from lines of input."""

from functools import singledispatch
from typing import Any

from fastprompt.data.dataloader import PadBatch
from fastprompt.data.encoding import IGNORE_INDEX, READ, encode
from fastprompt.data.examples import (
    ClozeTexts,
    Instructions,
    LabelledTexts,
    MultipleChoices,
    SquadData,
    TaggedTokens,
)
from fastprompt.data.squad_answers import best_spans, choose_answers
from fastprompt.data.squad_windows import SquadWindows, make_windows
from fastprompt.data.tasks import TaskData
from fastprompt.framework import ops
from fastprompt.models.base import PromptModel
from fastprompt.models.outputs import LABELS, NUMBERS
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.tokenizer import Tokenizer, load_tokenizer

import numpy

_WORDS = 10  # of a blank are told


def answer(
    model: PromptModel, data: TaskData, options: TrainOptions, max_length: int, notes: list[str]
) -> list[dict[str, Any]]:
    """One JSON object per example, in the data's order: what was asked, and what the model answers.

    - texts: "label" and "probabilities"; "labels" of several; "value" or "values" of a regression; of a cloze without a
      verbalizer the likeliest words;
    - choices: "label", the index of the likeliest, and "probabilities", one a choice;
    - sentences: "tags", one a token; null where a token is cut off after `max_length` of the model's tokens, or leaves
      none, as a zero-width space does;
    - questions: "answer", "" for none, and its "probability" among the n best;
    - instructions: "output", greedily written.

    Args:
        model: in evaluation mode.
        notes: gets a line about what was cut.
    """
    tokenizer = load_tokenizer(model.checkpoint.directory)
    if isinstance(data, Instructions):
        return _written(model, data, tokenizer, options, max_length)
    if isinstance(data, SquadData):
        data = make_windows(data, tokenizer, max_length, options.doc_stride, options.max_query_length)
        notes += data.notes
    shown = data
    if model.fills_blanks:
        template, causal = model.method_config.template, model.backbone.family.causal
        shown = ClozeTexts(data.texts, [0] * len(data), template, causal)
    rows = encode(shown, tokenizer, max_length, notes)
    logits = _logits(model, rows, PadBatch(tokenizer.pad_token_id), options.per_device_eval_batch_size)
    return _answers(data, model, rows, logits, options)


def _logits(model: PromptModel, rows: list[dict[str, Any]], pad: PadBatch, size: int) -> list[numpy.ndarray]:
    """Each row's logits without its batch's padding, rows of like length read together."""
    names = ("input_ids", "token_type_ids", "mask_positions", "pseudo_tokens")
    inputs = [{name: row[name] for name in names if name in row} for row in rows]
    order = sorted(range(len(inputs)), key=lambda place: _length(inputs[place]))
    like = model.trainable_parameters()[0]
    found: list[Any] = [None] * len(inputs)
    for start in range(0, len(order), size):
        places = order[start : start + size]
        batch = pad([inputs[place] for place in places])
        with ops.no_grad():
            logits = model(**{name: ops.tensor(array, like=like) for name, array in batch.items()}).logits
            logits = ops.to_numpy(logits)
        for place, row in zip(places, logits, strict=True):
            found[place] = row
    return found


def _written(
    model: PromptModel, data: Instructions, tokenizer: Tokenizer, options: TrainOptions, max_length: int
) -> list[dict]:
    if model.encoder_decoder:
        asked = [row["input_ids"] for row in tokenizer(data.written(), max_length=max_length)]
    else:
        start, _ = tokenizer.special_tokens_around()
        asked = [start + ids for ids in tokenizer.plain(data.written())]
    order = sorted(range(len(asked)), key=lambda place: len(asked[place]))
    outputs = [""] * len(asked)
    like = model.trainable_parameters()[0]
    for first in range(0, len(order), options.per_device_eval_batch_size):
        places = order[first : first + options.per_device_eval_batch_size]
        width = max(len(asked[place]) for place in places)
        ids = numpy.full((len(places), width), tokenizer.pad_token_id)
        mask = numpy.zeros_like(ids)
        for number, place in enumerate(places):
            # What is written stands behind a causal model's row, and apart from an encoder's.
            before = 0 if model.encoder_decoder else width - len(asked[place])
            ids[number, before : before + len(asked[place])] = asked[place]
            mask[number, before : before + len(asked[place])] = 1
        written = model.generate(
            ops.tensor(ids, like=like),
            ops.tensor(mask, like=like),
            max_new_tokens=options.max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )[:, 1 if model.encoder_decoder else width :]
        for place, row in zip(places, written.tolist(), strict=True):
            end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
            outputs[place] = tokenizer.decode(row[:end])
    columns = zip(data.instructions, data.contexts, outputs, strict=True)
    return [{"instruction": given, "input": context, "output": output} for given, context, output in columns]


def _length(row: dict[str, Any]) -> int:
    ids = row["input_ids"]
    return max(map(len, ids)) if isinstance(ids[0], list) else len(ids)


def _softmax(logits: numpy.ndarray) -> list[float]:
    weights = numpy.exp(logits.astype("float64") - logits.max())
    return (weights / weights.sum()).tolist()


@singledispatch
def _answers(data: Any, model: PromptModel, rows: list[dict], logits: list[Any], options: TrainOptions) -> list[dict]:
    raise TypeError(f"{type(data).__name__} is no data set.")


@_answers.register
def _of_texts(
    data: LabelledTexts, model: PromptModel, rows: list[dict], logits: list[Any], options: TrainOptions
) -> list[dict]:
    if model.fills_blanks and not model.label_names:
        return _of_blanks(data.texts, model, logits)
    answers = []
    for place, row in enumerate(logits):
        given = {"text": data.texts[place]} | ({"text_pair": data.pairs[place]} if data.pairs else {})
        answers.append(given | _outputs(model, row))
    return answers


def _of_blanks(texts: list[str], model: PromptModel, logits: list[Any]) -> list[dict]:
    """Of the words that a blank may be filled with the likeliest."""
    tokenizer = load_tokenizer(model.checkpoint.directory)
    words = numpy.array(tokenizer.whole_words)
    answers = []
    for text, row in zip(texts, logits, strict=True):
        shares = _softmax(row)
        likely = words[numpy.argsort(-row[words])[:_WORDS]].tolist()
        named = dict(zip(tokenizer.words_of(likely), (shares[word] for word in likely), strict=True))
        answers.append({"text": text, "label": max(named, key=named.get), "probabilities": named})
    return answers


def _outputs(model: PromptModel, logits: numpy.ndarray) -> dict[str, Any]:
    names = model.label_names
    if model.problem_type == NUMBERS:
        values = logits.tolist()
        return {"value": values[0]} if len(values) == 1 else {"values": dict(zip(names, values, strict=True))}
    if model.problem_type == LABELS:
        probabilities = (1 / (1 + numpy.exp(-logits.astype("float64")))).tolist()
        chosen = [name for name, logit in zip(names, logits, strict=True) if logit > 0]
        return {"labels": chosen, "probabilities": dict(zip(names, probabilities, strict=True))}
    named = dict(zip(names, _softmax(logits), strict=True))
    return {"label": max(named, key=named.get), "probabilities": named}


@_answers.register
def _of_choices(
    data: MultipleChoices, model: PromptModel, rows: list[dict], logits: list[Any], options: TrainOptions
) -> list[dict]:
    return [
        {
            "text": choices[0][0],
            "choices": [choice for _, choice in choices],
            "label": int(row.argmax()),
            "probabilities": _softmax(row),
        }
        for choices, row in zip(data.choices, logits, strict=True)
    ]


@_answers.register
def _of_tokens(
    data: TaggedTokens, model: PromptModel, rows: list[dict], logits: list[Any], options: TrainOptions
) -> list[dict]:
    answers = []
    for place, (row, found) in enumerate(zip(rows, logits, strict=True)):
        tokens = data.tokens[place]
        tags: list[str | None] = [None] * len(tokens)
        read = [word for word, tag in enumerate(row.get("unread_tags", [READ] * len(tokens))) if tag == READ]
        firsts = [i for i, label in enumerate(row["labels"]) if label != IGNORE_INDEX]  # the first token of each
        for word, position in zip(read, firsts, strict=True):
            tags[word] = model.label_names[found[position].argmax()]
        given = {"tokens": tokens} | ({"predicate": data.pairs[place][0]} if data.pairs else {})
        answers.append({**given, "tags": tags})
    return answers


@_answers.register
def _of_questions(
    data: SquadWindows, model: PromptModel, rows: list[dict], logits: list[Any], options: TrainOptions
) -> list[dict]:
    spans = {
        number: best_spans(window, *logits[number].T, options.n_best_size, options.max_answer_length)
        for number, window in enumerate(data.windows)
    }
    found = choose_answers(data, spans, options.n_best_size, options.null_score_diff_threshold)
    answers = []
    for question in data.data.questions:
        text = found.answers[question.id]
        likely = [entry["probability"] for entry in found.nbest[question.id] if entry["text"] == text]
        given = {"id": question.id, "question": question.question}
        answers.append({**given, "answer": text, "probability": likely[0] if likely else 0.0})
    return answers


# -- lines of input --------------------------------------------------------------------------------------------------
