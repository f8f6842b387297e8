"""Accumulated batches: every group is a step of its batches' mean loss, the last, shorter one too."""

import json
import shutil
from functools import partial

import fastprompt as fp
from fastprompt.framework import ops, optim
from fastprompt.saving.trainer_state import read_state
from fastprompt.training.optimization import LearningRateSchedule

import numpy
import pytest
from fastNLP import Callback, Trainer

WORDS = ["a", "fine", "dull", "film", "warm", "and", "bright", "cold", "it", "was", "best"]
BATCHES = 11  # of two examples
LR = 0.5

torch_only = pytest.mark.skipif(fp.backend() != "torch", reason="on a CPU torch alone has fp16")
drivers = pytest.mark.parametrize("driver", [fp.backend(), fp.get_driver], ids=["by name", "ours"])


class Steps(Callback):
    """Counts the optimizer's steps, and has the run stop after a batch."""

    def __init__(self, checkpoint=None, after=None):
        super().__init__()
        self.count, self.checkpoint, self.after = 0, checkpoint, after

    def on_after_optimizers_step(self, trainer, optimizers):
        self.count += 1

    def on_train_batch_end(self, trainer):
        if trainer.global_forward_batches == self.after:
            trainer.save_checkpoint(self.checkpoint)


def make_model(folder):
    return fp.PromptForSequenceClassification.from_pretrained(
        folder, fp.PTuningV2Config(pre_seq_len=3), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )


def make_loader(folder):
    data = fp.load_reviews("train").head(2 * BATCHES)
    return fp.make_dataloader(data, fp.load_tokenizer(folder), batch_size=2, shuffle=True, seed=5)


def make_optimizer(model):
    # so large an eps makes the update proportional to the gradient, small ones included
    return fp.AdamW(model.trainable_parameters(), lr=LR, eps=1.0, weight_decay=0.0)


def make_trainer(folder, driver, every, callbacks=(), n_epochs=1):
    model, steps = make_model(folder), Steps()
    return Trainer(
        model=model,
        driver=driver(model) if callable(driver) else driver,
        device="cpu",
        n_epochs=n_epochs,
        optimizers=make_optimizer(model),
        train_dataloader=make_loader(folder),
        accumulation_steps=every,
        callbacks=list(callbacks) or [steps],
        progress_bar=None,
    )


def tuned(model):
    return {name: ops.to_numpy(p) for name, p in model.tuned_parameters().items()}


def by_hand(folder, groups):
    """The tensors after one step for each group of batches, whose loss is the mean of theirs."""
    model, loader = make_model(folder), make_loader(folder)
    optimizer, parameters = make_optimizer(model), model.trainable_parameters()
    model.train()
    batches = (batch for _ in range(10) for batch in loader)
    for size in groups:
        found = [ops.gradients(model.train_step(**next(batches))["loss"], parameters) for _ in range(size)]
        optim.step_with(optimizer, parameters, [sum(grads) / size for grads in zip(*found, strict=True)])
    return tuned(model)


def assert_equal_tensors(found, wanted, exactly=False):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if exactly:
            numpy.testing.assert_array_equal(found[name], value)
        else:
            numpy.testing.assert_allclose(found[name], value, rtol=0, atol=2e-6, err_msg=name)


@drivers
@pytest.mark.parametrize(
    ("every", "n_epochs", "groups"),
    [(64, 1, [11]), (4, 1, [4, 4, 3]), (5, 2, [5, 5, 5, 5, 2]), (11, 1, [11])],
    ids=["more than there are", "three left", "two left of two epochs", "none left"],
)
def test_every_group_of_batches_is_a_step(tiny, driver, every, n_epochs, groups):
    steps = Steps()
    trainer = make_trainer(tiny["bert"], driver, every, [steps], n_epochs)
    start = tuned(trainer.model)
    trainer.run(catch_KeyboardInterrupt=False)
    assert steps.count == len(groups)
    found = tuned(trainer.model)
    assert all((found[name] != value).any() for name, value in start.items())
    assert_equal_tensors(found, by_hand(tiny["bert"], groups))


def test_the_schedule_ends_with_the_last_group(tiny):
    rates, per_epoch = [], []

    class Rates(Callback):
        def on_after_optimizers_step(self, trainer, optimizers):
            rates.append(schedule.current)

    for name in ("linear", "exponential"):
        schedule = LearningRateSchedule(1.0, name)
        make_trainer(tiny["bert"], fp.backend(), 4, [schedule, Rates()], 3).run(catch_KeyboardInterrupt=False)
    linear, per_epoch = rates[:9], rates[9:]  # 33 batches
    assert linear == pytest.approx([(9 - step) / 9 for step in range(9)])
    # by the epoch of a group's first batch: of batches 0, 4, 8 | 12, 16, 20 | 24, 28, 32
    assert per_epoch == pytest.approx([1, 1, 1, 0.95, 0.95, 0.95, 0.9025, 0.9025, 0.9025])


