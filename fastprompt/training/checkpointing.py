"""Checkpoints of a run: OUT/checkpoint-<step>, each written whole or not at all, and resuming from one."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from fastprompt.drivers.common.accumulation import ends_within_epoch
from fastprompt.errors import CheckpointError, FastpromptError
from fastprompt.launch.world import is_first
from fastprompt.options.groups import RunOptions
from fastprompt.saving.trainer_state import read_state
from fastprompt.training.progress import RunLog
from fastprompt.training.same_run import check_same

from fastNLP import Callback

PREFIX = "checkpoint-"


class Terminated(FastpromptError):
    """A run that was stopped from outside, and wrote a checkpoint first."""


class Checkpoints(Callback):
    """Writes checkpoints while training.

    Args:
        request: what the run's numbers depend on; see `training.same_run`.
        output: the run's folder.
        log: the run's, which refuses a loss that is no finite number.

    Attributes:
        stop_requested: set from outside to end the run; the current step ends first, and a checkpoint is written.
        interrupted: set from outside with a KeyboardInterrupt, which is raised again after the step where it got lost:
            Python ignores it in finalizers and in what a framework calls back.
    """

    def __init__(self, request: dict[str, Any], options: RunOptions, output: Path, log: RunLog) -> None:
        super().__init__()
        self.request = request
        self.output = output
        self.log = log
        self.every = (options.save_steps or 500) if options.save_strategy == "steps" else None
        self.epochs = options.save_strategy == "epoch"
        self.limit = options.save_total_limit
        self.stop_requested = self.interrupted = False
        for left in output.glob(f".{PREFIX}*"):  # of a run that died while it wrote
            shutil.rmtree(left, ignore_errors=True)

    def on_save_checkpoint(self, trainer: Any) -> dict[str, Any]:
        return {"options": self.request}

    def on_load_checkpoint(self, trainer: Any, states: dict[str, Any]) -> None:
        """Raises: ConfigError: the run was started with other options or data."""
        if line := check_same(states["options"], self.request, "The checkpoint is of a run"):
            print(f"note: {line}.", file=sys.stderr)

    def on_train_batch_end(self, trainer: Any) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        step = trainer.global_forward_batches
        if self._is_stop_requested(trainer):
            folder = self.save(trainer)
            raise Terminated(
                f"Stopped at step {step} as requested; go on with --resume_from_checkpoint last ({folder})."
            )
        if (self.every and step % self.every == 0) or (self.epochs and ends_within_epoch(trainer)):
            self.save(trainer)

    def _is_stop_requested(self, trainer: Any) -> bool:
        """Whether any process is; several agree on it at the steps at which they talk to each other anyway."""
        if trainer.driver.is_distributed() and trainer.global_forward_batches % self.log.every:
            return False
        return any(trainer.driver.all_gather(self.stop_requested, None))

    def on_train_epoch_end(self, trainer: Any) -> None:
        if self.epochs:
            self.save(trainer)

    def save(self, trainer: Any) -> Path:
        """Write a checkpoint; an older one of the same step is replaced, and those above the limit go.

        Raises:
            CheckpointError: it cannot be written.
            TrainingError: the loss is no finite number; earlier checkpoints stay.
        """
        self.log.check()
        folder = self.output / f"{PREFIX}{trainer.global_forward_batches}"
        unfinished = self.output / f".{folder.name}"
        if not is_first():
            trainer.save_checkpoint(unfinished)
            return folder
        try:
            trainer.save_checkpoint(unfinished)
            if folder.exists():
                _remove(folder)
            unfinished.rename(folder)
            _sync_folder(self.output)
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be written ({error.strerror}); earlier ones are whole.") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        for old in find_checkpoints(self.output)[: -self.limit] if self.limit else ():
            _remove(old)
        return folder


def _remove(folder: Path) -> None:
    """Remove a checkpoint at once: a kill in between leaves none that looks whole and is not."""
    removed = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(removed, ignore_errors=True)
    folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _sync_folder(directory: Path) -> None:
    """Sync a folder to the disk, so that its names are there before anything that follows."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def find_checkpoints(output: str | Path) -> list[Path]:
    """The folders of a run's checkpoints, by their steps; whether they are whole is not looked at."""
    output = Path(output).expanduser()
    found = [path for path in output.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(PREFIX)))


def check_checkpoint(folder: str | Path) -> None:
    """Read a checkpoint through.

    Raises:
        CheckpointError: a file is missing, cut short, or has changed since it was written.
    """
    read_state(Path(folder).expanduser())


def choose(asked: str, output: Path) -> Path | None:
    """The checkpoint that --resume_from_checkpoint means; None where "last" finds none.

    Raises:
        CheckpointError: it is not whole; an earlier one that is, is named.
    """
    found = find_checkpoints(output)
    if asked != "last":
        folder = Path(asked).expanduser()
    elif found:
        folder = found[-1]
    else:
        return None
    try:
        check_checkpoint(folder)
    except CheckpointError as error:
        for other in reversed([path for path in found if path != folder]):
            try:
                check_checkpoint(other)
            except CheckpointError:
                continue
            raise CheckpointError(f"{error} Go on from the one before: --resume_from_checkpoint {other}") from error
        raise
    return folder
