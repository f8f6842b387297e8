"""Matthews' correlation of classes, GLUE's score of CoLA."""

from fastprompt.metrics.gathering import PredictionMetric

import numpy
from sklearn.metrics import matthews_corrcoef


class MatthewsCorrelation(PredictionMetric):
    """{"matthews_correlation"}: from -1 to 1; 0 where all predictions or all targets are of one class."""

    def compare(self, pred: numpy.ndarray, target: numpy.ndarray) -> dict[str, float]:
        return {"matthews_correlation": float(matthews_corrcoef(target, pred))}
