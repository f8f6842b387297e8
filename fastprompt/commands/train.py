"""The command `fastprompt train`: from data to a prompt, its scores and its answers, in a run's folder."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from fastprompt.commands.request import check_training
from fastprompt.commands.serving import predict_split, reading_of
from fastprompt.commands.setup import (
    Loaded,
    Setup,
    describe,
    load_model,
    load_split,
    make_loader,
    peak_memory_mb,
    print_mapping,
    score,
)
from fastprompt.data.tasks import TaskData
from fastprompt.drivers.common.accumulation import steps_taken
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import backend, runtime
from fastprompt.launch.world import is_first
from fastprompt.models.base import PromptModel
from fastprompt.models.card import write_card
from fastprompt.models.trainable import trainable_share
from fastprompt.options.groups import OPTIONS, EvaluationOptions
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving import prompt_file
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
from fastprompt.training.progress import RunLog
from fastprompt.training.same_run import check_same, outcome_of, request_of
from fastprompt.training.trainer import make_schedule, make_trainer

import numpy
from rich.console import Console
from rich.table import Table

_SHOWN_OPTIONS = ("method", "learning_rate", "seed", "backend", "device", "num_processes")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; what was trained so far lies in the run's folder."""


def main(options: TrainOptions, results: TextIO) -> int:
    metrics = train(options)
    shown = {name: value for name, value in metrics.items() if name not in OPTIONS or name in _SHOWN_OPTIONS}
    print_mapping(shown, results)
    if options.data.task_name == "instruction":
        _print_costs(metrics, results)
    return 0


def _print_costs(metrics: dict[str, Any], results: TextIO) -> None:
    """What was trained and what memory that took, in the form of PEFT's line and its tutorials' tables."""
    tuned, total = metrics["trainable_parameters"], metrics["total_parameters"]
    print(trainable_share(tuned, total), file=results)
    table = Table("method", "all params", "trainable params", "memory, model loaded", "memory, peak")
    memory = (f"{metrics[name] / 1024:.2f} GiB" for name in ("model_memory_mb", "peak_memory_mb"))
    table.add_row(metrics["method"], f"{total:,}", f"{tuned:,}", *memory)
    Console(file=results, markup=False, highlight=False, width=100).print(table)


@dataclass
class _Splits:
    """What a run reads; what it does not read is None.

    Attributes:
        selection: the examples that choose the best prompt.
    """

    train: TaskData | None = None
    evaluation: TaskData | None = None
    selection: TaskData | None = None
    test: TaskData | None = None

    @property
    def any(self) -> TaskData:
        return self.train or self.evaluation or self.test


def _load_splits(setup: Setup) -> _Splits:
    """The splits that are asked for; the labels are the training's, or the saved prompt's where nothing is trained."""
    run, evaluation, model = setup.options.run, setup.options.evaluation, setup.options.model
    splits = _Splits()
    if run.do_train:
        splits.train = load_split(setup, "train")
        label_names = getattr(splits.train, "label_names", None)
    else:
        label_names = prompt_file.read_description(model.model_name_or_path).label_names
    if run.do_eval or (evaluation.evaluation_strategy != "no" and not evaluation.selection_samples):
        splits.evaluation = splits.selection = load_split(setup, "validation", label_names)
    if run.do_predict:
        splits.test = load_split(setup, "test", label_names)
    if splits.train is not None and evaluation.selection_samples:
        splits.train, splits.selection = _hold_out(splits.train, evaluation.selection_samples, model.seed)
    return splits


def _hold_out(data: TaskData, count: int, seed: int) -> tuple[TaskData, TaskData]:
    """(the other examples, `count` drawn ones)"""
    if count >= len(data):
        raise ConfigError(f"--selection_samples is {count}, and there are {len(data)} training examples in all.")
    drawn = set(numpy.random.default_rng(seed).permutation(len(data))[:count].tolist())
    rest = [place for place in range(len(data)) if place not in drawn]
    return data.select(rest), data.select(sorted(drawn))


