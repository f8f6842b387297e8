"""What a task of a model is, beyond the model: its examples, its lines of input, its answers."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from fastprompt.data.dataloader import PadBatch
from fastprompt.data.encoding import Encodable, encode
from fastprompt.data.readers.files import Record
from fastprompt.data.tasks import TaskData
from fastprompt.errors import ConfigError
from fastprompt.framework import ops
from fastprompt.inference.reading import Reading
from fastprompt.models.base import PromptModel

import numpy


class ModelTask:
    """A task of a model; a subclass for each.

    Attributes:
        model: its class.
        kind: what its examples are.
        line: the key, and what makes its value of the text, of a bare line of input; None: a line is a JSON object.
        skips_blank_lines: whether a bare line that is blank is no example, as in the data to train on.
    """

    model: ClassVar[type[PromptModel]]
    kind: ClassVar[type]
    line: ClassVar[tuple[str, Callable[[str], Any]] | None]
    skips_blank_lines: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """As prompt files have it."""
        return self.model.task

    def outputs(self, data: TaskData) -> dict[str, Any]:
        """The keyword arguments of `from_pretrained` for the outputs that `data` ask for."""
        return {}

    def check(self, data: TaskData, task_name: str) -> None:
        """Raises: ConfigError: examples of the kind, but none that the model can read."""

    def check_outputs(self, data: TaskData, model: PromptModel, where: str) -> None:
        """Raises: ConfigError: the model that lies at `where` has other outputs than `data` ask for."""
        options = self.outputs(data)
        classes = options.get("num_labels") or len(options.get("label_names", ()))
        if classes and classes != model.num_labels:
            raise ConfigError(f"{where} was tuned for {model.num_labels} classes; the data has {classes}.")

    def read(self, records: Sequence[Record], reading: Reading) -> TaskData:
        """Lines of input as examples; what is to be answered is left open.

        Raises:
            DataError: with the line: it is not what the model reads, or differs from the others.
        """
        raise NotImplementedError

    def prepare(self, data: TaskData, reading: Reading) -> Encodable:
        """The examples as they are encoded."""
        return data

    def answer(self, data: TaskData, reading: Reading) -> list[dict[str, Any]]:
        """One JSON object per example, in the data's order: what was asked, and what the model answers.

        Args:
            data: whose labels are not read.
            reading: whose model is in evaluation mode.
        """
        raise NotImplementedError


def encoded(data: Encodable, reading: Reading) -> list[dict[str, Any]]:
    """The rows of token ids that the model reads."""
    return encode(data, reading.tokenizer, reading.max_length, reading.notes)


def logits_of(rows: list[dict[str, Any]], reading: Reading) -> list[numpy.ndarray]:
    """Each row's logits without its batch's padding, rows of like length read together."""
    names = ("input_ids", "token_type_ids", "mask_positions", "pseudo_tokens")
    inputs = [{name: row[name] for name in names if name in row} for row in rows]
    pad, size = PadBatch(reading.tokenizer.pad_token_id), reading.evaluation.per_device_eval_batch_size
    found: list[Any] = [None] * len(inputs)
    for indices in grouped([_length(row) for row in inputs], size):
        batch = pad([inputs[index] for index in indices])
        reading.model.check_indices(batch)
        with ops.no_grad():
            logits = reading.model(**{name: reading.model.tensor(array) for name, array in batch.items()}).logits
            logits = ops.to_numpy(logits)
        for index, row in zip(indices, logits, strict=True):
            found[index] = row
    return found


def grouped(lengths: list[int], size: int) -> list[list[int]]:
    """Indices of batches of `size`, those of like length together."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [order[start : start + size] for start in range(0, len(order), size)]


def _length(row: dict[str, Any]) -> int:
    ids = row["input_ids"]
    return max(map(len, ids)) if isinstance(ids[0], list) else len(ids)


def softmax(logits: numpy.ndarray) -> list[float]:
    weights = numpy.exp(logits.astype("float64") - logits.max())
    return (weights / weights.sum()).tolist()
