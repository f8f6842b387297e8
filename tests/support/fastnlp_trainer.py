"""A small model and a Trainer, for tests of fastNLP under today's frameworks."""

import fastprompt

import fastNLP
import numpy as np
import pytest

BACKEND = fastprompt.backend()

if BACKEND == "torch":
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    tensor, Module = torch.tensor, nn.Module

    def make_optimizer(model):
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

elif BACKEND == "paddle":
    import paddle
    from paddle import nn
    from paddle.nn.functional import cross_entropy

    tensor, Module = paddle.to_tensor, nn.Layer

    def make_optimizer(model):
        return paddle.optimizer.Momentum(parameters=model.parameters(), learning_rate=0.1, momentum=0.9)

else:
    import jittor
    from jittor import nn
    from jittor.nn import cross_entropy_loss as cross_entropy

    tensor, Module = jittor.array, nn.Module

    def make_optimizer(model):
        return jittor.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


torch_only = pytest.mark.skipif(BACKEND != "torch", reason="torch's own")


paddle_only = pytest.mark.skipif(BACKEND != "paddle", reason="paddle's own")


class Model(Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.linear = nn.Linear(8, 3)

    def forward(self, x):
        return self.linear(self.embedding(x).mean(1))

    execute = forward  # jittor's name for it

    def train_step(self, x, y):
        return {"loss": cross_entropy(self(x), y)}

    def evaluate_step(self, x, y):
        return {"pred": self(x), "target": y}


def make_model(cls=Model):
    if BACKEND == "paddle":
        paddle.utils.unique_name.switch()  # its optimizer's state goes by names that count up over a process
    return cls()


def make_data(n=40):
    rng = np.random.RandomState(0)
    x = [rng.randint(0, 20, size=rng.randint(2, 7)).tolist() for _ in range(n)]
    return fastNLP.DataSet({"x": x, "y": rng.randint(0, 3, n).tolist()})


def make_loader(shuffle=True, **options):
    return fastNLP.prepare_dataloader(make_data(), batch_size=8, shuffle=shuffle, **options)


def make_trainer(model=None, **options):
    model = model or make_model()
    defaults = {
        "driver": BACKEND,
        "device": "cpu",
        "n_epochs": 2,
        "optimizers": make_optimizer(model),
        "train_dataloader": make_loader(),
        "evaluate_dataloaders": make_loader(shuffle=False),
        "metrics": {"acc": fastNLP.Accuracy()},
        "progress_bar": None,
    }
    return fastNLP.Trainer(model=model, **{**defaults, **options})
