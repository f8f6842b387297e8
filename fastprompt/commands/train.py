"""What the command line does: train into a run's folder, evaluate, predict."""

import dataclasses
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastprompt.commands.predict import _predict_split, _require_prompt
from fastprompt.commands.setup import (
    _check_fits,
    _evaluate,
    _loader,
    _peak_memory_mb,
    choose_device,
    describe,
    load_model,
    load_split,
)
from fastprompt.data.tasks import TaskData
from fastprompt.errors import ConfigError
from fastprompt.framework import runtime
from fastprompt.launch.world import is_first
from fastprompt.metrics.tasks import main_score
from fastprompt.models.base import PromptModel
from fastprompt.options.train import TrainOptions
from fastprompt.saving.files import as_json, write_whole
from fastprompt.saving.run_folder import (
    BEST,
    EVALUATIONS_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RUN_FILES,
    make_run_folder,
)
from fastprompt.training.checkpointing import Checkpoints, choose
from fastprompt.training.evaluation import BestPrompt, Evaluations
from fastprompt.training.optimization import LearningRateSchedule
from fastprompt.training.progress import RunLog
from fastprompt.training.trainer import make_trainer

import numpy


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; what was trained so far lies in the run's folder."""


@dataclasses.dataclass
class _Splits:
    """What a run reads; what it does not read is None.

    Attributes:
        selection: the examples that choose the best prompt.
    """

    train: TaskData | None = None
    evaluation: TaskData | None = None
    selection: TaskData | None = None
    test: TaskData | None = None


def _load_splits(options: TrainOptions, label_names: list[str] | None) -> _Splits:
    splits = _Splits()
    if options.do_train:
        splits.train = load_split(options, "train")
        label_names = getattr(splits.train, "label_names", None)
    if options.do_eval or (options.evaluation_strategy != "no" and not options.selection_samples):
        splits.evaluation = splits.selection = load_split(options, "validation", label_names)
    if options.do_predict:
        splits.test = load_split(options, "test", label_names)
    if splits.train is not None and options.selection_samples:
        splits.train, splits.selection = _set_apart(splits.train, options.selection_samples, options.seed)
    return splits


def _set_apart(data: TaskData, count: int, seed: int) -> tuple[TaskData, TaskData]:
    """(the other examples, `count` drawn ones)"""
    if count >= len(data):
        raise ConfigError(f"--selection_samples is {count}, and there are {len(data)} training examples in all.")
    drawn = set(numpy.random.default_rng(seed).permutation(len(data))[:count].tolist())
    kept = [place for place in range(len(data)) if place not in drawn]
    return data.select(kept), data.select(sorted(drawn))


def train(options: TrainOptions) -> dict[str, Any]:
    """Train, evaluate and predict, as far as is asked for; what was found is left in the run's folder and returned.

    Raises:
        Interrupted: at Ctrl-C, once what was trained so far is saved.
    """
    output = Path(options.output_dir).expanduser()
    if not options.do_train:
        _require_prompt(options)
    going_on = options.do_train and options.resume_from_checkpoint is not None
    if going_on and (output / METRICS_FILE).exists():
        print(f"{output} holds a finished run; nothing is left to be done.", file=sys.stderr)
        return json.loads((output / METRICS_FILE).read_bytes())
    make_run_folder(output, RUN_FILES, options.overwrite_output_dir or going_on)
    start = choose(options.resume_from_checkpoint, output) if going_on else None
    if going_on and start is None:
        print(f"There is no checkpoint in {output}: starting from the beginning.", file=sys.stderr)
    device = choose_device(options.device)
    runtime.seed(options.seed)
    model = None if options.do_train else load_model(options, device)
    splits = _load_splits(options, None if model is None else model.label_names)
    if model is None:
        model = load_model(options, device, splits.train)
    else:
        _check_fits(model, splits.evaluation or splits.test, options)
    loaded = {"model_memory_mb": _peak_memory_mb()}
    # Now, so that what cannot be evaluated is found before the training.
    scored = None if splits.evaluation is None else _loader(options, model, splits.evaluation)
    metrics: dict[str, Any] = {}
    if options.do_train:
        chosen_by = scored
        if options.evaluation_strategy != "no" and splits.selection is not splits.evaluation:
            chosen_by = _loader(options, model, splits.selection)
        metrics = _train(options, model, splits, chosen_by, device, output, start)
    if options.do_eval:
        scores = _evaluate(options, model, *scored, device, output)
        metrics = {**scores, "eval_samples": len(splits.evaluation), **metrics}
    if options.do_predict:  # last, for of several processes only the first does it, where it has the backbone whole
        metrics["test_samples"] = len(splits.test)
        if is_first() or options.fsdp:
            _predict_split(options, model, splits.test, device, output / PREDICTIONS_FILE)
    metrics = {
        **metrics,
        **loaded,
        **describe(model, device),
        "method": model.method_config.method,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
    }
    write_whole({output / METRICS_FILE: as_json(metrics)})
    return metrics


