"""The optimizer of this process's framework; learning-rate schedules and clipping as fastNLP callbacks."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from fastprompt.drivers.common.accumulation import total_steps
from fastprompt.drivers.common.parameters import tuned_by
from fastprompt.errors import ConfigError
from fastprompt.framework import ops, optim
from fastprompt.methods.checks import positive, share

from fastNLP import Callback

AdamW = optim.AdamW

_GAMMA = 0.95  # per epoch


def linear(step: int, total: int, warmup: int, per_epoch: Fraction) -> float:
    """Up from 0 over `warmup` steps, then down to 0 at `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (total - step) / max(1, total - warmup))


def constant(step: int, total: int, warmup: int, per_epoch: Fraction) -> float:
    """Up from 0 over `warmup` steps, then level."""
    return min(1.0, (step + 1) / (warmup + 1))


def exponential(step: int, total: int, warmup: int, per_epoch: Fraction) -> float:
    """Times 0.95 from epoch to epoch, after the warm-up."""
    return constant(step, total, warmup, per_epoch) * _GAMMA ** (step // per_epoch)


SCHEDULES: dict[str, Callable[[int, int, int, Fraction], float]] = {
    "linear": linear,
    "constant": constant,
    "exponential": exponential,
}


class LearningRateSchedule(Callback):
    """Sets the learning rate before every step. Groups of parameters keep the ratios of their rates: the largest gets
    the schedule's, the others less in proportion.

    Args:
        name: "linear", "constant" or "exponential".
        warmup_ratio: the share of all steps over which it rises from 0.
        learning_rate: the rate at the schedule's height.
    """

    def __init__(self, learning_rate: float, name: str = "linear", warmup_ratio: float = 0.0) -> None:
        super().__init__()
        if name not in SCHEDULES:
            raise ConfigError(f"The schedule is {name!r}; it is one of {', '.join(SCHEDULES)}.")
        share("warmup_ratio", warmup_ratio)
        positive("learning_rate", learning_rate)
        self.name = name
        self.warmup_ratio = warmup_ratio
        self.learning_rate = learning_rate
        self.current = 0.0
        self.ratios: list[list[float]] | None = None  # of each optimizer's groups

    def on_save_checkpoint(self, trainer: Any) -> dict[str, Any]:
        return {"current": self.current, "ratios": self.ratios}

    def on_load_checkpoint(self, trainer: Any, states: dict[str, Any]) -> None:
        self.current, self.ratios = states["current"], states.get("ratios")  # the first checkpoints had none

    def on_train_begin(self, trainer: Any) -> None:
        if self.ratios is None:
            rates = [optim.learning_rates(optimizer) for optimizer in trainer.driver.optimizers]
            largest = max(rate for own in rates for rate in own) or 1.0
            self.ratios = [[rate / largest for rate in own] for own in rates]

    def on_before_optimizers_step(self, trainer: Any, optimizers: Any) -> None:
        every = trainer.accumulation_steps
        total = total_steps(trainer)
        step = trainer.global_forward_batches // every
        per_epoch = Fraction(trainer.num_batches_per_epoch, every)
        height = SCHEDULES[self.name](step, total, round(total * self.warmup_ratio), per_epoch)
        self.current = self.learning_rate * height
        for optimizer, ratios in zip(trainer.driver.optimizers, self.ratios, strict=True):
            optim.set_learning_rate(optimizer, self.current, ratios)


class ClipGradients(Callback):
    """Scales the gradients of a step down to a norm of `max_norm` in all, where theirs is larger (Pascanu et al., 2013,
    arXiv:1211.5063), as `torch.nn.utils.clip_grad_norm_` does; fastNLP's own callback for it is of torch alone."""

    def __init__(self, max_norm: float) -> None:
        super().__init__()
        positive("max_grad_norm", max_norm)
        self.max_norm = max_norm

    def on_before_optimizers_step(self, trainer: Any, optimizers: Any) -> None:
        driver = trainer.driver
        if hasattr(driver, "grad_scaler"):
            for optimizer in driver.optimizers:
                driver.grad_scaler.unscale_(optimizer)
        gradients = [(p, optim.gradient(p, driver.optimizers)) for p in tuned_by(driver)]
        gradients = [(p, g) for p, g in gradients if g is not None]
        norm = sum(ops.to_numpy((g * g).sum()).item() for _, g in gradients) ** 0.5
        if norm <= self.max_norm:
            return
        for parameter, gradient in gradients:
            optim.set_gradient(parameter, gradient * (self.max_norm / (norm + 1e-6)), driver.optimizers)
