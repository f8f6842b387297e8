"""Gradient accumulation in fastNLP's Trainer: every batch counts, those of a last, shorter group too.

With `accumulation_steps=N` fastNLP divides every loss by N and steps after every N-th batch, so the batches left at the
end of a run never become a step: with fewer batches than N nothing trains at all. And when training resumes from a
checkpoint within a group, the gradients of the group's first batches are lost.

Here a group ends after N batches or with the run, its step is that of the mean of its batches' losses, and a checkpoint
holds its gradients so far. As in fastNLP, groups do not end with an epoch.

A run may end within an epoch, after the steps of `end_after`; fastNLP's `n_batches` goes on to the end of the epoch.
"""

import functools
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

_STATE = "fastprompt.accumulation"  # a checkpoint's entry, beside those of the callbacks
_FIRST = "_fastprompt_first_batch"  # on a trainer: where its first group begins
_LAST = "_fastprompt_last_batch"  # on a trainer: the batches after which it ends, within an epoch or not
_RESTORED = "_fastprompt_restored"  # on a trainer: the entry of the checkpoint that it resumes from


def total_batches(trainer: Any) -> int:
    """The batches of a whole run: fastNLP rounds its `n_batches` up to whole epochs."""
    return getattr(trainer, _LAST, None) or trainer.n_epochs * trainer.num_batches_per_epoch


def end_after(trainer: Any, steps: int) -> None:
    """End the run of a trainer with `n_batches`, which is those of so many optimizer steps, there."""
    setattr(trainer, _LAST, steps * trainer.accumulation_steps)


def ends_within_epoch(trainer: Any) -> bool:
    """Whether the batch that was just trained on is the run's last, and not its epoch's."""
    done = trainer.global_forward_batches
    return done == total_batches(trainer) and done % trainer.num_batches_per_epoch != 0


def total_steps(trainer: Any) -> int:
    """The optimizer steps of a whole run."""
    return -(-total_batches(trainer) // trainer.accumulation_steps)


def steps_taken(trainer: Any) -> int:
    """The optimizer steps so far; right between two batches."""
    done = trainer.global_forward_batches
    return total_steps(trainer) if done == total_batches(trainer) else done // trainer.accumulation_steps


def _group(trainer: Any, batch: int) -> tuple[int, int]:
    """(the first batch, the last one + 1) of the group that a batch belongs to; batches are counted from 0.

    A run that resumes without the gradients of a group's first batches begins a group of its own.
    """
    every = trainer.accumulation_steps
    start = batch // every * every
    end = min(start + every, total_batches(trainer))
    return max(start, getattr(trainer, _FIRST, 0)), max(end, batch + 1)


def _is_last(trainer: Any) -> bool:
    """Whether the current batch is its group's last."""
    batch = trainer.global_forward_batches
    return batch + 1 == _group(trainer, batch)[1]


def step_with_every_batch(module: ModuleType) -> None:
    """Make fastNLP's Trainer do so. Can go when fastNLP does."""
    trainer = module.Trainer
    run_begins, epoch_begins = trainer.on_train_begin, trainer.on_train_epoch_begin
    batch_ends = trainer.on_train_batch_end
    save, load = trainer.on_save_checkpoint, trainer.on_load_checkpoint

    @functools.wraps(trainer.backward)
    def backward(self: Any, outputs: Any) -> None:
        start, end = _group(self, self.global_forward_batches)
        self.on_before_backward(outputs)
        self.driver.backward(self.extract_loss_from_outputs(outputs) / (end - start))
        self.on_after_backward()

    @functools.wraps(trainer.step)
    def step(self: Any) -> None:
        if _is_last(self):
            self.on_before_optimizers_step(self.optimizers)
            self.driver.step()
            self.on_after_optimizers_step(self.optimizers)

    @functools.wraps(trainer.zero_grad)
    def zero_grad(self: Any) -> None:
        if _is_last(self):
            self.on_before_zero_grad(self.optimizers)
            self.driver.zero_grad()
            self.on_after_zero_grad(self.optimizers)

    @functools.wraps(trainer.get_no_sync_context)
    def get_no_sync_context(self: Any) -> AbstractContextManager:
        return nullcontext() if _is_last(self) else self.driver.get_model_no_sync_context()()

    @functools.wraps(save)
    def on_save_checkpoint(self: Any) -> dict:
        start, done = _group(self, self.global_forward_batches)[0], self.global_forward_batches
        states = save(self)
        if start < done < total_batches(self):
            states[_STATE] = {"start": start, "gradients": _gradients(self.driver)}
        return states

    @functools.wraps(load)
    def on_load_checkpoint(self: Any, states: dict) -> None:
        setattr(self, _RESTORED, states.pop(_STATE, None))
        load(self, states)
        model = self.driver.unwrap_model()
        if hasattr(model, "first_step_checked"):
            model.first_step_checked = True  # it has taken steps; under jittor a check rounds the next one differently

    @functools.wraps(run_begins)
    def on_train_begin(self: Any) -> None:
        restored = getattr(self, _RESTORED, None)
        setattr(self, _FIRST, restored["start"] if restored else self.global_forward_batches)
        run_begins(self)

    @functools.wraps(epoch_begins)
    def on_train_epoch_begin(self: Any) -> None:
        # not in on_train_begin, after which the Trainer drops all gradients
        if restored := vars(self).pop(_RESTORED, None):
            _set_gradients(self.driver, restored["gradients"])
        epoch_begins(self)

    @functools.wraps(batch_ends)
    def on_train_batch_end(self: Any) -> None:
        batch_ends(self)
        if ends_within_epoch(self):
            raise module.EarlyStopException(f"{total_batches(self)} batches are done")

    trainer.on_train_batch_end = on_train_batch_end
    trainer.backward, trainer.step, trainer.zero_grad = backward, step, zero_grad
    trainer.get_no_sync_context = get_no_sync_context
    trainer.on_save_checkpoint, trainer.on_load_checkpoint = on_save_checkpoint, on_load_checkpoint
    trainer.on_train_begin, trainer.on_train_epoch_begin = on_train_begin, on_train_epoch_begin


def _gradients(driver: Any) -> dict[str, Any]:
    """The accumulated gradients by their parameters' names; of several processes, their sum."""
    from fastprompt.framework import nn, ops, optim

    found = {
        name: optim.gradient(parameter, driver.optimizers)
        for name, parameter in nn.named_parameters(driver.unwrap_model()).items()
        if nn.is_trainable(parameter)
    }
    own = {name: ops.to_numpy(gradient) for name, gradient in found.items() if gradient is not None}
    parts = driver.all_gather(own, None) if driver.is_distributed() else [own]
    names = dict.fromkeys(name for part in parts for name in part)
    # tensors, not arrays: torch.load refuses those
    return {name: ops.tensor(sum(part[name] for part in parts if name in part)) for name in names}


def _set_gradients(driver: Any, gradients: dict[str, Any]) -> None:
    """Put back what `_gradients` found; of several processes the first gets it, and the others begin without."""
    from fastprompt.framework import nn, optim

    if driver.is_distributed() and not driver.is_global_zero():
        return
    parameters = nn.named_parameters(driver.unwrap_model())
    for name, gradient in gradients.items():
        optim.set_gradient(parameters[name], gradient, driver.optimizers)