def train(options: TrainOptions) -> dict[str, Any]:
    """Train, evaluate and predict, as far as is asked for; what was found is left in the run's folder and returned.

    Raises:
        Interrupted: at Ctrl-C, once what was trained so far is saved.
    """
    run, output = options.run, Path(options.run.output_dir).expanduser()
    check_training(options)
    setup = Setup(options)
    resuming = run.do_train and run.resume_from_checkpoint is not None
    finished = json.loads((output / METRICS_FILE).read_bytes()) if resuming and _is_finished(output) else None
    if finished is None:
        make_run_folder(output, RUN_FILES, run.overwrite_output_dir or resuming)
    splits = _load_splits(setup)
    request = request_of(options, splits.train) if run.do_train else {}
    if finished is not None and _is_same(setup, request, finished, output):
        print(f"{output} holds a finished run; nothing is left to do.", file=sys.stderr)
        return finished
    start = choose(run.resume_from_checkpoint, output) if resuming else None
    if resuming and start is None:
        if finished is not None:
            raise CheckpointError(
                f"{output} holds a finished run and no checkpoint, and so no state of its optimizer to go on from; "
                f"leave --resume_from_checkpoint off and choose another folder."
            )
        print(f"There is no checkpoint in {output}: starting from the beginning.", file=sys.stderr)
    runtime.seed(options.model.seed)
    model = load_model(setup, splits.any)
    loaded = {"model_memory_mb": peak_memory_mb()}
    # Now, so that what cannot be evaluated is found before the training.
    scored = None if splits.evaluation is None else make_loader(setup, model, splits.evaluation)
    metrics: dict[str, Any] = {}
    if run.do_train:
        chosen_by = scored
        if options.evaluation.evaluation_strategy != "no" and splits.selection is not splits.evaluation:
            chosen_by = make_loader(setup, model, splits.selection)
        metrics = _fit(setup, model, _Training(splits.train, chosen_by, request, start, finished or {}))
    if run.do_eval:
        metrics = {**score(setup, model, scored, output), "eval_samples": len(splits.evaluation), **metrics}
    if run.do_predict:  # last, for of several processes only the first does it, where it has the backbone whole
        metrics["test_samples"] = len(splits.test)
        if is_first() or options.hardware.fsdp:
            predict_split(reading_of(options, model), splits.test, setup.device, output / PREDICTIONS_FILE)
    metrics = {
        **metrics,
        **loaded,
        **describe(model, setup.device),
        **outcome_of(options),
        **request,
        "method": model.method_config.method,
        "learning_rate": options.training.learning_rate,
        "seed": options.model.seed,
    }
    write_whole({output / METRICS_FILE: as_json(metrics)})
    if run.do_train and is_first():
        write_card(prompt_file.read_description(output), output, metrics)
    return metrics


def _is_finished(output: Path) -> bool:
    return (output / METRICS_FILE).exists()


def _is_same(setup: Setup, request: dict[str, Any], finished: dict[str, Any], output: Path) -> bool:
    """Whether a finished run is what is asked for; False where more epochs are.

    Raises:
        ConfigError: it is another run.
    """
    options, where = setup.options, f"{output} holds a finished run"
    if not options.model.is_prompt and prompt_file.is_prompt(output):
        saved, backbone = prompt_file.read_description(output), Checkpoint(options.model.model_name_or_path)
        if saved.fingerprint != backbone.fingerprint:
            raise ConfigError(
                f"{where} with model_name_or_path {saved.backbone_name}, now it is {backbone.name}, whose "
                f"weights differ; leave --resume_from_checkpoint off and choose another folder."
            )
    now = {"backend": backend(), **outcome_of(options), **request}
    return check_same(finished, now, where) is None


