"""Inside fastNLP's own Trainer: the example script, string drivers and ours, callbacks, accumulation."""

import json
import math
from functools import partial

import fastprompt as fp
from fastprompt.errors import BackendError, ConfigError, TrainingError
from fastprompt.framework import ops, optim
from fastprompt.metrics.tasks import task_metrics
from fastprompt.training.optimization import SCHEDULES, LearningRateSchedule
from fastprompt.training.trainer import evaluate

import numpy
import pytest
from fastNLP import Accuracy, Callback, Evaluator, Trainer


class Losses(Callback):
    def __init__(self):
        super().__init__()
        self.values = []

    def on_before_backward(self, trainer, outputs):
        self.values.append(float(ops.to_numpy(outputs["loss"]).item()))


def make_model(folder, **options):
    return fp.PromptForSequenceClassification.from_pretrained(
        folder,
        fp.PTuningV2Config(pre_seq_len=3),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **options,
    )


def loader(folder, **options):
    return fp.make_dataloader(fp.load_reviews("train").head(64), fp.load_tokenizer(folder), **options)


class Gradients(Callback):
    """Keeps the gradients of every step, in one array each."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_before_optimizers_step(self, trainer, optimizers):
        tuned = trainer.driver.unwrap_model().trainable_parameters()
        found = [ops.to_numpy(optim.gradient(p, trainer.driver.optimizers)).ravel() for p in tuned]
        self.values.append(numpy.concatenate(found))


def fit(folder, driver, batch_size=16, callbacks=(), **options):
    model, losses = make_model(folder), Losses()
    made = driver(model) if callable(driver) else driver
    trainer = Trainer(
        model=model,
        driver=made,
        device="cpu",
        n_epochs=3,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e-2),
        train_dataloader=loader(folder, batch_size=batch_size, shuffle=True),
        callbacks=[losses, *callbacks],
        progress_bar=None,
        **options,
    )
    trainer.run()
    return model, losses.values


def test_the_string_driver_and_ours_take_the_same_steps(tiny):
    _, by_name = fit(tiny["bert"], fp.backend())
    _, by_driver = fit(tiny["bert"], lambda model: fp.get_driver(model))
    assert len(by_name) == 12
    assert by_name == by_driver
    assert numpy.mean(by_name[-4:]) < numpy.mean(by_name[:4])


def test_accumulated_batches_make_one_step(tiny):
    steps = []
    for batch_size, every in ((16, 1), (8, 2)):
        model, losses = fit(tiny["bert"], fp.backend(), batch_size=batch_size, accumulation_steps=every)
        steps.append({name: ops.to_numpy(p) for name, p in model.tuned_parameters().items()})
    assert len(losses) == 24
    start = {name: ops.to_numpy(p) for name, p in make_model(tiny["bert"]).tuned_parameters().items()}
    for name, value in steps[0].items():
        assert (value != start[name]).any()
        assert (steps[1][name] != start[name]).any()


@pytest.mark.parametrize("driver", [fp.backend(), fp.get_driver], ids=["by name", "ours"])
def test_gradients_are_scaled_down_to_a_norm_and_never_up(tiny, driver):
    before, after = Gradients(), Gradients()
    fit(tiny["bert"], driver, callbacks=[before, fp.ClipGradients(0.4), after], accumulation_steps=2)
    norms = [numpy.linalg.norm(gradient) for gradient in before.values]
    assert min(norms) < 0.4 < max(norms)
    for gradient, norm, found in zip(before.values, norms, after.values, strict=True):
        numpy.testing.assert_allclose(found, gradient * min(1, 0.4 / norm), rtol=1e-5)


@pytest.mark.skipif(fp.backend() != "torch", reason="on a CPU torch alone has it")
def test_mixed_precision_scales_the_loss_and_stays_near_float32(tiny):
    runs = []
    for options in ({}, {"fp16": True}):
        gradients = Gradients()  # after the clipping, which takes the scale out
        driver = partial(fp.get_driver, **options)
        _, losses = fit(tiny["bert"], driver, callbacks=[fp.ClipGradients(1e9), gradients])
        runs.append((losses, gradients.values[0]))
    (exact, wanted), (losses, found) = runs
    assert losses != exact
    assert losses == pytest.approx(exact, abs=5e-3)
    assert 0 < numpy.abs(found - wanted).max() < 1e-2 * numpy.abs(wanted).max()
    driver = fp.get_driver(make_model(tiny["bert"]), fp16=True)
    assert float(driver.grad_scaler.scale(ops.tensor(numpy.ones(1, "float32")))) == 2.0**16


@pytest.mark.skipif(fp.backend() == "torch", reason="torch has it")
def test_where_mixed_precision_is_missing_it_is_refused(tiny):
    message = {"paddle": "Paddle has no fp16 on the CPU", "jittor": "fp16 runs on torch and paddle"}[fp.backend()]
    with pytest.raises(BackendError, match=message):
        fp.get_driver(make_model(tiny["bert"]), fp16=True)


def test_fastnlps_evaluator_counts_every_example(tiny):
    model = make_model(tiny["bert"])
    data = loader(tiny["bert"], batch_size=24)
    found = Evaluator(
        model=model,
        driver=fp.backend(),
        device="cpu",
        dataloaders=data,
        metrics={"acc": Accuracy()},
        progress_bar=None,
        verbose=0,
    ).run()
    right = total = loss = 0
    model.eval()
    for batch in data:
        output = model.evaluate_step(**batch)
        loss += ops.to_numpy(output["loss"]).item() * len(batch["labels"])
        right += int((ops.to_numpy(output["pred"]) == ops.to_numpy(output["target"])).sum())
        total += len(batch["labels"])
    assert total == 64
    assert found["acc#acc"] == pytest.approx(right / total, abs=1e-6)
    ours = evaluate(model, data, "cpu", task_metrics("reviews", None, fp.load_reviews("train")))
    assert ours["accuracy"] == found["acc#acc"]
    assert ours["loss"] == pytest.approx(loss / total, rel=1e-5)


def test_a_device_that_is_not_there_is_refused(tiny):
    from fastprompt.framework import runtime

    if runtime.has_gpu():
        pytest.skip("there is a GPU")
    with pytest.raises(fp.FastpromptError, match=r"(?i)gpu|cuda"):
        fp.get_driver(make_model(tiny["bert"]), "cuda")


def test_a_loss_that_is_no_number_stops_the_run(tiny, tmp_path):
    from fastprompt.training.progress import RunLog

    model = make_model(tiny["bert"])
    schedule = LearningRateSchedule(1e30, "constant")
    trainer = Trainer(
        model=model,
        driver=fp.backend(),
        device="cpu",
        n_epochs=2,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e30),
        train_dataloader=loader(tiny["bert"], batch_size=16),
        callbacks=[schedule, RunLog(tmp_path / "history.jsonl", schedule, every=1)],
        progress_bar=None,
    )
    with pytest.raises(TrainingError, match="lower the learning rate"):
        trainer.run()


def test_the_schedule_sets_the_rate_before_every_step(tiny):
    rates = []

    class Rates(Callback):
        def on_after_optimizers_step(self, trainer, optimizers):
            rates.append(schedule.current)

    schedule = LearningRateSchedule(1e-2, "linear", warmup_ratio=0.25)
    fit_callbacks = [schedule, Rates()]
    model = make_model(tiny["bert"])
    Trainer(
        model=model,
        driver=fp.backend(),
        device="cpu",
        n_epochs=2,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e-2),
        train_dataloader=loader(tiny["bert"], batch_size=8),
        callbacks=fit_callbacks,
        progress_bar=None,
    ).run()
    assert len(rates) == 16
    assert max(rates) == rates[4] == 1e-2
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(1e-2 / 12)


def test_schedules_are_what_they_are_called():
    assert [SCHEDULES["constant"](step, 10, 2, 5) for step in (0, 1, 2, 9)] == [1 / 3, 2 / 3, 1, 1]
    assert SCHEDULES["exponential"](9, 10, 0, 5) == pytest.approx(0.95)
    assert SCHEDULES["linear"](0, 10, 0, 5) == 1
    assert math.isclose(SCHEDULES["linear"](5, 10, 0, 5), 0.5)
    with pytest.raises(ConfigError, match="one of linear, constant, exponential"):
        LearningRateSchedule(1e-2, "cosine")


def test_the_example_script_runs_with_its_callbacks(run_python, tiny, tmp_path):
    """CheckpointCallback, LoadBestModelCallback (prompt only), EarlyStopCallback and the rich bar."""
    data = tmp_path / "glue"
    data.mkdir()
    for split, name in (("train", "train.tsv"), ("validation", "dev.tsv")):
        rows = fp.load_reviews(split).head(64)
        lines = [f"{text}\t{label}" for text, label in zip(rows.texts, rows.labels, strict=True)]
        (data / name).write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    done = run_python(
        *(fp.backend(), "examples/sst2_trainer.py", tiny["bert"], "--data_dir", data),
        *("--n_epochs", "3", "--output_dir", tmp_path / "out"),
    )
    assert "acc#acc" in done.stdout.splitlines()[-1]
    (saved,) = (tmp_path / "out").glob("*/model-last")
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "prompt.safetensors", "prompt_config.json"]
    assert json.loads((saved / "prompt_config.json").read_text())["pre_seq_len"] == 20
    fp.PromptForSequenceClassification.from_pretrained(saved)
