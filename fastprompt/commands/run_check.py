"""`fastprompt doctor --run DIR`: why a run did not learn, as far as its files show it.

Every finding names the numbers that it rests on and the file that holds them; what the files do not hold is not judged.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from fastprompt.errors import CheckpointError
from fastprompt.methods.registry import METHODS
from fastprompt.pretrained.checkpoint import read_json
from fastprompt.saving import prompt_file
from fastprompt.saving.run_folder import EVALUATIONS_FILE, HISTORY_FILE, METRICS_FILE, PREDICTIONS_FILE

_FEW_LINES = 6  # of history, from which nothing can be read of a course
_FEW_STEPS = 100
_FAR = 3.0  # a rate that is so many times the method's default, or less than that part of it, is far from it
_FLAT = 0.05  # a loss that changes by less than this share is flat
_LATE = 1 / 3  # the last third of a training that is done makes less than this part of the loss's fall
_ONE_CLASS = 0.95
_CUT = 0.1


@dataclass(frozen=True)
class Finding:
    """What is wrong, the numbers that show it, and what to change."""

    what: str
    evidence: str
    fix: str


@dataclass
class Run:
    """A run's files, as far as they are there."""

    folder: Path
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    evaluations: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    saved: prompt_file.SavedPrompt | None

    @property
    def rate(self) -> float:
        """The highest learning rate so far: the schedule's own where the run is past its warm-up."""
        return max(line["learning_rate"] for line in self.history)

    @property
    def chance(self) -> float | None:
        """The loss of a guess among the classes; None where the task has none."""
        saved = self.saved
        if saved is None or saved.task != "sequence_classification" or saved.num_labels < 2:
            return None
        return math.log(saved.num_labels) if saved.problem_type in (None, "single_label_classification") else None

    def thirds(self) -> list[float]:
        """The mean losses of the first, the second and the last third of the history."""
        losses = [line["loss"] for line in self.history]
        size = len(losses) // 3
        return [fmean(losses[:size]), fmean(losses[size:-size]), fmean(losses[-size:])]


