"""`fastprompt search`: what is tried, what chooses, and a search that was killed and goes on."""

import json
import os
import signal
import subprocess
import sys
import time

from fastprompt.cli import make_parser
from fastprompt.compare.search import Search
from fastprompt.errors import ConfigError
from fastprompt.options.parsing import Given, gather

import pytest
import yaml

pytestmark = pytest.mark.once

ROWS = [("a b c", 1), ("d e f", 0), ("a a b", 1), ("f e e", 0)] * 6


@pytest.fixture
def task(tiny, tmp_path):
    """A training whose data have no other split than the training's."""
    data = tmp_path / "data"
    data.mkdir()
    lines = [f"{text}\t{label}" for text, label in ROWS]
    (data / "train.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return {
        **{"model_name_or_path": str(tiny["bert"]), "task_name": "glue", "dataset_name": "sst2"},
        **{"data_dir": str(data), "num_train_epochs": 8, "per_device_train_batch_size": 8},
    }


def search_of(task, tmp_path, over, **more):
    values = {"learning_rate": 0.1, **task, **more.pop("given", {})}
    values = {name: value for name, value in values.items() if name not in over}
    given = Given(values, frozenset(values))
    return Search(given, tmp_path / "out", "torch", over, more.pop("seeds", [11]), **more)


def test_a_grid_is_every_combination_with_every_seed(task, tmp_path):
    over = {"learning_rate": ["1e-3", "0.1"], "prefix_layers": ["last:1", "0,2", "default"]}
    search = search_of(task, tmp_path, over, seeds=[11, 12])
    assert len(search.settings) == 6
    assert {"learning_rate": 0.1, "prefix_layers": ("0", "2")} in search.settings
    runs = search.runs()
    assert [run.seed for run in runs] == [11] * 6 + [12] * 6
    assert len({run.directory for run in runs}) == 12
    words = runs[1].arguments()
    assert words[words.index("--prefix_layers") + 1 :][:2] == ["0", "2"]
    assert "--prefix_layers" not in runs[2].arguments()
    assert "--do_train" in words
    assert "--do_eval" not in words


def test_settings_are_drawn_by_the_seed_and_no_two_are_alike(task, tmp_path):
    over = {"learning_rate": ["1e-4..1e-1"], "pre_seq_len": ["2..9"], "method": ["p-tuning-v2", "prompt-tuning"]}
    found = [search_of(task, tmp_path, over, trials=8, given={"seed": seed}).settings for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert len({str(setting) for setting in found[0]}) == 8
    for setting in found[0]:
        assert 1e-4 <= setting["learning_rate"] <= 1e-1
        assert setting["pre_seq_len"] in range(2, 10)
    few = search_of(task, tmp_path, {"pre_seq_len": ["2", "3"]}, trials=8)
    assert len(few.settings) == 2


def test_a_share_of_the_training_examples_is_set_apart_or_as_many_as_are_asked_for(task, tmp_path):
    over = {"pre_seq_len": ["2"]}
    assert search_of(task, tmp_path, over).apart == round(0.2 * len(ROWS))
    assert search_of(task, tmp_path, over, given={"max_train_samples": 10}).apart == 2
    assert search_of(task, tmp_path, over, given={"selection_samples": 7}).apart == 7


REFUSED = {
    "no option": ({"rate": ["1"]}, {}, "--over rate: there is no such option"),
    "the seed": ({"seed": ["1"]}, {}, "--over seed: there is no such option of a training that can be searched"),
    "a range in a grid": ({"pre_seq_len": ["2..4"]}, {}, "is a range, from which --trials N draws"),
    "no range": ({"pre_seq_len": ["4..2"]}, {"trials": 2}, "is no range of numbers"),
    "no number": ({"pre_seq_len": ["a"]}, {}, "pre_seq_len is 'a'; it must be of type int"),
    "a value that cannot work": ({"pre_seq_len": ["0"]}, {}, "pre_seq_len 0: pre_seq_len is 0"),
    "what changes nothing": (
        {"prefix_layers": ["last:1"]},
        {"given": {"method": "prompt-tuning"}},
        "prefix_layers last:1: --prefix_layers would change nothing",
    ),
    "the reported split": ({"pre_seq_len": ["2"]}, {"given": {"do_eval": True}}, "leave --do_eval off"),
    "all set apart": ({"pre_seq_len": ["2"]}, {"given": {"selection_samples": 24}}, "24 of 24 training examples"),
    "a score that is none": (
        {"pre_seq_len": ["2"]},
        {"given": {"metric_for_best_model": "bleu"}},
        "--metric_for_best_model is 'bleu'",
    ),
    "a seed twice": ({"pre_seq_len": ["2"]}, {"seeds": [1, 1]}, "--seeds names 1 twice"),
    "LAMA": ({"pre_seq_len": ["2"]}, {"given": {"task_name": "lama"}}, "lama chooses by its own development facts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_searched_is_refused_by_name(task, tmp_path, case):
    over, more, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        search_of(task, tmp_path, over, **more)


def test_an_option_that_is_given_and_searched_is_refused(task, tmp_path):
    given = {**task, "pre_seq_len": 3}
    with pytest.raises(ConfigError, match="--pre_seq_len is given and searched"):
        Search(Given(given, frozenset(given)), tmp_path, "torch", {"pre_seq_len": ["2"]}, [11])


def test_a_folder_holds_one_search_which_may_have_had_other_settings(task, tmp_path):
    search_of(task, tmp_path, {"pre_seq_len": ["2"]}).prepare()
    search_of(task, tmp_path, {"pre_seq_len": ["2", "3"]}, seeds=[11, 12]).prepare()
    other = search_of(task, tmp_path, {"pre_seq_len": ["2"]}, given={"weight_decay": 0.1})
    with pytest.raises(ConfigError, match=r"holds a search with weight_decay not given, now it is 0\.1"):
        other.prepare()
    other.overwrite = True
    other.prepare()


def test_a_killed_search_goes_on_and_writes_the_best_as_a_file_for_config(task, tmp_path, run_python):
    out = tmp_path / "out"
    words = [word for name, value in task.items() for word in (f"--{name}", str(value))]
    words += ["--over", "learning_rate", "1e-12", "0.1", "--pre_seq_len", "3", "--selection_samples", "8"]
    words += ["--metric_for_best_model", "loss"]
    words = ["-m", "fastprompt.cli", "search", *words, "--backend", "torch", "--output_dir", str(out)]
    process = subprocess.Popen([sys.executable, *words], start_new_session=True, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(out.glob("runs/*/metrics.json")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (first,) = out.glob("runs/*/metrics.json")
    written = first.stat().st_mtime_ns
    done = run_python(None, *words)
    assert "2 settings x 1 seeds are 2 trainings under torch, 1 of them done" in done.stderr
    assert "loss on 8 training examples set apart chooses" in done.stderr
    assert first.stat().st_mtime_ns == written
    results = json.loads((out / "results.json").read_text())["settings"]
    assert [row["setting"] for row in results] == [{"learning_rate": 0.1}, {"learning_rate": 1e-12}]
    assert results[0]["mean"] < results[1]["mean"]
    # the file is a training's: of the best setting, and of nothing of the search's
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert best == {**task, "learning_rate": 0.1, "pre_seq_len": 3}
    given = vars(make_parser().parse_args(["train", "--config", str(out / "best.yaml")]))
    del given["command"]
    options = gather(given)
    assert options.training.learning_rate == 0.1
    assert options.evaluation.selection_samples is None
    assert "best: learning_rate 0.1" in done.stdout
    assert "train it: fastprompt train --config" in done.stdout