def _train(
    options: TrainOptions,
    model: PromptModel,
    splits: _Splits,
    chosen_by: Any,
    device: str,
    output: Path,
    start: Path | None,
) -> dict[str, Any]:
    """Train, save the prompt, and tell what the training was like.

    Args:
        chosen_by: the `_loader` that evaluations during the training run on.
        start: the checkpoint to go on from.
    """
    train_loader, _ = _loader(options, model, splits.train, shuffle=True)
    schedule = LearningRateSchedule(options.learning_rate, options.lr_scheduler_type, options.warmup_ratio)
    log = RunLog(output / HISTORY_FILE, schedule, options.logging_steps)
    callbacks: list[Any] = [log]
    best = None
    if options.load_best_model_at_end:
        metric = options.metric_for_best_model or main_score(options.task_name, options.dataset_name)
        best = BestPrompt(model, output / BEST, metric)
    if options.evaluation_strategy != "no":
        steps = options.eval_steps if options.evaluation_strategy == "steps" else None
        score = partial(_evaluate, options, model, *chosen_by, device)
        callbacks.append(Evaluations(score, output / EVALUATIONS_FILE, steps, log, best))
    every = (options.save_steps or 500) if options.save_strategy == "steps" else None
    epochs = options.save_strategy == "epoch"
    checkpoints = Checkpoints(options, output, log, every, epochs, options.save_total_limit)
    trainer = make_trainer(model, train_loader, options, device, [*callbacks, checkpoints], schedule)
    if start is not None:
        trainer.load_checkpoint(start)
        print(f"going on from {start}", file=sys.stderr)
    try:
        with _asked_to_end_by_sigterm(checkpoints):
            trainer.run(catch_KeyboardInterrupt=False)
    except KeyboardInterrupt as stop:
        model.save_pretrained(output)
        raise Interrupted(
            f"Stopped at step {trainer.global_forward_batches}; the prompt so far is in {output}."
        ) from stop
    told: dict[str, Any] = {
        "train_samples": len(splits.train),
        "steps": trainer.global_forward_batches,
        "train_seconds": round(log.train_seconds, 3),
        "samples_per_second": round(log.samples / log.train_seconds, 2),
        "seconds_to_first_step": round(log.seconds_to_first_step, 3),
    }
    if best is not None:
        best.restore()
        told |= {"best_step": best.step, "best_metric": best.metric, "best_chosen_on": _chosen_on(options)}
    model.save_pretrained(output)
    return told


@contextmanager
def _asked_to_end_by_sigterm(checkpoints: Checkpoints) -> Iterator[None]:
    """SIGTERM lets the step end, writes a checkpoint, and ends the run."""
    if threading.current_thread() is not threading.main_thread():  # signals are not ours to handle
        yield
        return

    def ask(signum: int, frame: Any) -> None:
        checkpoints.asked_to_end = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _chosen_on(options: TrainOptions) -> str:
    if options.selection_samples:
        return f"{options.selection_samples} training examples set apart"
    return "the evaluation split, the same that is reported"
