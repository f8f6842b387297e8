"""F1 of classes."""

from fastprompt.metrics.gathering import PredictionMetric

import numpy
from sklearn.metrics import f1_score


class F1(PredictionMetric):
    """{"f1"}: 0 where precision and recall are both 0 or undefined.

    Args:
        average: "binary" for F1 of class 1 (GLUE's MRPC and QQP), "macro" for the mean over classes (SuperGLUE's CB).
    """

    def __init__(self, average: str = "binary") -> None:
        super().__init__()
        self.average = average

    def compare(self, pred: numpy.ndarray, target: numpy.ndarray) -> dict[str, float]:
        return {"f1": float(f1_score(target, pred, average=self.average, zero_division=0.0))}
