"""Examples of which one choice is right."""

from collections.abc import Sequence
from typing import Any

from fastprompt.data.examples import MultipleChoices
from fastprompt.data.readers.files import Record
from fastprompt.inference.model_task import ModelTask, encoded, logits_of, softmax
from fastprompt.inference.reading import Reading
from fastprompt.models.multiple_choice import PromptForMultipleChoice


class Choices(ModelTask):
    """Answers: "label", the index of the likeliest choice, and "probabilities", one a choice."""

    model = PromptForMultipleChoice
    kind = MultipleChoices
    line = None

    def read(self, records: Sequence[Record], reading: Reading) -> MultipleChoices:
        choices: list[list[tuple[str, str]]] = []
        for record in records:
            text, given = record.get("text", str), record.get("choices", list)
            if len(given) < 2 or not all(isinstance(choice, str) for choice in given):
                raise record.wrong("'choices' is a list of two texts or more")
            if choices and len(given) != len(choices[0]):
                raise record.wrong(f"it has {len(given)} choices, the line before it {len(choices[0])}")
            choices.append([(text, choice) for choice in given])
        return MultipleChoices(choices, [0] * len(choices))

    def answer(self, data: MultipleChoices, reading: Reading) -> list[dict[str, Any]]:
        return [
            {
                "text": choices[0][0],
                "choices": [choice for _, choice in choices],
                "label": int(row.argmax()),
                "probabilities": softmax(row),
            }
            for choices, row in zip(data.choices, logits_of(encoded(data, reading), reading), strict=True)
        ]
