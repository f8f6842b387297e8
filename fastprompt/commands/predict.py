"""A saved prompt's scores and answers."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fastprompt.commands.setup import (
    _check_fits,
    _evaluate,
    _fitting,
    _loader,
    _tell,
    choose_device,
    describe,
    load_model,
    load_split,
)
from fastprompt.data.tasks import TaskData
from fastprompt.errors import ConfigError
from fastprompt.framework import nn
from fastprompt.inference.answers import answer
from fastprompt.inference.lines import Line, batches, read_lines
from fastprompt.models.base import PromptModel
from fastprompt.options.train import TrainOptions
from fastprompt.saving import prompt_file
from fastprompt.saving.files import write_whole


def _predict_split(options: TrainOptions, model: PromptModel, data: TaskData, device: str, path: Path) -> None:
    notes: list[str] = []
    nn.move(model, device)
    model.eval()
    answers = answer(model, data, options, _fitting(options, model), notes)
    _tell(notes)
    write_whole({path: "".join(f"{json.dumps(a, ensure_ascii=False)}\n" for a in answers).encode()})


def _require_prompt(options: TrainOptions) -> None:
    if not prompt_file.is_prompt(options.model_name_or_path):
        raise ConfigError(f"{options.model_name_or_path} holds no prompt ({prompt_file.CONFIG_FILE}); train one first.")


def evaluate_prompt(options: TrainOptions) -> dict[str, Any]:
    """A saved prompt's metrics on a task's evaluation split."""
    _require_prompt(options)
    device = choose_device(options.device)
    model = load_model(options, device)
    eval_set = load_split(options, "validation", model.label_names)
    _check_fits(model, eval_set, options)
    scores = _evaluate(options, model, *_loader(options, model, eval_set), device)
    return {**scores, "eval_samples": len(eval_set), **describe(model, device)}


def predict(
    options: TrainOptions, lines: Iterable[Line], *, structured: bool = False, version_2: bool = False
) -> Iterator[dict[str, Any]]:
    """A saved prompt's answer to each line, in order, batch by batch as the lines come.

    Args:
        structured: lines are JSON objects; see `predicting.read_lines`.
        version_2: questions may have no answer.
    """
    _require_prompt(options)
    device = choose_device(options.device)
    model = load_model(options, device)
    nn.move(model, device)
    model.eval()
    for batch in batches(lines, options.per_device_eval_batch_size):
        notes: list[str] = []
        data = read_lines(model, batch, structured, version_2, options.chat_template)
        answers = answer(model, data, options, _fitting(options, model), notes)
        _tell(notes)
        yield from answers
