"""What only the paddle driver promises: patched kernels, its settings, and fastNLP's Trainer on top of it."""

import os
import subprocess
import sys

import fastprompt as fp
from fastprompt.framework import nn, ops, optim, runtime

import numpy as np
import pytest

if fp.backend() != "paddle":
    pytest.skip("for paddle alone", allow_module_level=True)

import paddle
import paddle.nn.functional as F


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def gradient_of_layer_norm(function, x, weight, bias, upstream):
    x, weight, bias = map(paddle.to_tensor, (x, weight, bias))
    x.stop_gradient = False
    return paddle.grad(function(x, weight, bias) * paddle.to_tensor(upstream), x)[0].numpy()


def test_layer_norm_of_a_frozen_backbone_has_the_right_gradient():
    """At a backbone's size; paddle's own is wrong there. When it no longer is, `nn._LayerNorm` is only for speed."""
    x, weight, bias, upstream = normal(64, 384), 1 + normal(384) / 4, normal(384), normal(64, 384)[::-1].copy()
    layer = nn.LayerNorm(384, eps=1e-12)
    for parameter, value in ((layer.weight, weight), (layer.bias, bias)):
        nn.set_value(parameter, value)
        nn.freeze(parameter)
    ours = gradient_of_layer_norm(lambda x, weight, bias: layer(x), x, weight, bias, upstream)
    paddles = gradient_of_layer_norm(lambda x, *affine: F.layer_norm(x, [384], *affine), x, weight, bias, upstream)

    x, upstream = x.astype("float64"), upstream.astype("float64") * weight
    normalised = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    expected = upstream - upstream.mean(1, keepdims=True)
    expected -= normalised * (upstream * normalised).mean(1, keepdims=True)
    expected /= x.std(1, keepdims=True)
    assert np.abs(ours - expected).max() < 2e-6 * np.abs(expected).max()
    assert np.abs(paddles - expected).max() > 0.1 * np.abs(expected).max()


def test_own_gradient_keeps_nothing_alive():
    """A PyLayer that saved its own output would be a cycle no garbage collector sees."""
    layer = nn.LayerNorm(8)
    x = paddle.to_tensor(normal(100, 8))
    x.stop_gradient = False
    held = []
    for _ in range(4):
        layer(x)  # a graph that is dropped, as in an evaluation without no_grad
        paddle.grad(layer(x).sum(), x)
        held.append(paddle.base.core.host_memory_stat_current_value("Allocated", 0))
    assert held[-1] == held[0]


def test_linear_takes_a_checkpoints_layout():
    ours, paddles = nn.Linear(8, 5), paddle.nn.Linear(8, 5)
    paddles.weight.set_value(paddle.to_tensor(normal(8, 5)))
    nn.set_value(ours.weight, normal(8, 5).T)
    x = paddle.to_tensor(normal(2, 3, 8))
    np.testing.assert_allclose(ours(x).numpy(), paddles(x).numpy(), atol=1e-6)


