"""What commands need of a model that answers: its device and precision, and its answers to a split of data."""

import json
from pathlib import Path

from fastprompt.data.tasks import TaskData
from fastprompt.errors import BackendError, ConfigError
from fastprompt.framework import backend, nn, runtime
from fastprompt.inference.reading import Reading
from fastprompt.inference.tasks import answer
from fastprompt.models.base import PromptModel
from fastprompt.options.groups import ModelOptions
from fastprompt.options.train import TrainOptions
from fastprompt.saving.files import write_whole


def choose_device(device: str | None) -> str:
    """The device that is asked for, or else a GPU where there is one.

    Raises:
        BackendError: a GPU is asked for, and the framework has none here.
    """
    found = runtime.has_gpu()
    if device not in (None, "cpu") and not found:
        raise BackendError(f"{backend()} finds no device {device!r} here; use 'cpu'.")
    return device or ("cuda" if found else "cpu")


def check_precision(options: ModelOptions, device: str) -> None:
    """Raises: ConfigError: the device lacks the precision that is asked for."""
    if options.bf16 and not runtime.supports_bf16(device):
        raise ConfigError(f"{backend()} has no bfloat16 on {device}; leave --bf16 off.")


def reading_of(options: TrainOptions, model: PromptModel, version_2: bool = False) -> Reading:
    return Reading(model, options.data, options.evaluation, version_2)


def serve(model: PromptModel, device: str) -> None:
    nn.move(model, device)
    model.eval()


def predict_split(reading: Reading, data: TaskData, device: str, path: Path) -> None:
    """Write the answers to a split's examples, a JSON object a line."""
    serve(reading.model, device)
    answers = answer(data, reading)
    reading.print_notes()
    write_whole({path: "".join(f"{json.dumps(found, ensure_ascii=False)}\n" for found in answers).encode()})
