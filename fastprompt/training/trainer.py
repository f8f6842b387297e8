"""A recipe -> a fastNLP Trainer; the driver of a device; evaluation."""

from typing import Any

from fastprompt.drivers.common.accumulation import end_after
from fastprompt.errors import BackendError
from fastprompt.framework import backend, driver, runtime
from fastprompt.launch.world import check_meeting, launcher_of, world
from fastprompt.metrics.loss import MeanLoss
from fastprompt.options.groups import TrainingOptions
from fastprompt.options.train import TrainOptions
from fastprompt.training.optimization import AdamW, ClipGradients, LearningRateSchedule

from fastNLP import Callback, Evaluator, Metric, Trainer
from fastNLP.core.log import logger


def get_driver(model: Any, device: str = "cpu", fsdp: bool = False, fp16: bool = False) -> Any:
    """A fastNLP driver of this process's framework for `Trainer(driver=...)` and `Evaluator(driver=...)`.

    In a process that the framework's launcher started (torchrun, python -m paddle.distributed.launch, mpirun) it is one
    of several that train together, and waits for the others.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        fsdp: shard the blocks of a frozen backbone among the processes, for good (torch).
        fp16: train in mixed precision, with the loss scaled so that no gradient gets lost (torch; paddle on a GPU).

    Raises:
        BackendError: there is no such device, several are named, another framework's launcher started the process,
            nothing says where several processes meet, or fsdp or fp16 is asked of a framework that has none.
        ConfigError: the backbone cannot be sharded, or there is one process alone.
    """
    if not isinstance(device, str):
        raise BackendError(
            f"device is {device!r}; each of several devices has a process of its own, which asks for 'cuda': start "
            f"them with {launcher_of(backend())}, or with fastprompt train --num_processes."
        )
    if (started := world().framework) not in (None, backend()):
        raise BackendError(
            f"{launcher_of(started)} started this process, which runs on {backend()}; "
            f"start it with {launcher_of(backend())}."
        )
    check_meeting()
    return driver.get_driver(model, device, fsdp, fp16)


class SeededSteps(Callback):
    """Seeds every step by its number: what is drawn (dropout) is the same whatever ran between the steps, be it an
    evaluation or a new start from a checkpoint."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_train_batch_begin(self, trainer: Any, batch: Any, indices: Any) -> None:
        # 7919 apart: every process draws its own.
        runtime.seed((self.seed * 1_000_003 + trainer.global_forward_batches + 7919 * world().rank) % 2**31)


def make_schedule(options: TrainingOptions) -> LearningRateSchedule:
    """The schedule of `fastprompt train`; its height is the largest rate of the groups."""
    height = max(options.learning_rate, options.backbone_learning_rate or 0.0)
    return LearningRateSchedule(height, options.lr_scheduler_type, options.warmup_ratio)


def make_trainer(
    model: Any, loader: Any, options: TrainOptions, device: str, callbacks: list[Any], schedule: LearningRateSchedule
) -> Trainer:
    """The Trainer of `fastprompt train`: AdamW on what the method tunes, the backbone under a prompt at its own rate,
    and the schedule before every step."""
    logger.setLevel("CRITICAL")  # a run's own lines come from RunLog
    training, hardware = options.training, options.hardware
    clipping = [] if training.max_grad_norm is None else [ClipGradients(training.max_grad_norm)]
    trainer = Trainer(
        model=model,
        driver=get_driver(model, device, hardware.fsdp, hardware.fp16),
        device=None,
        train_dataloader=loader,
        optimizers=AdamW(
            model.parameter_groups(training.learning_rate, training.backbone_learning_rate),
            weight_decay=training.weight_decay,
        ),
        n_epochs=training.num_train_epochs,
        n_batches=-1 if training.max_steps is None else training.max_steps * training.gradient_accumulation_steps,
        accumulation_steps=training.gradient_accumulation_steps,
        callbacks=[SeededSteps(options.model.seed), schedule, *clipping, *callbacks],
        progress_bar=None,
    )
    if training.max_steps is not None:
        end_after(trainer, training.max_steps)
    return trainer


def evaluate(model: Any, loader: Any, device: str, metrics: dict[str, Metric], fsdp: bool = False) -> dict[str, float]:
    """The scores of `metrics` and the mean "loss" on a loader's examples; fsdp: see `get_driver`."""
    logger.setLevel("CRITICAL")
    found = Evaluator(
        model=model,
        driver=get_driver(model, device, fsdp),
        device=None,
        dataloaders=loader,
        metrics={**metrics, "loss": MeanLoss()},
        progress_bar=None,
        verbose=0,
    ).run()
    return {name.partition("#")[0]: float(value) for name, value in found.items()}