def test_settings_are_made_and_not_left_to_children():
    """All cores, real transposes, no chatter, and no OMP_NUM_THREADS=1 (paddle's) for a child process to obey."""
    code = (
        "import os\n{first}from fastprompt.framework import ops\nimport paddle\n"
        "assert 'OMP_NUM_THREADS' not in os.environ, os.environ['OMP_NUM_THREADS']\n"
        "assert ops.transpose(paddle.zeros([2, 3]), (1, 0)).is_contiguous()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for first in ("", "import fastprompt, paddle\n"):
        command = [sys.executable, "-c", code.format(first=first)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.out = nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 2)
        for index, parameter in enumerate(nn.named_parameters(self).values()):
            nn.set_value(parameter, np.random.default_rng(index).standard_normal(tuple(parameter.shape)))

    def forward(self, input_ids):
        return self.out(self.norm(ops.sum(self.embedding(input_ids), 1)))

    def train_step(self, input_ids, labels):
        return {"loss": ops.cross_entropy(self(input_ids), labels)}

    def evaluate_step(self, input_ids, labels):
        return {"pred": ops.argmax(self(input_ids), -1), "target": labels}


class Batches:
    """Every fourth example, so that each batch differs from an ordinary one."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 4

    def __iter__(self):
        return (list(range(start, 16, 4)) for start in range(4))


def dataset():
    ids = np.random.default_rng(5).integers(0, 20, (16, 3))
    return [{"input_ids": row, "labels": int(row[0] % 2)} for row in ids]


def collate(examples):
    return {name: np.array([example[name] for example in examples]) for name in examples[0]}


def make_loader(batches=None):
    from fastprompt.framework import loader

    return loader.make_dataloader(dataset(), batches or Batches(), collate)


def make_trainer(model, **options):
    from fastNLP import Accuracy, Trainer

    optimizer = optim.AdamW(nn.named_parameters(model).values(), lr=0.05)
    options = {"driver": "paddle", "device": "cpu", "progress_bar": None, **options}
    return Trainer(
        model=model, optimizers=optimizer, train_dataloader=make_loader(), evaluate_dataloaders=make_loader(),
        metrics={"acc": Accuracy()}, **options,
    )  # fmt: skip


def losses(model):
    with ops.no_grad():
        return [float(model.train_step(**batch)["loss"]) for batch in make_loader()]


def test_loader_gives_the_samplers_batches_as_tensors():
    loader = make_loader()
    assert len(loader) == 4
    for start, batch in enumerate(loader):
        assert loader.get_batch_indices() == list(range(start, 16, 4))
        assert {name: tensor.dtype for name, tensor in batch.items()} == dict.fromkeys(batch, paddle.int64)
        np.testing.assert_array_equal(batch["input_ids"].numpy()[1], dataset()[start + 4]["input_ids"])
    next(iter(loader))  # left half read: nothing runs on


@pytest.mark.parametrize("ours", [True, False])
def test_trainer_trains(ours):
    from fastprompt.framework import driver

    model = Classifier()
    before = losses(model)
    trainer = make_trainer(model, **({"driver": driver.get_driver(model)} if ours else {}), n_epochs=15)
    trainer.run(catch_KeyboardInterrupt=False)
    assert np.mean(losses(model)) < 0.2 * np.mean(before)


def test_accumulated_gradients_make_the_step_of_the_larger_batch():
    class Whole(Batches):
        def __len__(self):
            return 1

        def __iter__(self):
            return iter([[i for batch in Batches() for i in batch]])

    parts, whole = Classifier(), Classifier()
    make_trainer(parts, accumulation_steps=4, n_epochs=3).run(catch_KeyboardInterrupt=False)
    optimizer = optim.AdamW(nn.named_parameters(whole).values(), lr=0.05)
    for _ in range(3):
        for batch in make_loader(Whole()):
            whole.train_step(**batch)["loss"].backward()
            optimizer.step()
            optimizer.clear_grad()
    for got, wanted in zip(*(nn.named_parameters(model).values() for model in (parts, whole)), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), atol=2e-4)


def test_resumed_training_goes_on_as_if_never_stopped(tmp_path):
    from fastprompt.framework import loader

    from fastNLP import RandomBatchSampler

    def trainer(model):
        trainer = make_trainer(model, n_epochs=4)
        batches = RandomBatchSampler(dataset(), batch_size=4, shuffle=True, seed=1)
        trainer.dataloader = trainer.train_dataloader = loader.make_dataloader(dataset(), batches, collate)
        return trainer

    straight, stopped, resumed = Classifier(), Classifier(), Classifier()
    trainer(straight).run(catch_KeyboardInterrupt=False)
    first = trainer(stopped)
    first.n_epochs = 2
    first.run(catch_KeyboardInterrupt=False)
    first.save_checkpoint(str(tmp_path))
    second = trainer(resumed)
    second.load_checkpoint(str(tmp_path))
    second.run(catch_KeyboardInterrupt=False)
    for got, wanted in zip(*(nn.named_parameters(model).values() for model in (resumed, straight)), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), atol=1e-6)


@pytest.mark.skipif(runtime.has_gpu(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["gpu", "gpu:0", "cuda", "cuda:0"])
def test_a_gpu_that_is_not_there_is_refused_in_one_line(device):
    from fastprompt.framework import driver

    with pytest.raises(fp.FastpromptError, match="sees no GPU") as error:
        driver.get_driver(Classifier(), device)
    assert "\n" not in str(error.value)
    assert runtime.peak_device_memory_mb() is None


def test_optimizer_state_goes_by_position():
    """In paddle a second model of one process has other tensor names; its optimizer takes the first one's state."""
    grads = [[normal(*p.shape) * scale for p in nn.named_parameters(Classifier()).values()] for scale in (1, 0.5)]
    tensors = []
    for restart in (False, True):
        model = Classifier()
        parameters = list(nn.named_parameters(model).values())
        optimizer = optim.AdamW(parameters, lr=0.1)
        optim.step_with(optimizer, parameters, grads[0])
        if restart:
            state = optimizer.state_dict()
            values = [p.numpy() for p in parameters]
            parameters = list(nn.named_parameters(Classifier()).values())
            for parameter, value in zip(parameters, values, strict=True):
                nn.set_value(parameter, value)
            optimizer = optim.AdamW(parameters, lr=0.3)
            optimizer.set_state_dict(state)
        optim.step_with(optimizer, parameters, grads[1])
        tensors.append([p.numpy() for p in parameters])
    for straight, restarted in zip(*tensors, strict=True):
        np.testing.assert_array_equal(straight, restarted)