@dataclass
class _Training:
    """What a training runs on.

    Attributes:
        chosen_by: what evaluations during the training run on.
        request: what its numbers depend on.
        start: the checkpoint to go on from.
        finished: the metrics of the finished run that goes on.
    """

    data: TaskData
    chosen_by: Loaded | None
    request: dict[str, Any]
    start: Path | None
    finished: dict[str, Any]


def _fit(setup: Setup, model: PromptModel, plan: _Training) -> dict[str, Any]:
    """Train, save the prompt, and say what the training was like."""
    options, output = setup.options, Path(setup.options.run.output_dir).expanduser()
    training, evaluation = options.training, options.evaluation
    if plan.start is None and is_first():  # what an earlier run of this folder found is not this one's
        for name in (METRICS_FILE, EVALUATIONS_FILE, PREDICTIONS_FILE):
            (output / name).unlink(missing_ok=True)
    loaded = make_loader(setup, model, plan.data, shuffle=True)
    schedule = make_schedule(training)
    log = RunLog(output / HISTORY_FILE, schedule, options.run.logging_steps)
    callbacks: list[Any] = [log]
    best = None
    if evaluation.load_best_model_at_end:
        best = BestPrompt(model, output / BEST, evaluation.metric_for_best_model or setup.task.scores.main)
    if evaluation.evaluation_strategy != "no":
        steps = evaluation.eval_steps if evaluation.evaluation_strategy == "steps" else None
        callbacks.append(
            Evaluations(partial(score, setup, model, plan.chosen_by), output / EVALUATIONS_FILE, steps, log, best)
        )
    checkpoints = Checkpoints(plan.request, options.run, output, log)
    trainer = make_trainer(model, loaded.loader, options, setup.device, [*callbacks, checkpoints], schedule)
    if plan.start is not None:
        trainer.load_checkpoint(plan.start)
        if plan.finished and best is not None:
            best.recover(output, plan.finished["best_step"], trainer.global_forward_batches)
        if plan.finished and is_first():
            (output / METRICS_FILE).unlink()  # from here on the run is not finished
        print(f"resuming from {plan.start}", file=sys.stderr)
    try:
        with _stop_on_signals(checkpoints):
            trainer.run(catch_KeyboardInterrupt=False)
    except KeyboardInterrupt as stop:
        model.save_pretrained(output)
        raise Interrupted(
            f"Stopped at step {trainer.global_forward_batches}; the prompt so far is in {output}."
        ) from stop
    metrics: dict[str, Any] = {
        "train_samples": len(plan.data),
        "train_samples_at_max_length": loaded.at_max_length,
        "steps": steps_taken(trainer),
        "train_seconds": round(log.train_seconds, 3),
        "samples_per_second": round(log.samples_per_second(log.train_seconds), 2),
        "seconds_to_first_step": round(log.seconds_to_first_step, 3),
    }
    if best is not None:
        best.restore()
        metrics |= {"best_step": best.step, "best_metric": best.metric, "best_chosen_on": _chosen_on(evaluation)}
    model.save_pretrained(output)
    return metrics


@contextmanager
def _stop_on_signals(checkpoints: Checkpoints) -> Iterator[None]:
    """SIGTERM lets the step end, writes a checkpoint, and ends the run; Ctrl-C ends it at once, or after the step."""
    if threading.current_thread() is not threading.main_thread():  # signals are not ours to handle
        yield
        return

    def request_stop(signum: int, frame: Any) -> None:
        checkpoints.stop_requested = True

    def interrupt(signum: int, frame: Any) -> None:
        checkpoints.interrupted = True
        raise KeyboardInterrupt

    handlers = {signal.SIGTERM: request_stop}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody handles or ignores it
        handlers[signal.SIGINT] = interrupt
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _chosen_on(options: EvaluationOptions) -> str:
    if options.selection_samples:
        return f"{options.selection_samples} training examples set apart"
    return "the evaluation split, the same that is reported"
