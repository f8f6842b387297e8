"""Groups of parameters with settings of their own: in AdamW under every framework, and under the schedule."""

from types import SimpleNamespace

import fastprompt as fp
from fastprompt.framework import backend, nn, ops, optim
from fastprompt.training.optimization import LearningRateSchedule

import numpy
import pytest
from fastNLP import Callback, Trainer

paddle_only = pytest.mark.skipif(backend() != "paddle", reason="paddle's own")


class Rates(Callback):
    """Keeps the rates of every step, after the schedule has set them."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_before_optimizers_step(self, trainer, optimizers):
        self.values.append([rate for one in trainer.driver.optimizers for rate in optim.learning_rates(one)])


def make_model(folder):
    return fp.PromptForSequenceClassification.from_pretrained(folder, fp.PTuningV2Config(pre_seq_len=3))


def fit(folder, optimizers, callbacks=(), resume=None):
    """(the rates of four steps, or of those after `resume`; what was tuned)"""
    model, rates = make_model(folder), Rates()
    trainer = Trainer(
        model=model,
        driver=fp.get_driver(model),
        device=None,
        train_dataloader=fp.make_dataloader(fp.load_reviews("train").head(32), fp.load_tokenizer(folder), batch_size=8),
        optimizers=optimizers(model),
        n_epochs=1,
        callbacks=[LearningRateSchedule(1e-2), rates, *callbacks],
        progress_bar=None,
    )
    if resume is not None:
        trainer.load_checkpoint(resume)
    trainer.run()
    return rates.values, {name: ops.to_numpy(p) for name, p in model.tuned_parameters().items()}


def split(model):
    tuned = model.tuned_parameters()
    prompt = [p for name, p in tuned.items() if name.startswith("prompt.")]
    return prompt, [p for name, p in tuned.items() if not name.startswith("prompt.")]


def torchs_sgd(params, rate):
    import torch

    return torch.optim.SGD(params, lr=rate)


def paddles_sgd(params, rate):
    import paddle

    return paddle.optimizer.SGD(parameters=params, learning_rate=rate)


def jittors_sgd(params, rate):
    import jittor

    return jittor.optim.SGD(params, lr=rate)


def in_groups(model):
    prompt, head = split(model)
    return fp.AdamW([{"params": head, "lr": 1e-4}, {"params": prompt}], lr=1e-3)


def test_the_schedule_keeps_the_ratio_of_groups(tiny):
    rates, _ = fit(tiny["bert"], in_groups)
    wanted = [[1e-3 * share, 1e-2 * share] for share in (1, 0.75, 0.5, 0.25)]
    numpy.testing.assert_allclose(rates, wanted, rtol=1e-6)


def test_the_schedule_keeps_the_ratio_of_optimizers(tiny):
    def two(model):
        return [fp.AdamW(own, lr=rate) for own, rate in zip(split(model), (4e-3, 1e-3), strict=True)]

    rates, _ = fit(tiny["bert"], two)
    numpy.testing.assert_allclose(rates[0], [1e-2, 2.5e-3], rtol=1e-6)


def test_the_frameworks_own_optimizers_keep_the_ratio_too(tiny):
    def two(model):
        make = {"torch": torchs_sgd, "paddle": paddles_sgd, "jittor": jittors_sgd}[backend()]
        return [make(own, rate) for own, rate in zip(split(model), (4e-3, 1e-3), strict=True)]

    rates, _ = fit(tiny["bert"], two)
    numpy.testing.assert_allclose(rates[0], [1e-2, 2.5e-3], rtol=1e-6)


def test_the_rates_of_groups_are_part_of_an_optimizers_state(tiny):
    saved = in_groups(make_model(tiny["bert"]))
    other = fp.AdamW([{"params": part, "lr": 0.5} for part in reversed(split(make_model(tiny["bert"])))], lr=0.5)
    load = other.set_state_dict if backend() == "paddle" else other.load_state_dict
    load(saved.state_dict())
    numpy.testing.assert_allclose(optim.learning_rates(other), optim.learning_rates(saved), rtol=1e-6)


def test_one_group_gets_the_schedules_rate_whatever_the_optimizer_says(tiny):
    rates, _ = fit(tiny["bert"], lambda model: fp.AdamW(model.trainable_parameters(), lr=5e-4))
    numpy.testing.assert_allclose(rates, [[1e-2], [7.5e-3], [5e-3], [2.5e-3]], rtol=1e-6)


def test_groups_go_on_from_a_checkpoint_as_if_nothing_had_been(tiny, tmp_path):
    class Save(Callback):
        def on_train_batch_end(self, trainer):
            if trainer.global_forward_batches == 2:
                trainer.save_checkpoint(tmp_path / "half")

    first, whole = fit(tiny["bert"], in_groups, [Save()])
    second, resumed = fit(tiny["bert"], in_groups, resume=tmp_path / "half")
    assert first[2:] == second
    for name, value in whole.items():
        assert (resumed[name] == value).all()


def test_a_schedule_that_has_come_to_0_goes_on_with_the_ratios_it_had(tiny):
    before, after = LearningRateSchedule(1e-2), LearningRateSchedule(1e-2)
    optimizer = in_groups(make_model(tiny["bert"]))
    trainer = SimpleNamespace(driver=SimpleNamespace(optimizers=[optimizer]))
    before.on_train_begin(trainer)
    optim.set_learning_rate(optimizer, 0.0, before.ratios[0])
    after.on_load_checkpoint(trainer, before.on_save_checkpoint(trainer))
    after.on_train_begin(trainer)
    numpy.testing.assert_allclose(after.ratios, [[0.1, 1.0]], rtol=1e-6)


def test_each_groups_settings_are_those_of_an_optimizer_of_its_own(tiny):
    settings = ({"lr": 1e-2, "weight_decay": 0.5}, {"lr": 1e-3, "betas": (0.5, 0.9), "eps": 1e-3})
    rng = numpy.random.default_rng(0)
    steps, found = None, []
    for together in (True, False):
        parts = split(make_model(tiny["bert"]))
        flat = [*parts[0], *parts[1]]
        steps = steps or [[rng.standard_normal(tuple(p.shape)).astype("float32") for p in flat] for _ in range(3)]
        if together:
            both = optim.AdamW([{"params": p, **own} for p, own in zip(parts, settings, strict=True)], lr=5e-3)
            for grads in steps:
                optim.step_with(both, flat, grads)
        else:
            alone = [optim.AdamW(p, **own) for p, own in zip(parts, settings, strict=True)]
            for grads in steps:
                optim.step_with(alone[0], parts[0], grads[: len(parts[0])])
                optim.step_with(alone[1], parts[1], grads[len(parts[0]) :])
        found.append([ops.to_numpy(p) for p in flat])
    for one, other in zip(*found, strict=True):
        numpy.testing.assert_allclose(one, other, rtol=0, atol=1e-7)


@paddle_only
def test_a_setting_that_a_group_does_not_take_is_refused(tiny):
    from fastprompt.errors import ConfigError

    prompt, _ = split(make_model(tiny["bert"]))
    with pytest.raises(ConfigError, match="A group of parameters has 'learning_rate'; it takes params, lr, betas"):
        fp.AdamW([{"params": prompt, "learning_rate": 0.1}])
    assert nn.is_trainable(prompt[0])
