"""--max_steps: a training that ends after so many optimizer steps, within an epoch or after several."""

import json
import re
import shutil

from fastprompt.errors import ConfigError
from fastprompt.options.parsing import read_given
from fastprompt.options.train import TrainOptions
from fastprompt.saving.prompt_file import read_prompt
from fastprompt.training.checkpointing import find_checkpoints

import numpy
import pytest


@pytest.fixture(scope="module")
def task(tiny, tmp_path_factory):
    """24 examples in batches of four: six an epoch, three optimizer steps of two batches each."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("train", "dev"):
        rows = [f"{'good' if number % 2 else 'bad'} film {number}\t{number % 2}" for number in range(24)]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return [
        *("--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2", "--data_dir", folder),
        *("--pre_seq_len", "2", "--per_device_train_batch_size", "4", "--logging_steps", "1", "--warmup_ratio", "0"),
    ]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_prompt(one, other):
    one, other = read_prompt(one).tensors, read_prompt(other).tensors
    for name, value in one.items():
        numpy.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.fixture(scope="module")
def four(train_here, task, tmp_path_factory):
    """(the metrics of a run of four steps, its folder)"""
    folder = tmp_path_factory.mktemp("four") / "out"
    more = ["--evaluation_strategy", "epoch", "--save_strategy", "epoch", "--gradient_accumulation_steps", "2"]
    return train_here(*task, *more, "--max_steps", "4", "--output_dir", folder), folder


def test_a_run_ends_after_its_steps_with_the_schedule_of_them(four):
    metrics, folder = four
    assert (metrics["steps"], metrics["max_steps"], metrics["num_train_epochs"]) == (4, 4, None)
    history = lines(folder / "history.jsonl")
    assert [line["step"] for line in history] == list(range(1, 9))  # batches
    rates = [line["learning_rate"] for line in history[1::2]]
    numpy.testing.assert_allclose(rates, [rates[0] * share for share in (1, 0.75, 0.5, 0.25)])
    assert metrics["samples_per_second"] > 0


def test_what_is_done_at_the_end_of_an_epoch_is_done_at_the_end_of_the_run(four):
    """The run ends in its second epoch, after two of its six batches."""
    found = [(line["step"], line["epoch"]) for line in lines(four[1] / "evaluations.jsonl")]
    assert found == [(6, 1.0), (8, 1.333)]
    assert [folder.name for folder in find_checkpoints(four[1])] == ["checkpoint-6", "checkpoint-8"]


def test_steps_of_whole_epochs_are_those_epochs(train_here, task, tmp_path):
    steps = train_here(*task, "--max_steps", "12", "--output_dir", tmp_path / "steps")
    epochs = train_here(*task, "--num_train_epochs", "2", "--output_dir", tmp_path / "epochs")
    assert steps["steps"] == epochs["steps"] == 12
    assert lines(tmp_path / "steps" / "history.jsonl") == lines(tmp_path / "epochs" / "history.jsonl")
    assert_same_prompt(tmp_path / "steps", tmp_path / "epochs")


def test_a_stopped_run_goes_on_and_a_finished_one_is_done(train_here, task, four, tmp_path, capfd):
    metrics, folder = four
    stopped = shutil.copytree(folder, tmp_path / "out")
    more = ["--evaluation_strategy", "epoch", "--save_strategy", "epoch", "--gradient_accumulation_steps", "2"]
    again = [*task, *more, "--output_dir", stopped, "--resume_from_checkpoint", "last", "--max_steps"]
    assert train_here(*again, "4") == metrics
    (stopped / "metrics.json").unlink()
    shutil.rmtree(stopped / "checkpoint-8")
    assert train_here(*again, "4")["steps"] == 4
    for name in ("history.jsonl", "evaluations.jsonl"):
        assert lines(stopped / name) == lines(folder / name)
    assert_same_prompt(stopped, folder)
    with pytest.raises(ConfigError, match="with max_steps 4, now it is 3"):
        train_here(*again, "3")
    with pytest.raises(ConfigError, match="with num_train_epochs None, now it is 2"):
        train_here(*again[:-1], "--num_train_epochs", "2")
    capfd.readouterr()
    assert train_here(*again, "5")["steps"] == 5
    assert "with max_steps 4, now it is 5: the training goes on" in capfd.readouterr().err
    assert [line["step"] for line in lines(stopped / "history.jsonl")] == list(range(1, 11))


def test_two_processes_end_after_the_same_steps(command, train_here, task, tmp_path):
    task = [*task, "--attention_probs_dropout_prob", "0", "--device", "cpu", "--max_steps", "4", "--output_dir"]
    one = train_here(*task, tmp_path / "one")
    two = tmp_path / "two"
    command("train", *task, two, "--per_device_train_batch_size", "2", "--num_processes", "2")
    assert one["steps"] == json.loads((two / "metrics.json").read_text())["steps"] == 4
    losses = [[line["loss"] for line in lines(folder / "history.jsonl")] for folder in (tmp_path / "one", two)]
    numpy.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.once
def test_epochs_beside_steps_are_refused_and_a_recipe_s_are_left_out(tmp_path, capsys):
    given = {"model_name_or_path": "M", "task_name": "reviews", "max_steps": 3}
    with pytest.raises(ConfigError, match=re.escape("--num_train_epochs would change nothing: --max_steps takes its")):
        read_given({**given, "num_train_epochs": 2}).used()
    with pytest.raises(ConfigError, match="--num_train_epochs and --max_steps both say when the training ends"):
        TrainOptions(**given, num_train_epochs=2)
    with pytest.raises(ConfigError, match="max_steps is 0"):
        TrainOptions(**{**given, "max_steps": 0})
    with pytest.raises(ConfigError, match="--max_steps would change nothing: lama has no use for it"):
        read_given({**given, "task_name": "lama"}).used()
    recipe = {"recipe": "rte-bert-large", "max_steps": 3}
    used = read_given(recipe).used()
    assert (used["max_steps"], "num_train_epochs" in used) == (3, False)
    assert "note: --num_train_epochs is left out: --max_steps takes its place." in capsys.readouterr().err
