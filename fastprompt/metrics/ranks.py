"""LAMA's scores: at which rank the right word stands among the candidates."""

from collections.abc import Sequence
from typing import Any

from fastprompt.framework import ops
from fastprompt.metrics.gathering import GatheredMetric

import numpy


class WordRanks(GatheredMetric):
    """{"p_at_1", "p_at_10", "mrr"}: how often the right word is first, how often among the first ten, and the mean of
    1 / rank.

    Candidates that score as much as the right word stand before it.

    Args:
        candidates: the ids of the words that are ranked; every target is one.
    """

    def __init__(self, candidates: Sequence[int]) -> None:
        super().__init__()
        self.candidates = numpy.asarray(candidates)

    def update(self, logits: Any, target: Any) -> None:
        """Args: logits: (B, vocab_size); target: (B,) ids."""
        logits, target = ops.to_numpy(logits), ops.to_numpy(target)
        right = logits[numpy.arange(len(target)), target]
        self.rows += (logits[:, self.candidates] >= right[:, None]).sum(axis=1).tolist()

    def score(self, rows: list[int]) -> dict[str, float]:
        ranks = numpy.array(rows)
        return {
            "p_at_1": float((ranks <= 1).mean()),
            "p_at_10": float((ranks <= 10).mean()),
            "mrr": float((1 / ranks).mean()),
        }
