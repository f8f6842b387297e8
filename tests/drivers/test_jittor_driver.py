"""What the jittor driver promises beyond the operations: an offline start, honest gradients, a Trainer that runs.

Runs under FASTNLP_BACKEND=jittor only; tests/drivers/test_ops.py holds the operations of every framework against NumPy.
"""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

if os.environ.get("FASTNLP_BACKEND") != "jittor":
    pytest.skip("set FASTNLP_BACKEND=jittor", allow_module_level=True)

import fastprompt  # noqa: F401  its import hook prepares jittor and mends fastNLP
from fastprompt.drivers.jittor import driver, kernels, loader, nn, ops, optim, runtime
from fastprompt.errors import BackendError, CheckpointError

import jittor
from fastNLP import Accuracy, Callback, Trainer
from fastNLP.core.samplers import BucketedBatchSampler, RandomBatchSampler

RNG = numpy.random.default_rng(0)


def normal(*shape: int) -> numpy.ndarray:
    return RNG.standard_normal(shape).astype("float32")


def relative(found: numpy.ndarray, expected: numpy.ndarray) -> float:
    return float(numpy.abs(found - expected).max() / numpy.abs(expected).max())


def python(code: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=600
    )


# --- the start --------------------------------------------------------------------------------------------------------


def test_starts_without_a_gpu_whatever_the_environment_says(tmp_path):
    """fastNLP turns any CUDA_VISIBLE_DEVICES into use_cuda=1, at which jittor alone aborts the process."""
    code = "from fastprompt.drivers.jittor import runtime; runtime.prepare(); runtime.prepare(); import jittor"
    ran = python(code, tmp_path, CUDA_VISIBLE_DEVICES="0", use_cuda="1")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""  # standard output is for results
    assert list(tmp_path.iterdir()) == []  # and the working directory is the user's


def test_uses_onednn():
    assert jittor.mkl_ops is not None


def test_ctrl_c_and_killed_children_stay_python_s(tmp_path):
    """jittor's own handlers end the process at once, past any `finally`, also when a child dies of a signal."""
    code = (
        "from fastprompt.drivers.jittor import runtime; runtime.prepare()\n"
        "import os, signal, subprocess, time\n"
        "subprocess.run('kill -9 $$', shell=True)\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "except KeyboardInterrupt:\n    print('caught')"
    )
    assert python(code, tmp_path).stdout == "caught\n"


def test_certificates_are_still_checked(tmp_path):
    code = (
        "from fastprompt.drivers.jittor import runtime; runtime.prepare()\n"
        "import ssl; print(ssl._create_default_https_context().verify_mode.name)"
    )
    assert python(code, tmp_path).stdout == "CERT_REQUIRED\n"


def test_links_to_a_virtual_environment_that_is_gone_are_made_again(tmp_path):
    runtime._link_onednn(tmp_path)
    library = next(tmp_path.glob("dnnl_*/lib/libmkldnn.so"))
    library.unlink()
    library.symlink_to(tmp_path / "gone")
    runtime._link_onednn(tmp_path)
    assert library.is_file()
    assert next(tmp_path.glob("dnnl_*/include/oneapi/dnnl/dnnl.hpp")).is_file()


def test_missing_wheels_are_one_line_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "WHEELS", ("onednn-of-nobody",))
    with pytest.raises(BackendError, match=r"onednn-of-nobody.*pip install 'fastprompt\[jittor\]'"):
        runtime._link_onednn(tmp_path)


def test_numpy_2_is_refused(monkeypatch):
    monkeypatch.setattr(numpy, "__version__", "2.1.0")
    with pytest.raises(BackendError, match="numpy<2"):
        runtime._set_environment()


# --- modules ----------------------------------------------------------------------------------------------------------


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


def test_parameters_have_torch_s_names_and_buffers_have_none():
    block = [f"{part}.{name}" for part in ("self", "norm") for name in ("weight", "bias")]
    expected = ["table.weight"] + [f"layer.{i}.{name}" for i in range(3) for name in block]
    assert list(nn.named_parameters(Classifier())) == [*expected, "head.weight", "head.bias"]


def test_a_shared_parameter_is_listed_once():
    model = Classifier()
    model.tied = nn.Linear(8, 20)
    model.tied.weight = model.table.weight
    names = list(nn.named_parameters(model))
    assert "table.weight" in names
    assert "tied.weight" not in names


