"""Progress of a run: a bar on a terminal, plain lines elsewhere, and history.jsonl."""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from fastprompt.errors import TrainingError
from fastprompt.framework import ops
from fastprompt.launch.world import is_first
from fastprompt.saving.files import write_whole
from fastprompt.training.optimization import LearningRateSchedule

from fastNLP import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


def reopen(path: Path, lines: int) -> TextIO:
    """A file opened to append after its first `lines` lines; what followed them is removed.

    Of several processes only the first writes to it; what the others write is discarded.
    """
    if not is_first():
        return Path(os.devnull).open("a")
    head = path.read_bytes().splitlines(keepends=True)[:lines] if lines and path.exists() else []
    write_whole({path: b"".join(head)})
    return path.open("a", encoding="utf-8")


def _of_first(losses: list[float]) -> list[float]:
    """Losses of all processes, as what the first one contributes."""
    return losses if is_first() else [0.0] * len(losses)


class RunLog(Callback):
    """Counts and reports: loss, learning rate, samples per second, time left; those of all processes together.

    Args:
        history: file that gets one JSON line per logged step.
        schedule: whose rate is reported.
        every: steps between two lines.

    Attributes:
        samples: examples that all processes have trained on so far.
        seconds_to_first_step: from the start of training to the end of its first step, in which a framework may
            compile.

    Raises:
        TrainingError: the loss is no finite number.
    """

    def __init__(self, history: Path, schedule: LearningRateSchedule, every: int, stream: TextIO | None = None) -> None:
        super().__init__()
        self.history = history
        self.schedule = schedule
        self.every = every
        self.stream = stream or sys.stderr
        self.samples = 0
        self.samples_of_first_step = 0
        self.seconds_to_first_step: float | None = None
        self.losses: list[Any] = []  # since the last line; what this process contributes to each
        self.lines = 0
        self.seconds_before = 0.0  # of a run that this one goes on with
        self.bar: Progress | None = None

    def on_save_checkpoint(self, trainer: Any) -> dict[str, Any]:
        return {
            "lines": self.lines,
            "samples": self.samples,
            "samples_of_first_step": self.samples_of_first_step,
            "seconds": time.perf_counter() - self.started,
            "seconds_to_first_step": self.seconds_to_first_step,
            "losses": self._losses(),
        }

    def on_load_checkpoint(self, trainer: Any, states: dict[str, Any]) -> None:
        self.lines, self.samples, self.seconds_before = states["lines"], states["samples"], states["seconds"]
        self.seconds_to_first_step = states["seconds_to_first_step"]
        self.samples_of_first_step = states.get("samples_of_first_step", 0)  # the first checkpoints had none
        self.losses = _of_first(states["losses"])

    def on_train_begin(self, trainer: Any) -> None:
        self.driver = trainer.driver
        self.started = time.perf_counter() - self.seconds_before
        self.file = reopen(self.history, self.lines)
        if self.stream.isatty():
            columns = (
                *(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}")),
                *(TextColumn("{task.fields[state]}"), TimeRemainingColumn()),
            )
            self.bar = Progress(*columns, console=Console(file=self.stream))
            self.task = self.bar.add_task("training", total=trainer.n_batches, state="")
            self.bar.start()

    def samples_per_second(self, seconds: float) -> float:
        """The rate after the first step, once so many seconds are spent on training; of one step its own."""
        samples, after = self.samples - self.samples_of_first_step, seconds - (self.seconds_to_first_step or 0.0)
        return samples / after if samples and after > 0 else self.samples / seconds

    def leave_out(self, seconds: float) -> None:
        """Do not count so many seconds as training."""
        self.started += seconds

    def on_train_batch_begin(self, trainer: Any, batch: dict, indices: Any) -> None:
        self.samples += indices.total
        self.weight = indices.weight

    def on_before_backward(self, trainer: Any, outputs: dict) -> None:
        loss = outputs["loss"]
        self.losses.append(loss if self.weight is None else loss * self.weight)

    def on_train_batch_end(self, trainer: Any) -> None:
        self.steps = step = trainer.global_forward_batches
        if self.seconds_to_first_step is None:
            ops.to_numpy(self.losses[-1])  # waits for frameworks that compute asynchronously
            self.seconds_to_first_step = time.perf_counter() - self.started
            self.samples_of_first_step = self.samples
        if step % self.every == 0 or step == trainer.n_batches:
            self._log(step, trainer.n_batches)
        if self.bar is not None:
            self.bar.update(self.task, completed=step)

    def check(self) -> None:
        """For all processes at once. Raises: TrainingError: a loss since the last line is no finite number."""
        self._losses()

    def _losses(self) -> list[float]:
        own = [float(x if isinstance(x, float) else ops.to_numpy(x).item()) for x in self.losses]
        losses = [sum(parts) for parts in zip(*self.driver.all_gather(own, None), strict=True)]
        self.losses = _of_first(losses)
        for age, loss in zip(range(len(losses) - 1, -1, -1), losses, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(f"The loss is {loss} at step {self.steps - age}; lower the learning rate.")
        return losses

    def _log(self, step: int, total: int) -> None:
        losses = self._losses()
        loss = sum(losses) / len(losses)
        self.losses.clear()
        self.lines += 1
        line = {"step": step, "loss": loss, "learning_rate": self.schedule.current}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        elapsed = time.perf_counter() - self.started
        rate = self.samples_per_second(elapsed)
        state = f"loss {loss:.4f}  lr {self.schedule.current:.2e}  {rate:.0f} samples/s"
        if self.bar is not None:
            self.bar.update(self.task, state=state)
        else:
            remaining = int(elapsed * (total - step) / step)
            print(
                f"step {step}/{total}  {state}  {remaining // 60}:{remaining % 60:02d} left",
                file=self.stream,
                flush=True,
            )

    def on_train_end(self, trainer: Any) -> None:
        self.train_seconds = time.perf_counter() - self.started
        if self.bar is not None:
            self.bar.stop()
        self.file.close()
