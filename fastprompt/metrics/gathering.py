"""Scores over all examples at once, those of every process included."""

from abc import abstractmethod
from typing import Any

from fastprompt.errors import DataError
from fastprompt.framework import backend, ops

import numpy
from fastNLP import Metric


class GatheredMetric(Metric):
    """A fastNLP metric that collects one row per example and scores the rows of all processes together.

    Neither a correlation nor F1 is a sum of what the examples contribute, and fastNLP's own elements are sums, in
    float32. A process that got no example takes part too.

    Attributes:
        rows: what `update` collects, picklable, one per example.
    """

    def __init__(self) -> None:
        super().__init__(backend=backend())  # not "auto", which waits for a tensor that may never come
        self.rows: list[Any] = []
        self.reset()

    def reset(self) -> None:
        self.rows.clear()
        self._updated = True  # else fastNLP refuses to score a process without examples

    def get_metric(self) -> dict[str, float]:
        """The scores by their names in metrics.json.

        Raises:
            DataError: no process has an example.
        """
        rows = [row for part in self.all_gather_object(self.rows) for row in part]
        if not rows:
            raise DataError("There are no examples to score; the evaluation set is empty.")
        return self.score(rows)

    @abstractmethod
    def score(self, rows: list[Any]) -> dict[str, float]:
        """Scores of all rows."""


class PredictionMetric(GatheredMetric):
    """A score of predictions against targets, one number an example each."""

    def update(self, pred: Any, target: Any) -> None:
        """Args: pred, target: (B,) class indices, or numbers for a regression."""
        self.rows.extend(zip(_values(pred), _values(target), strict=True))

    def score(self, rows: list[tuple[float, float]]) -> dict[str, float]:
        pred, target = (numpy.array(column) for column in zip(*rows, strict=True))
        return self.compare(pred, target)

    @abstractmethod
    def compare(self, pred: numpy.ndarray, target: numpy.ndarray) -> dict[str, float]:
        """Scores of predictions (N,) against targets (N,)."""


def _values(x: Any) -> list[float]:
    return ops.to_numpy(x).reshape(-1).tolist()
