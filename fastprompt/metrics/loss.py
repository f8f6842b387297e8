"""Mean loss over an evaluation set, as a fastNLP metric."""

from typing import Any

from fastNLP import Metric


class MeanLoss(Metric):
    """The mean of `evaluate_step`'s loss over examples: {"loss"}."""

    def __init__(self) -> None:
        super().__init__()
        self.register_element(name="total", value=0.0, aggregate_method="sum")
        self.register_element(name="count", value=0, aggregate_method="sum")

    def update(self, loss: Any, target: Any) -> None:
        count = len(target)
        self.total += self.tensor2numpy(loss).item() * count
        self.count += count

    def get_metric(self) -> dict[str, float]:
        return {"loss": self.total.get_scalar() / max(1, self.count.get_scalar())}
