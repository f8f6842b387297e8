"""The best of a training's epochs, kept; and an end to a training that gets no better."""

import sys
from collections.abc import Callable
from typing import Any

from fastprompt.framework import nn, ops

import numpy
from fastNLP import Callback
from fastNLP.core.utils.exceptions import EarlyStopException


class KeepBest(Callback):
    """Keeps the tuned tensors of the evaluation that scored best, of two alike the later.

    Args:
        model: whose tensors.
        score: what an evaluation's scores, by their names in metrics.json, are worth; more is better.
        patience: after so many evaluations without a better one training ends.

    Attributes:
        scores: of the best evaluation; epoch: after which epoch that was.
    """

    def __init__(self, model: Any, score: Callable[[dict[str, float]], Any], patience: int) -> None:
        super().__init__()
        self.model = model
        self.score = score
        self.patience = patience
        self.scores: dict[str, float] | None = None
        self.epoch = 0
        self.tensors: dict[str, numpy.ndarray] = {}

    def on_evaluate_end(self, trainer: Any, results: dict[str, float]) -> None:
        found = {name.partition("#")[0]: float(value) for name, value in results.items()}
        shown = "  ".join(f"{name} {value:.4f}" for name, value in found.items())
        print(f"epoch {trainer.cur_epoch_idx}  {shown}", file=sys.stderr, flush=True)
        if self.scores is None or self.score(found) >= self.score(self.scores):
            self.scores, self.epoch = found, trainer.cur_epoch_idx
            self.tensors = {name: ops.to_numpy(p) for name, p in self.model.tuned_parameters().items()}
        elif trainer.cur_epoch_idx - self.epoch >= self.patience:
            raise EarlyStopException(f"no better score for {self.patience} epochs")

    def restore(self) -> None:
        """Give the model the tensors that were best."""
        tuned = self.model.tuned_parameters()
        for name, value in self.tensors.items():
            nn.set_value(tuned[name], value)
