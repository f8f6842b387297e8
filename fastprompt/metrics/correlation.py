"""Correlations of numbers, GLUE's scores of STS-B."""

from fastprompt.errors import TrainingError
from fastprompt.metrics.gathering import PredictionMetric

import numpy
from scipy import stats


class Correlation(PredictionMetric):
    """{name}: from -1 to 1; 0 where it is undefined: fewer than two examples, or all predictions or targets alike."""

    name: str
    correlate: staticmethod

    def compare(self, pred: numpy.ndarray, target: numpy.ndarray) -> dict[str, float]:
        """Raises: TrainingError: a prediction is no finite number."""
        if not numpy.isfinite(pred).all():
            raise TrainingError("A prediction is no finite number; lower the learning rate.")
        if numpy.ptp(pred) == 0 or numpy.ptp(target) == 0:
            return {self.name: 0.0}
        return {self.name: float(self.correlate(pred, target).statistic)}


class Pearson(Correlation):
    """{"pearson"}: how far predictions and targets lie on one line."""

    name = "pearson"
    correlate = staticmethod(stats.pearsonr)


class Spearman(Correlation):
    """{"spearman"}: Pearson's correlation of the ranks; ties share the mean of theirs."""

    name = "spearman"
    correlate = staticmethod(stats.spearmanr)
