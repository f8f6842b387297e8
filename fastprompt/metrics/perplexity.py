"""Perplexity: how many words a language model hesitates between, on average."""

import math

from fastprompt.metrics.loss import MeanLoss


class Perplexity(MeanLoss):
    """{"perplexity"}: e to the mean loss of all labelled words; infinite where that is too large for a float."""

    def score(self, rows: list[tuple[float, int]]) -> dict[str, float]:
        loss = super().score(rows)["loss"]
        return {"perplexity": math.exp(loss) if loss < 700 else math.inf}
