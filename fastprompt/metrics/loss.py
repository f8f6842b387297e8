"""Mean loss over an evaluation set, as a fastNLP metric."""

from typing import Any

from fastprompt.data.encoding import IGNORE_INDEX
from fastprompt.framework import ops
from fastprompt.metrics.gathering import GatheredMetric


class MeanLoss(GatheredMetric):
    """{"loss"}: the mean of `evaluate_step`'s loss over examples, or over labels where an example has several; the
    same however the examples were cut into batches."""

    def update(self, loss: Any, target: Any) -> None:
        """Args: loss: scalar, a batch's mean; target: (B, ...) what that is over, -100 where nothing counts."""
        target = ops.to_numpy(target)
        count = target.size if target.dtype.kind == "f" else int((target != IGNORE_INDEX).sum())
        self.rows.append((ops.to_numpy(loss).item() * count, count))

    def score(self, rows: list[tuple[float, int]]) -> dict[str, float]:
        total, count = map(sum, zip(*rows, strict=True))
        return {"loss": total / max(1, count)}
