"""A recipe -> a fastNLP Trainer; the driver of a device; evaluation."""

from typing import Any

from fastprompt.framework import driver
from fastprompt.metrics.loss import MeanLoss
from fastprompt.optimization import AdamW, LearningRateSchedule
from fastprompt.options import TrainOptions

from fastNLP import Evaluator, Metric, Trainer
from fastNLP.core.log import logger


def get_driver(model: Any, device: str = "cpu") -> Any:
    """A fastNLP driver of this process's framework for `Trainer(driver=...)` and `Evaluator(driver=...)`.

    Args:
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        BackendError: there is no such device.
    """
    return driver.get_driver(model, device)


def make_trainer(
    model: Any,
    loader: Any,
    options: TrainOptions,
    device: str,
    callbacks: list[Any],
    schedule: LearningRateSchedule,
    evaluation: dict[str, Any] | None = None,
) -> Trainer:
    """The Trainer of `fastprompt train`: AdamW on what the method tunes, and the schedule before every step.

    Args:
        evaluation: what the Trainer is to be told of evaluation between epochs: evaluate_dataloaders and metrics.
    """
    logger.setLevel("ERROR")  # a run's own lines come from RunLog
    return Trainer(
        model=model,
        driver=get_driver(model, device),
        device=None,
        train_dataloader=loader,
        optimizers=AdamW(model.trainable_parameters(), lr=options.learning_rate, weight_decay=options.weight_decay),
        n_epochs=options.num_train_epochs,
        accumulation_steps=options.gradient_accumulation_steps,
        callbacks=[schedule, *callbacks],
        progress_bar=None,
        **(evaluation or {}),
    )


def evaluate(model: Any, loader: Any, device: str, metrics: dict[str, Metric]) -> dict[str, float]:
    """The scores of `metrics` and the mean "loss" on a loader's examples."""
    logger.setLevel("ERROR")
    found = Evaluator(
        model=model,
        driver=get_driver(model, device),
        device=None,
        dataloaders=loader,
        metrics={**metrics, "loss": MeanLoss()},
        progress_bar=None,
        verbose=0,
    ).run()
    return {name.partition("#")[0]: float(value) for name, value in found.items()}