def test_frozen_and_tuned_survive_evaluation():
    """jittor's own eval() stops every parameter's gradient."""
    model, data = Classifier(), batch()
    for parameter in nn.named_parameters(model.layer).values():
        nn.freeze(parameter)
    before = gradients(model, data)
    assert set(before) == {"table.weight", "head.weight", "head.bias"}
    model.eval()
    assert not model.layer[0].is_training()
    with ops.no_grad():
        model.evaluate_step(**data)["pred"].sync()
    model.train()
    assert model.layer[0].is_training()
    after = gradients(model, data)
    for name, grad in before.items():
        assert numpy.abs(grad).max() > 0, name
        assert numpy.array_equal(grad, after[name])
    nn.unfreeze(model.layer[1].norm.bias)
    assert set(gradients(model, data)) == {*before, "layer.1.norm.bias"}


def test_a_module_without_gradients_passes_on_those_of_its_input():
    """jittor's own requires_grad_(False) runs a module under no_grad, and what comes before it gets none."""
    model, data = Classifier(), batch()
    before = gradients(model, data)["table.weight"]
    model.layer.requires_grad_(False)
    assert numpy.array_equal(gradients(model, data)["table.weight"], before)


def test_set_value_keeps_what_is_trained_and_refuses_other_shapes():
    weight = nn.Linear(3, 2).weight
    with ops.no_grad():
        nn.set_value(weight, numpy.ones((2, 3)))
    assert nn.is_trainable(weight)
    assert ops.to_numpy(weight).tolist() == [[1, 1, 1], [1, 1, 1]]
    nn.freeze(weight)
    nn.set_value(weight, numpy.zeros((2, 3)))
    assert not nn.is_trainable(weight)
    with pytest.raises(CheckpointError, match=r"\(2, 3\).*\(3, 2\)"):
        nn.set_value(weight, numpy.ones((3, 2)))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_checkpointed_gradients_are_the_plain_ones(frozen, dropout):
    class Checkpointed(Classifier):
        def forward(self, input_ids):
            x = self.table(input_ids)
            for block in self.layer:
                x = nn.checkpoint(lambda x, block=block: self.dropout(block(x)), x)
            return self.head(ops.sum(x, 1))

    class Plain(Classifier):
        def forward(self, input_ids):
            x = self.table(input_ids)
            for block in self.layer:
                x = self.dropout(block(x))
            return self.head(ops.sum(x, 1))

    plain, checkpointed, data = Plain(dropout=dropout), Checkpointed(dropout=dropout), batch()
    copies = nn.named_parameters(checkpointed)
    for name, parameter in nn.named_parameters(plain).items():
        nn.set_value(copies[name], ops.to_numpy(parameter))
    for model in (plain, checkpointed):
        for parameter in nn.named_parameters(model.layer).values() if frozen else ():
            nn.freeze(parameter)
    runtime.seed(5)
    expected = gradients(plain, data)
    runtime.seed(5)
    found = gradients(checkpointed, data)
    assert set(found) == set(expected)
    for name, grad in expected.items():
        # to the last bit or two: which operators jittor fuses into one kernel depends on the graph around them
        numpy.testing.assert_allclose(found[name], grad, rtol=1e-6, atol=1e-7, err_msg=name)


def test_layer_norm_is_exact_far_from_zero_and_with_frozen_weights():
    """jittor's own computes E[x^2] - E[x]^2, which is noise here."""
    torch = pytest.importorskip("torch")
    x, g, norm = normal(6, 40) + 30, normal(6, 40), nn.LayerNorm(40, eps=1e-12)
    reference = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.layer_norm(reference, (40,), eps=1e-12)
    expected.backward(torch.tensor(g, dtype=torch.float64))
    for freeze in (False, True):
        for parameter in nn.named_parameters(norm).values() if freeze else ():
            nn.freeze(parameter)
        found = ops.tensor(x).start_grad()
        y = norm(found)
        assert relative(ops.to_numpy(y), expected.detach().numpy()) < 1e-6
        assert relative(ops.gradients((y * ops.tensor(g)).sum(), [found])[0], reference.grad.numpy()) < 1e-6


@pytest.mark.parametrize("mask_shape", [None, (2, 1, 1, 90), (2, 1, 70, 90), (2, 3, 70, 90)])
def test_attention_and_its_gradients_are_exact(mask_shape):
    torch = pytest.importorskip("torch")
    arrays = [normal(2, 3, 70, 8), normal(2, 3, 90, 8), normal(2, 3, 90, 8)]
    g = normal(2, 3, 70, 8)
    mask = None if mask_shape is None else numpy.where(RNG.random(mask_shape) < 0.3, -3.4e38, 0).astype("float32")
    found = [ops.tensor(x).start_grad() for x in arrays]
    exact = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    y = ops.attention(*found, None if mask is None else ops.tensor(mask))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *exact, None if mask is None else torch.tensor(mask).double()
    )
    expected.backward(torch.tensor(g).double())
    assert relative(ops.to_numpy(y), expected.detach().numpy()) < 1e-6
    for grad, reference in zip(ops.gradients((y * ops.tensor(g)).sum(), found), exact, strict=True):
        assert relative(grad, reference.grad.numpy()) < 1e-6


