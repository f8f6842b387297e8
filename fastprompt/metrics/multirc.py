"""SuperGLUE's scores of MultiRC, whose questions have several answers, each right or wrong by itself."""

from typing import Any

from fastprompt.framework import ops
from fastprompt.metrics.gathering import GatheredMetric

from sklearn.metrics import f1_score


class MultiRC(GatheredMetric):
    """{"f1"}: F1a, F1 over all answers; {"exact_match"}: the share of questions whose answers are all judged right.

    Source: Khashabi et al., 2018; SuperGLUE (Wang et al., 2019).
    """

    def update(self, pred: Any, target: Any, groups: Any) -> None:
        """Args: pred, target: (B,) 1 for a right answer, else 0; groups: (B,) the number of each answer's question."""
        self.rows.extend(zip(*(ops.to_numpy(x).tolist() for x in (groups, pred, target)), strict=True))

    def score(self, rows: list[tuple[int, int, int]]) -> dict[str, float]:
        right: dict[int, bool] = {}
        for group, pred, target in rows:
            right[group] = right.get(group, True) and pred == target
        _, pred, target = zip(*rows, strict=True)
        return {
            "f1": float(f1_score(target, pred, zero_division=0.0)),
            "exact_match": sum(right.values()) / len(right),
        }
