"""A finished run is handed back for its own request alone; more epochs go on, and anything else is refused by name."""

import json
import re
import shutil

import fastprompt as fp
from fastprompt.errors import CheckpointError, ConfigError

import pytest

ROWS = [("a fine film", 1), ("a dull film", 0), ("warm and bright", 1), ("cold and grey", 0)] * 6


def write(folder, rows):
    lines = [f"{text}\t{label}" for text, label in rows]
    (folder / "train.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    (folder / "dev.tsv").write_text("\n".join(["sentence\tlabel", *lines[:5]]) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glue")
    write(folder, ROWS)
    return folder


@pytest.fixture(scope="module")
def task(tiny, data):
    """Steps of eight examples, three an epoch."""
    return [
        *("--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2", "--data_dir", data),
        *("--pre_seq_len", "3", "--per_device_train_batch_size", "8", "--logging_steps", "1", "--save_steps", "2"),
    ]


@pytest.fixture(scope="module")
def finished(train_here, task, tmp_path_factory):
    """The folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    train_here(*task, "--num_train_epochs", "2", "--output_dir", folder)
    return folder


@pytest.fixture
def again(train_here, task, finished, tmp_path):
    """again(*changed): the run's command once more on a copy of its folder; a later option replaces an earlier one."""
    folder = shutil.copytree(finished, tmp_path / "out")

    def run(*changed):
        arguments = (*task, "--num_train_epochs", "2", "--output_dir", folder, "--resume_from_checkpoint", "last")
        return train_here(*arguments, *changed)

    run.folder = folder
    return run


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SAME = {
    "the same": [],
    "other lines of history": ["--logging_steps", "2"],
    "evaluations on the way": ["--evaluation_strategy", "epoch"],
    "fewer examples to evaluate": ["--max_eval_samples", "3"],
    "another size of evaluation": ["--per_device_eval_batch_size", "3"],
    "fewer checkpoints": ["--save_total_limit", "1"],
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_request_changes_nothing(again, case):
    before = content(again.folder)
    assert again(*SAME[case]) == json.loads(before[(again.folder / "metrics.json").relative_to(again.folder)])
    assert content(again.folder) == before


OTHER = {
    "seed": (["--seed", "5"], "seed 11, now it is 5"),
    "method": (["--method", "p-tuning"], "method p-tuning-v2, now it is p-tuning"),
    "length": (["--pre_seq_len", "4"], "pre_seq_len 3, now it is 4"),
    "rate": (["--learning_rate", "0.1"], "learning_rate 0.03, now it is 0.1"),
    "schedule": (["--warmup_ratio", "0.5"], "warmup_ratio 0.06, now it is 0.5"),
    "dropout": (["--hidden_dropout_prob", "0.1"], "hidden_dropout_prob None, now it is 0.1"),
    "fewer epochs": (["--num_train_epochs", "1"], "num_train_epochs 2, now it is 1"),
    "batch": (["--per_device_train_batch_size", "4"], "per_device_train_batch_size times processes 8, now it is 4"),
    "examples": (["--max_train_samples", "16"], "max_train_samples None, now it is 16"),
    "what is done": (["--do_train"], "do_eval True, now it is False"),
}


@pytest.mark.parametrize("case", OTHER)
def test_another_request_is_refused_by_name(again, case):
    changed, message = OTHER[case]
    before = content(again.folder)
    with pytest.raises(ConfigError, match=re.escape(f"holds a finished run with {message}")):
        again(*changed)
    assert content(again.folder) == before


def test_another_model_is_refused(again, tiny):
    with pytest.raises(ConfigError, match="holds a finished run with model_name_or_path"):
        again("--model_name_or_path", tiny["distilbert"])


@pytest.mark.parametrize("ended", [True, False])
def test_changed_training_data_are_refused(again, data, tmp_path, ended):
    """A finished run, and one that a checkpoint goes on with."""
    other = tmp_path / "data"
    other.mkdir()
    if not ended:
        (again.folder / "metrics.json").unlink()
    write(other, ROWS[::-1])
    with pytest.raises(ConfigError, match="with train_fingerprint"):
        again("--data_dir", other)
    write(other, ROWS[:-1])
    with pytest.raises(ConfigError, match="with train_samples 24, now it is 23"):
        again("--data_dir", other)
    write(other, ROWS)
    again("--data_dir", other)


def test_more_epochs_go_on_from_the_last_state_with_the_new_schedule(again, capfd):
    metrics = again("--num_train_epochs", "4")
    assert metrics["steps"] == 12
    printed = capfd.readouterr().err
    assert "with num_train_epochs 2, now it is 4: the training goes on with the schedule of the new total" in printed
    assert "not what it would have been from the start" in printed
    history = [json.loads(line) for line in (again.folder / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == list(range(1, 13))
    assert history[5]["learning_rate"] < history[6]["learning_rate"]  # the end of the short one, and then the long one
    assert history[-1]["learning_rate"] < history[6]["learning_rate"]
    assert again("--num_train_epochs", "4") == metrics
    with pytest.raises(ConfigError, match="num_train_epochs 4, now it is 2"):
        again()


def test_more_epochs_are_refused_without_a_state_of_the_optimizer(again):
    for folder in again.folder.glob("checkpoint-*"):
        shutil.rmtree(folder)
    before = content(again.folder)
    with pytest.raises(CheckpointError, match="no state of its optimizer to go on from"):
        again("--num_train_epochs", "4")
    assert content(again.folder) == before


def test_the_best_prompt_so_far_stays_the_best_where_more_epochs_go_on(train_here, task, tmp_path):
    arguments = [*task, "--evaluation_strategy", "epoch", "--load_best_model_at_end", "--output_dir", tmp_path]
    first = train_here(*arguments, "--metric_for_best_model", "loss", "--num_train_epochs", "2")
    resumed = ["--resume_from_checkpoint", "last", "--metric_for_best_model", "loss", "--num_train_epochs", "3"]
    second = train_here(*arguments, *resumed)
    lines = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert second["best_step"] == min(lines, key=lambda line: line["loss"])["step"]
    assert second["loss"] == pytest.approx(min(line["loss"] for line in lines), rel=1e-5)
    assert first["best_step"] <= second["best_step"]


def test_training_on_from_another_prompt_is_another_run(train_here, task, finished, tmp_path):
    words = [word for word in task if word not in ("--pre_seq_len", "3")]
    prompt = shutil.copytree(finished, tmp_path / "prompt")
    arguments = [*words, "--model_name_or_path", prompt, "--output_dir", tmp_path / "out"]
    first = train_here(*arguments, "--num_train_epochs", "1")
    assert train_here(*arguments, "--resume_from_checkpoint", "last") == first
    model = fp.load_prompt_model(prompt)
    for tensor in model.trainable_parameters():
        fp.framework.nn.set_value(tensor, fp.framework.ops.to_numpy(tensor) * 2)
    model.save_pretrained(prompt)
    with pytest.raises(ConfigError, match="holds a finished run with initial_prompt"):
        train_here(*arguments, "--resume_from_checkpoint", "last")