def test_dropout_in_attention_has_the_gradient_of_what_it_dropped():
    arrays, g = [normal(1, 2, 5, 4), normal(1, 2, 7, 4), normal(1, 2, 7, 4)], normal(1, 2, 5, 4)

    def loss(arrays):
        runtime.seed(3)  # so every call drops the same
        inputs = [ops.tensor(x).start_grad() for x in arrays]
        return (ops.attention(*inputs, None, 0.5, True) * ops.tensor(g)).sum(), inputs

    value, inputs = loss(arrays)
    grads = ops.gradients(value, inputs)
    for i, array in enumerate(arrays):
        direction = normal(*array.shape)
        ahead, behind = ([*arrays[:i], array + s * 1e-2 * direction, *arrays[i + 1 :]] for s in (1, -1))
        slope = (loss(ahead)[0].item() - loss(behind)[0].item()) / 2e-2
        assert slope == pytest.approx(float((grads[i] * direction).sum()), rel=1e-2, abs=1e-3)


def test_dropout_drops_its_share_and_keeps_the_mean():
    runtime.seed(1)
    x = ops.to_numpy(ops.dropout(ops.tensor(numpy.ones((500, 400), "float32")), 0.1, True))
    assert (x == 0).mean() == pytest.approx(0.1, abs=0.005)
    assert set(numpy.unique(x)) == {0, numpy.float32(1 / 0.9)}
    runtime.seed(1)
    assert numpy.array_equal(x, ops.to_numpy(ops.dropout(ops.tensor(numpy.ones((500, 400), "float32")), 0.1, True)))


def test_bf16_is_refused_with_a_mend():
    assert not runtime.supports_bf16("cpu")
    with pytest.raises(BackendError, match="torch or paddle"):
        nn.to_bf16(Classifier())


def test_a_device_that_is_not_there_is_one_line():
    for device in ("cuda:1", "tpu") if runtime.has_gpu() else ("cuda", "gpu", "cuda:1"):
        with pytest.raises(BackendError):
            driver.get_driver(Classifier(), device)


# --- training ---------------------------------------------------------------------------------------------------------


