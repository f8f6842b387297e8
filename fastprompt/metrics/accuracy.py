"""Accuracy: the share of examples that are right."""

from fastprompt.metrics.gathering import PredictionMetric

import numpy


class Accuracy(PredictionMetric):
    """{"accuracy"}."""

    def compare(self, pred: numpy.ndarray, target: numpy.ndarray) -> dict[str, float]:
        return {"accuracy": float((pred == target).mean())}
