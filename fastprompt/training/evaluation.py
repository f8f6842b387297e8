"""Evaluations during training, and the prompt that scored best in them."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastprompt.drivers.common.accumulation import ends_within_epoch
from fastprompt.errors import CheckpointError
from fastprompt.launch.world import is_first
from fastprompt.models.base import PromptModel
from fastprompt.saving import prompt_file
from fastprompt.saving.run_folder import EVALUATIONS_FILE
from fastprompt.training.progress import RunLog, reopen

from fastNLP import Callback
from fastNLP.core.utils.exceptions import EarlyStopException


class BestPrompt:
    """Saves the prompt of the best evaluation so far in a folder of its own.

    Args:
        metric: the score that counts, the higher the better, but for "loss".
        tie_breaker: another, which decides between two prompts that are equal in it.
        patience: the training ends after so many evaluations that are no better; None: it does not.

    Attributes:
        step: of the best evaluation; None before the first.
        scores: its scores.
    """

    def __init__(
        self,
        model: PromptModel,
        directory: Path,
        metric: str,
        tie_breaker: str | None = None,
        patience: int | None = None,
    ) -> None:
        self.model = model
        self.directory = directory
        self.metric = metric
        self.tie_breaker = tie_breaker
        self.patience = patience
        self.step: int | None = None
        self.scores: dict[str, float] = {}
        self._missed = 0

    def offer(self, step: int, scores: dict[str, float]) -> None:
        """Save the prompt as it is now if it scored better than any before.

        Raises:
            EarlyStopException: fastNLP's, once `patience` has run out.
        """
        if self.step is None or self._sort_key(scores) > self._sort_key(self.scores):
            self.step, self.scores, self._missed = step, scores, 0
            self.model.save_pretrained(self.directory)
            return
        self._missed += 1
        if self._missed == self.patience:
            raise EarlyStopException(f"{self._missed} evaluations in a row are no better than that at step {self.step}")

    def _sort_key(self, scores: dict[str, float]) -> list[float]:
        return [-scores[name] if name == "loss" else scores[name] for name in (self.metric, self.tie_breaker) if name]

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "scores": self.scores, "missed": self._missed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.scores, self._missed = state["step"], state["scores"], state["missed"]

    def recover(self, finished: Path, best_step: int, at_step: int) -> None:
        """Restore the folder of the best prompt so far for a finished run that trains on: its end removed it.

        Args:
            finished: the run's folder, with its prompt, its evaluations and its checkpoints.
            best_step: the step that the run's prompt is of.
            at_step: the step that the run goes on from.

        Raises:
            CheckpointError: the best prompt up to that step is not there any more.
        """
        source = finished
        if best_step <= at_step:
            lines = map(json.loads, (finished / EVALUATIONS_FILE).read_text(encoding="utf-8").splitlines())
            scores = next(line for line in lines if line["step"] == best_step)
            self.step, self.scores = best_step, {k: v for k, v in scores.items() if k not in ("step", "epoch")}
        elif self.step is not None:
            source = finished / f"checkpoint-{self.step}"
        else:
            return
        if not prompt_file.is_prompt(source):
            raise CheckpointError(
                f"The best prompt so far, of step {self.step}, is not in {finished} any more; train from the start in "
                f"another folder."
            )
        if is_first():
            self.directory.mkdir(exist_ok=True)
            for name in (prompt_file.CONFIG_FILE, prompt_file.TENSOR_FILE):
                shutil.copyfile(source / name, self.directory / name)

    def restore(self) -> None:
        """Give the model the best prompt back; its folder goes.

        The first of several processes has it, as their drivers will when they are set up again.
        """
        if not is_first():
            return
        self.model.load_prompt(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


class Evaluations(Callback):
    """Evaluates while training; each evaluation is a line of `file`: "step", "epoch" and the scores.

    Args:
        score: evaluates, and gives the scores by name.
        every: steps between two evaluations; None evaluates at the end of every epoch, and of the training.
        log: the run's, which does not count the time of an evaluation as training.
        best: what is offered every evaluation.
    """

    def __init__(
        self, score: Callable[[], dict[str, float]], file: Path, every: int | None, log: RunLog, best: BestPrompt | None
    ) -> None:
        super().__init__()
        self.score = score
        self.file = file
        self.every = every
        self.log = log
        self.best = best
        self.lines = 0

    def on_save_checkpoint(self, trainer: Any) -> dict[str, Any]:
        return {"lines": self.lines, "best": None if self.best is None else self.best.state_dict()}

    def on_load_checkpoint(self, trainer: Any, states: dict[str, Any]) -> None:
        self.lines = states["lines"]
        if self.best is not None:
            self.best.load_state_dict(states["best"])

    def on_train_begin(self, trainer: Any) -> None:
        reopen(self.file, self.lines).close()

    def on_train_batch_end(self, trainer: Any) -> None:
        last = self.every is None and ends_within_epoch(trainer)
        if last or (self.every and trainer.global_forward_batches % self.every == 0):
            self._evaluate(trainer)

    def on_train_epoch_end(self, trainer: Any) -> None:
        if self.every is None:
            self._evaluate(trainer)

    def _evaluate(self, trainer: Any) -> None:
        started = time.perf_counter()
        scores = self.score()
        trainer.driver.set_model_mode("train")
        step = trainer.global_forward_batches
        line = {"step": step, "epoch": round(step / trainer.num_batches_per_epoch, 3), **scores}
        if is_first():
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self.lines += 1
        summary = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        print(f"evaluation at step {step}: {summary}", file=sys.stderr, flush=True)
        try:
            if self.best is not None:
                self.best.offer(step, scores)
        finally:  # training time counts on even where the training ends here
            self.log.leave_out(time.perf_counter() - started)
