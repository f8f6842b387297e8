"""Small models and batches for tests of jittor's driver."""

import fastprompt  # noqa: F401  its import hook prepares jittor and patches fastNLP
from fastprompt.drivers.jittor import nn, ops

import jittor
import numpy

RNG = numpy.random.default_rng(0)


def normal(*shape: int) -> numpy.ndarray:
    return RNG.standard_normal(shape).astype("float32")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.self = nn.Linear(width, width)  # BERT's attention has an attribute of this name
        self.norm = nn.LayerNorm(width)

    def forward(self, x: jittor.Var) -> jittor.Var:
        return self.norm(x + ops.gelu(self.self(x)))


class Classifier(nn.Module):
    """Embeds, averages and classifies; `layer` may be frozen under the trained table."""

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(20, width)
        self.layer = nn.ModuleList([Block(width) for _ in range(3)])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, 2)
        self._scale = ops.tensor(numpy.ones(1, "float32"))

    def forward(self, input_ids: jittor.Var) -> jittor.Var:
        x = self.dropout(self.table(input_ids))
        for block in self.layer:
            x = block(x)
        return self.head(ops.sum(x, 1)) * self._scale

    def train_step(self, input_ids: jittor.Var, labels: jittor.Var) -> dict:
        return {"loss": ops.cross_entropy(self(input_ids), labels)}

    def evaluate_step(self, input_ids: jittor.Var, labels: jittor.Var) -> dict:
        return {"pred": ops.argmax(self(input_ids), -1), "target": labels}


def batch(size: int = 4) -> dict[str, jittor.Var]:
    return {"input_ids": ops.tensor(RNG.integers(0, 20, (size, 5))), "labels": ops.tensor(RNG.integers(0, 2, size))}


def gradients(model: nn.Module, data: dict[str, jittor.Var]) -> dict[str, numpy.ndarray]:
    tuned = {name: p for name, p in nn.named_parameters(model).items() if nn.is_trainable(p)}
    return dict(zip(tuned, ops.gradients(model.train_step(**data)["loss"], list(tuned.values())), strict=True))