@torch_only
def test_in_mixed_precision_the_last_group_has_its_own_mean(tiny):
    driver = partial(fp.get_driver, fp16=True)
    steps = Steps()
    trainer = make_trainer(tiny["bert"], driver, 8, [fp.ClipGradients(1e9), steps])
    trainer.run(catch_KeyboardInterrupt=False)
    assert steps.count == 2
    start, wanted = tuned(make_model(tiny["bert"])), by_hand(tiny["bert"], [8, 3])
    for name, value in tuned(trainer.model).items():
        moved = abs(wanted[name] - start[name]).max()
        numpy.testing.assert_allclose(value, wanted[name], rtol=0, atol=0.02 * moved, err_msg=name)


HALF = pytest.param(partial(fp.get_driver, fp16=True), id="fp16", marks=torch_only)


@pytest.mark.parametrize(
    "driver", [pytest.param(fp.backend(), id="by name"), pytest.param(fp.get_driver, id="ours"), HALF]
)
@pytest.mark.parametrize("after", [6, 9, 11], ids=["in a group", "in the last group", "at the end of an epoch"])
def test_a_run_that_resumes_within_a_group_keeps_the_groups_gradients(tiny, driver, after, tmp_path):
    n_epochs = 2 if after == 11 else 1
    whole = make_trainer(tiny["bert"], driver, 4, [Steps(tmp_path / "checkpoint", after)], n_epochs)
    whole.run(catch_KeyboardInterrupt=False)
    steps = Steps()
    resumed = make_trainer(tiny["bert"], driver, 4, [steps], n_epochs)
    resumed.load_checkpoint(tmp_path / "checkpoint")
    resumed.run(catch_KeyboardInterrupt=False)
    assert steps.count == -(-BATCHES * n_epochs // 4) - after // 4
    assert_equal_tensors(tuned(resumed.model), tuned(whole.model), exactly=True)


def test_without_a_groups_gradients_the_rest_of_it_is_a_group(tiny, tmp_path):
    """As in checkpoints written before they held them, or in one of a finished run that more epochs follow."""
    finished = make_trainer(tiny["bert"], fp.get_driver, 4, [Steps(tmp_path / "checkpoint", BATCHES)])
    finished.run(catch_KeyboardInterrupt=False)
    steps = Steps()
    longer = make_trainer(tiny["bert"], fp.get_driver, 4, [steps], 2)
    longer.load_checkpoint(tmp_path / "checkpoint")
    longer.run(catch_KeyboardInterrupt=False)
    assert steps.count == 4  # of batches 11 | 12 to 15 | 16 to 19 | 20 and 21
    assert_equal_tensors(tuned(longer.model), by_hand(tiny["bert"], [4, 4, 3, 1, 4, 4, 2]))


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task(tiny, tmp_path_factory):
    """100 examples, in batches of 16 seven, of which the last has four."""
    data = tmp_path_factory.mktemp("glue")
    rows = [f"{WORDS[i % 11]} {WORDS[i * 7 % 11]} {WORDS[i * 5 % 11]}\t{i % 2}" for i in range(100)]
    (data / "train.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return [
        *("--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2", "--do_train"),
        *("--data_dir", data, "--pre_seq_len", "3", "--per_device_train_batch_size", "16", "--warmup_ratio", "0"),
        *("--learning_rate", "0.1", "--hidden_dropout_prob", "0.2", "--logging_steps", "1"),
    ]


def stored(folder):
    return {name: ops.to_numpy(p) for name, p in fp.load_prompt_model(folder).stored_parameters().items()}


@pytest.mark.parametrize(("every", "rates"), [(8, [0.1]), (4, [0.1, 0.05])])
def test_the_command_line_trains_with_every_batch(train_here, task, tmp_path, every, rates):
    arguments = [*task, "--gradient_accumulation_steps", str(every)]
    metrics = train_here(*arguments, "--output_dir", tmp_path / "run", "--save_steps", "3")
    assert metrics["steps"] == len(rates)
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(line["learning_rate"] for line in history if line["learning_rate"])) == rates
    start = read_state(tmp_path / "run" / "checkpoint-3")
    assert "fastprompt.accumulation" in start["callback_states"]
    before, after = (stored(tmp_path / "run" / name) for name in ("checkpoint-3", "."))  # no step has been taken there
    assert all((after[name] != value).any() for name, value in before.items())
    resumed = shutil.copytree(tmp_path / "run", tmp_path / "resumed")
    (resumed / "metrics.json").unlink()
    shutil.rmtree(resumed / "checkpoint-6")
    train_here(*arguments, "--output_dir", resumed, "--save_steps", "3", "--resume_from_checkpoint", "last")
    assert_equal_tensors(stored(resumed), after, exactly=True)
