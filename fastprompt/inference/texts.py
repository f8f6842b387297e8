"""Texts with a class, several, or a number, by a head or by the words of a cloze."""

from collections.abc import Sequence
from typing import Any

from fastprompt.data.encoding import Encodable
from fastprompt.data.examples import ClozeTexts, LabelledTexts
from fastprompt.data.readers.files import Record
from fastprompt.errors import ConfigError
from fastprompt.inference.lines import all_or_none
from fastprompt.inference.model_task import ModelTask, encoded, logits_of, softmax
from fastprompt.inference.reading import Reading
from fastprompt.models.base import PromptModel
from fastprompt.models.masked_lm import PromptForMaskedLM
from fastprompt.models.outputs import LABELS, NUMBERS
from fastprompt.models.sequence_classification import PromptForSequenceClassification

import numpy

_WORDS = 10  # of a blank are shown


class Texts(ModelTask):
    """Answers: "label" and "probabilities"; "labels" of several; "value" or "values" of a regression."""

    model = PromptForSequenceClassification
    kind = LabelledTexts
    line = ("text", str)

    def outputs(self, data: LabelledTexts) -> dict[str, Any]:
        return {"num_labels": 1} if data.label_names is None else {"label_names": data.label_names}

    def read(self, records: Sequence[Record], reading: Reading) -> LabelledTexts:
        texts = [record.get("text", str) for record in records]
        names = [] if reading.model.problem_type == NUMBERS else reading.model.label_names
        labels: list[Any] = [0 if names else 0.0] * len(texts)
        return LabelledTexts(texts, labels, names or None, all_or_none(records, "text_pair", str))

    def answer(self, data: LabelledTexts, reading: Reading) -> list[dict[str, Any]]:
        answers = []
        for index, row in enumerate(logits_of(encoded(data, reading), reading)):
            given = {"text": data.texts[index]} | ({"text_pair": data.pairs[index]} if data.pairs else {})
            answers.append(given | _outputs(reading.model, row))
        return answers


class Clozes(Texts):
    """Single texts in a template; without a verbalizer the answers are the likeliest words."""

    model = PromptForMaskedLM

    def check(self, data: LabelledTexts, task_name: str) -> None:
        if data.pairs is not None or data.label_names is None:
            raise ConfigError(f"--template and --verbalizer make a cloze of single texts; {task_name} has others.")

    def read(self, records: Sequence[Record], reading: Reading) -> LabelledTexts:
        data = super().read(records, reading)
        if data.pairs is not None:
            raise records[0].wrong("a cloze is asked with one text; leave text_pair off")
        return data

    def prepare(self, data: LabelledTexts, reading: Reading) -> Encodable:
        return self._in_template(data.texts, data.labels, reading.model)

    def answer(self, data: LabelledTexts, reading: Reading) -> list[dict[str, Any]]:
        model = reading.model
        rows = encoded(self._in_template(data.texts, [0] * len(data), model), reading)
        logits = logits_of(rows, reading)
        if not model.label_names:
            return _likeliest_words(data.texts, logits, reading)
        return [{"text": text, **_outputs(model, row)} for text, row in zip(data.texts, logits, strict=True)]

    def _in_template(self, texts: list[str], labels: list[int], model: PromptModel) -> ClozeTexts:
        return ClozeTexts(texts, labels, model.method_config.template, model.backbone.family.causal)


def _outputs(model: PromptModel, logits: numpy.ndarray) -> dict[str, Any]:
    names = model.label_names
    if model.problem_type == NUMBERS:
        values = logits.tolist()
        return {"value": values[0]} if len(values) == 1 else {"values": dict(zip(names, values, strict=True))}
    if model.problem_type == LABELS:
        probabilities = (1 / (1 + numpy.exp(-logits.astype("float64")))).tolist()
        chosen = [name for name, logit in zip(names, logits, strict=True) if logit > 0]
        return {"labels": chosen, "probabilities": dict(zip(names, probabilities, strict=True))}
    named = dict(zip(names, softmax(logits), strict=True))
    return {"label": max(named, key=named.get), "probabilities": named}


def _likeliest_words(texts: list[str], logits: list[numpy.ndarray], reading: Reading) -> list[dict[str, Any]]:
    """Of the words that a blank may be filled with the likeliest."""
    words = numpy.array(reading.tokenizer.whole_words)
    answers = []
    for text, row in zip(texts, logits, strict=True):
        shares = softmax(row)
        likely = words[numpy.argsort(-row[words])[:_WORDS]].tolist()
        named = dict(zip(reading.tokenizer.words_of(likely), (shares[word] for word in likely), strict=True))
        answers.append({"text": text, "label": max(named, key=named.get), "probabilities": named})
    return answers
