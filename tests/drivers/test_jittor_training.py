"""Training steps, loaders and fastNLP's Trainer under jittor."""

import gc
import os
from pathlib import Path

import numpy
import pytest

if os.environ.get("FASTNLP_BACKEND") != "jittor":
    pytest.skip("set FASTNLP_BACKEND=jittor", allow_module_level=True)

import fastprompt  # noqa: F401  its import hook prepares jittor and patches fastNLP
from fastprompt.drivers.jittor import driver, kernels, loader, nn, ops, optim

import jittor
from fastNLP import Accuracy, Callback, Trainer
from fastNLP.core.samplers import BucketedBatchSampler, RandomBatchSampler

from support.jittor_models import RNG, Classifier, batch, gradients, normal


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