def adamw(p, grads, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    m = v = numpy.zeros_like(p, "float64")
    for t, g in enumerate(grads, 1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p * (1 - lr * weight_decay) - lr * m_hat / (numpy.sqrt(v_hat) + eps)
    return p


def test_adamw_takes_the_documented_step():
    start, grads = normal(3, 4), [normal(3, 4).astype("float64") * 10.0**-i for i in range(4)]
    p = ops.tensor(start).start_grad()
    optimizer = optim.AdamW([p], lr=1e-2, weight_decay=0.1)
    for i, g in enumerate(grads, 1):
        optim.step_with(optimizer, [p], [g.astype("float32")])
        assert numpy.abs(ops.to_numpy(p) - adamw(start, grads[:i], 1e-2, 0.1)).max() < 1e-6


def test_adamw_goes_on_from_its_state():
    start, grads = normal(5), [normal(5) for _ in range(4)]
    p, q = ops.tensor(start).start_grad(), ops.tensor(start).start_grad()
    whole, first = optim.AdamW([p], lr=1e-2), optim.AdamW([q], lr=1e-2)
    for g in grads:
        optim.step_with(whole, [p], [g])
    for g in grads[:2]:
        optim.step_with(first, [q], [g])
    second = optim.AdamW([q], lr=0.5)
    second.load_state_dict(first.state_dict())
    for g in grads[2:]:
        optim.step_with(second, [q], [g])
    assert numpy.array_equal(ops.to_numpy(p), ops.to_numpy(q))
    with pytest.raises(ValueError, match="saved optimizer state"):
        optim.AdamW([nn.Linear(2, 2).weight]).load_state_dict(first.state_dict())


def test_accumulated_gradients_make_one_step_and_count_as_one():
    model, halves = Classifier(), [batch(), batch()]
    whole = {name: ops.tensor(numpy.concatenate([ops.to_numpy(h[name]) for h in halves])) for name in halves[0]}
    start = {name: ops.to_numpy(p) for name, p in nn.named_parameters(model).items()}
    expected = {name: adamw(start[name], [g], 1e-2, 0.01) for name, g in gradients(model, whole).items()}
    optimizer = optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3)
    expected = {name: adamw(start[name], [g], 1e-2, 0.01, eps=1e-3) for name, g in gradients(model, whole).items()}
    for half in halves:
        optimizer.backward(model.train_step(**half)["loss"] / 2)
    optimizer.step()
    optimizer.zero_grad()
    for name, p in nn.named_parameters(model).items():
        assert numpy.abs(ops.to_numpy(p) - expected[name]).max() < 1e-5, name


def test_learning_rate_can_change_between_steps():
    p = ops.tensor(numpy.zeros(2, "float32")).start_grad()
    optimizer = optim.AdamW([p], lr=1.0, weight_decay=0.0)
    optim.set_learning_rate(optimizer, 1e-3)
    optim.step_with(optimizer, [p], [numpy.ones(2, "float32")])
    assert ops.to_numpy(p) == pytest.approx([-1e-3, -1e-3])


EXAMPLES = [{"input_ids": RNG.integers(0, 20, 5), "label": int(i % 2)} for i in range(22)]


def collate(examples: list[dict]) -> dict[str, numpy.ndarray]:
    return {
        "input_ids": numpy.stack([x["input_ids"] for x in examples]),
        "labels": numpy.array([x["label"] for x in examples]),
    }


def make_loader(**kwargs) -> loader.BatchSamplerLoader:
    sampler = RandomBatchSampler(EXAMPLES, batch_size=4, seed=7, **kwargs)
    return loader.make_dataloader(EXAMPLES, sampler, collate)


def test_the_loader_yields_the_sampler_s_batches_with_their_dtypes():
    class Fixed:
        def __iter__(self):
            return iter([[3, 1], [0], [2, 4, 5]])

        def __len__(self):
            return 3

    arrays = {"i": numpy.arange(6), "f": numpy.arange(6, dtype="float32"), "b": numpy.arange(6) > 2}
    batches = loader.make_dataloader(range(6), Fixed(), lambda ids: {k: a[ids] for k, a in arrays.items()})
    assert len(batches) == 3
    found = list(batches)
    assert [ops.to_numpy(x["i"]).tolist() for x in found] == [[3, 1], [0], [2, 4, 5]]
    assert {name: str(x.dtype) for name, x in found[0].items()} == {"i": "int64", "f": "float32", "b": "bool"}
    assert batches.get_batch_indices() == [2, 4, 5]


def step_by_hand(model: Classifier, n_epochs: int, lr: float) -> None:
    optimizer = optim.AdamW([p for p in model.parameters() if nn.is_trainable(p)], lr=lr)
    sampler = RandomBatchSampler(EXAMPLES, batch_size=4, seed=7)
    for epoch in range(n_epochs):
        sampler.set_epoch(epoch)
        for indices in sampler:
            data = {name: ops.tensor(x) for name, x in collate([EXAMPLES[i] for i in indices]).items()}
            tuned = [p for p in model.parameters() if nn.is_trainable(p)]
            optim.step_with(optimizer, tuned, ops.gradients(model.train_step(**data)["loss"], tuned))


def twins() -> tuple[Classifier, Classifier]:
    models = Classifier(), Classifier()
    copies = nn.named_parameters(models[1])
    for name, parameter in nn.named_parameters(models[0]).items():
        nn.set_value(copies[name], ops.to_numpy(parameter))
    for model in models:
        for parameter in nn.named_parameters(model.layer).values():
            nn.freeze(parameter)
    return models


@pytest.mark.parametrize("by_name", [True, False])
def test_a_fastnlp_trainer_takes_the_same_steps_as_a_loop_by_hand(by_name):
    model, by_hand = twins()
    frozen = ops.to_numpy(model.layer[0].self.weight)
    trainer = Trainer(
        model=model,
        driver="jittor" if by_name else driver.get_driver(model, "cpu"),
        device="cpu",
        n_epochs=2,
        optimizers=optim.AdamW([p for p in model.parameters() if nn.is_trainable(p)], lr=1e-2),
        train_dataloader=make_loader(),
        evaluate_dataloaders=make_loader(shuffle=False),
        metrics={"acc": Accuracy()},
        evaluate_every=-1,
        progress_bar=None,
    )
    trainer.run()
    step_by_hand(by_hand, 2, 1e-2)
    expected = nn.named_parameters(by_hand)
    for name, parameter in nn.named_parameters(model).items():
        assert numpy.abs(ops.to_numpy(parameter) - ops.to_numpy(expected[name])).max() < 1e-6, name
    assert numpy.array_equal(ops.to_numpy(model.layer[0].self.weight), frozen)
    assert {name for name, p in nn.named_parameters(model).items() if nn.is_trainable(p)} == {
        "table.weight",
        "head.weight",
        "head.bias",
    }


def test_a_trainer_goes_on_from_a_checkpoint(tmp_path):
    """Saved in the middle of an epoch; a batch sampler, which fastNLP's jittor driver refuses, comes back too."""
    seen: list[list[int]] = []

    class Watching(loader.BatchSamplerLoader):
        def __iter__(self):
            for data in super().__iter__():
                seen.append(self.get_batch_indices())
                yield data

    class Saving(Callback):
        def on_train_batch_end(self, trainer):
            if trainer.global_forward_batches == 4:
                trainer.save_checkpoint(tmp_path / "checkpoint")

    def trainer(model: Classifier, *callbacks: Callback) -> Trainer:
        # Unshuffled: what is left of a shuffled epoch, fastNLP shuffles anew.
        sampler = RandomBatchSampler(EXAMPLES, batch_size=4, shuffle=False)
        return Trainer(
            model=model,
            driver="jittor",
            device="cpu",
            n_epochs=2,
            optimizers=optim.AdamW([p for p in model.parameters() if nn.is_trainable(p)], lr=1e-2),
            train_dataloader=Watching(EXAMPLES, sampler, collate),
            callbacks=list(callbacks),
            progress_bar=None,
        )

    model, other = twins()
    trainer(model, Saving()).run()
    whole, seen[:] = list(seen), []
    for parameter in other.parameters():
        nn.set_value(parameter, normal(*parameter.shape))
    resumed = trainer(other)
    resumed.load_checkpoint(tmp_path / "checkpoint")
    resumed.run()
    assert len(whole) == 12
    assert seen == whole[4:]
    expected = nn.named_parameters(model)
    for name, parameter in nn.named_parameters(other).items():
        assert numpy.array_equal(ops.to_numpy(parameter), ops.to_numpy(expected[name])), name


def test_a_bucketed_sampler_s_batches_reach_the_model_in_order():
    lengths = [len(x["input_ids"]) for x in EXAMPLES]
    sampler = BucketedBatchSampler(EXAMPLES, length=lengths, batch_size=4, seed=1)
    batches = [list(indices) for indices in sampler]
    sampler = BucketedBatchSampler(EXAMPLES, length=lengths, batch_size=4, seed=1)
    found = loader.make_dataloader(EXAMPLES, sampler, collate)
    for indices, data in zip(batches, found, strict=True):
        assert numpy.array_equal(ops.to_numpy(data["input_ids"]), collate([EXAMPLES[i] for i in indices])["input_ids"])


def test_memory_does_not_grow_from_step_to_step():
    model, data = Classifier(dropout=0.1), batch()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def held_after(steps: int) -> int:
        for _ in range(steps):
            optimizer.backward(model.train_step(**data)["loss"])
            optimizer.step()
        gc.collect()  # what other tests have left
        return jittor.number_of_lived_vars()

    assert held_after(3) == held_after(40)


def test_another_shape_compiles_nothing():
    model = Classifier()

    def step(length: int) -> None:
        ids = ops.tensor(RNG.integers(0, 20, (3, length)))
        ops.gradients(model.train_step(ids, ops.tensor(numpy.array([0, 1, 1])))["loss"], model.parameters())

    step(4)
    compiled = set(Path(jittor.flags.cache_path, "jit").iterdir())
    for length in (5, 9, 13):
        step(length)
    assert set(Path(jittor.flags.cache_path, "jit").iterdir()) == compiled


def test_padding_is_not_trained_where_the_kernels_cannot_run_either(monkeypatch):
    monkeypatch.setattr(kernels, "usable", lambda *inputs: False)
    layer = nn.Embedding(3, 2, padding_idx=1)
    table = numpy.arange(6, dtype="float32").reshape(3, 2)
    nn.set_value(layer.weight, table)
    rows = layer(ops.tensor(numpy.array([[1, 2]])))
    assert (ops.to_numpy(rows) == table[[[1, 2]]]).all()
    (gradient,) = ops.gradients(ops.mean(rows * rows), [layer.weight])
    assert not gradient[1].any()
    assert gradient[2].all()