def read_run(directory: str | Path) -> Run:
    """Raises: CheckpointError: the folder holds no history, or a line of a file is cut."""
    folder = Path(directory).expanduser()
    if not (folder / HISTORY_FILE).is_file():
        raise CheckpointError(f"{folder} holds no {HISTORY_FILE}; name the --output_dir of a training.")
    return Run(
        folder,
        _lines(folder / HISTORY_FILE),
        read_json(folder / METRICS_FILE) if (folder / METRICS_FILE).exists() else {},
        _lines(folder / EVALUATIONS_FILE),
        _lines(folder / PREDICTIONS_FILE),
        prompt_file.read_description(folder) if prompt_file.is_prompt(folder) else None,
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{path}, line {number} is no JSON object; the file is damaged.") from error
    return found


def findings(run: Run) -> list[Finding]:
    return [*_ended(run), *_course(run), *_one_class(run), *_truncation(run), *_overfitting(run)]


def _ended(run: Run) -> Iterator[Finding]:
    if not run.metrics:
        last = run.history[-1]["step"] if run.history else 0
        yield Finding(
            "the run did not finish",
            f"no {METRICS_FILE}; the last line of {HISTORY_FILE} is of step {last}",
            "--resume_from_checkpoint last; lower --learning_rate if it ended with a loss that is no number",
        )
    if len(run.history) < _FEW_LINES:
        yield Finding(
            "too few lines of history to judge the loss by",
            f"{HISTORY_FILE} has {len(run.history)}",
            "train again with a smaller --logging_steps, or longer: --num_train_epochs",
        )


def _course(run: Run) -> Iterator[Finding]:
    """What the course of the loss says: it rises, is flat, or still falls at the end."""
    if len(run.history) < _FEW_LINES:
        return
    first, middle, last = run.thirds()
    worst = max(run.history, key=lambda line: line["loss"])
    shown = f"mean loss of the thirds of {HISTORY_FILE}: {first:.4f}, {middle:.4f}, {last:.4f}"
    if last > first * (1 + _FLAT):
        yield Finding(
            "the loss rises: the learning rate is too large",
            f"{shown}; {worst['loss']:.4f} at step {worst['step']}; the highest rate is {run.rate:g}",
            f"--learning_rate {run.rate / 3:.1g}",
        )
    elif last > first * (1 - _FLAT):
        at_chance = run.chance is not None and abs(last - run.chance) < _FLAT * run.chance
        guess = f"; a guess among {run.saved.num_labels} classes has {run.chance:.4f}" if at_chance else ""
        cause, fix = _why_flat(run)
        yield Finding(f"the loss is flat{cause}", f"{shown}{guess}{_rate_beside_default(run)}", fix)
    elif middle - last > _LATE * (first - last):
        yield Finding(
            "the loss still falls at the end: the training is short",
            f"{shown}; {run.history[-1]['step']} steps",
            "more --num_train_epochs, or --max_steps",
        )


def _default_rate(run: Run) -> float | None:
    if run.saved is not None:
        return run.saved.default_learning_rate
    method = run.metrics.get("method")
    return METHODS[method].learning_rate if method in METHODS else None


def _rate_beside_default(run: Run) -> str:
    default = _default_rate(run)
    return f"; the rate is {run.rate:g}" + (f", the method's default {default:g}" if default else "")


def _why_flat(run: Run) -> tuple[str, str]:
    """(the cause, as the end of a sentence; the fix)"""
    default, steps = _default_rate(run), run.history[-1]["step"]
    if default and run.rate * _FAR < default:
        return ": the learning rate is too small", f"--learning_rate {default:g}"
    if default and run.rate > default * _FAR:
        return ": the learning rate is too large", f"--learning_rate {default:g}"
    if steps < _FEW_STEPS:
        return f": {steps} steps are few", "more --num_train_epochs, or --max_steps"
    return (
        "",
        "another rate (three times as large, a third), a longer prompt, or --method fine-tuning to check the data",
    )


def _one_class(run: Run) -> Iterator[Finding]:
    labels = Counter(line["label"] for line in run.predictions if isinstance(line.get("label"), str))
    fix = "another --learning_rate; if the training data hold one class many times more often, balance them"
    if labels and (total := labels.total()) > 1:
        ((label, count),) = labels.most_common(1)
        if count >= _ONE_CLASS * total and (run.saved is None or run.saved.num_labels > 1):
            yield Finding(
                "one class is predicted nearly always", f"{label!r} {count} of {total} times in {PREDICTIONS_FILE}", fix
            )
    elif run.metrics.get("matthews_correlation") == 0:
        yield Finding("one class is predicted", f"matthews_correlation is 0 in {METRICS_FILE}", fix)


def _truncation(run: Run) -> Iterator[Finding]:
    """Windows of questions fill the longest input as they should, and lose nothing."""
    full, count = run.metrics.get("train_samples_at_max_length", 0), run.metrics.get("train_samples", 0)
    if full > _CUT * count and (run.saved is None or run.saved.task != "question_answering"):
        yield Finding(
            "many texts are cut",
            f"{full} of {count} training examples of {METRICS_FILE} fill all of max_seq_length, "
            f"{run.metrics['max_seq_length']} tokens",
            "a larger --max_seq_length",
        )


def _overfitting(run: Run) -> Iterator[Finding]:
    scored = [line for line in run.evaluations if "loss" in line]
    if len(scored) < 2 or not run.history:
        return
    best, last = min(scored, key=lambda line: line["loss"]), scored[-1]
    if last["loss"] > best["loss"] * (1 + _FLAT) and run.history[-1]["loss"] < best["loss"]:
        yield Finding(
            "it learns the training data by heart",
            f"the evaluation loss of {EVALUATIONS_FILE} rises from {best['loss']:.4f} at step {best['step']} to "
            f"{last['loss']:.4f} at step {last['step']}",
            "--load_best_model_at_end, fewer --num_train_epochs, or a shorter prompt",
        )
