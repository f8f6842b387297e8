"""P-Tuning v2's command, flag for flag: what is done, when it is evaluated, and which prompt is saved."""

import json

from fastprompt.commands.predict import predict
from fastprompt.errors import ConfigError
from fastprompt.options.parsing import gather, recipes
from fastprompt.options.train import TrainOptions

import pytest

ROWS = [("a fine film", 1), ("a dull film", 0), ("warm and bright", 1), ("cold and grey", 0)] * 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder in GLUE's form with a test file, which has no labels."""
    folder = tmp_path_factory.mktemp("glue")
    lines = [f"{text}\t{label}" for text, label in ROWS]
    (folder / "train.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    (folder / "dev.tsv").write_text("\n".join(["sentence\tlabel", *lines[:5]]) + "\n")
    (folder / "test.tsv").write_text("index\tsentence\n0\ta warm film\n1\tgrey and dull\n")
    return folder


@pytest.fixture
def run(train_here, tiny, data, tmp_path):
    """run(*arguments): a training of three epochs of three steps; gives the folder."""

    def train(*arguments):
        train_here(
            *("--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2"),
            *("--data_dir", data, "--output_dir", tmp_path / "out", "--num_train_epochs", "3", "--pre_seq_len", "3"),
            *("--per_device_train_batch_size", "8", *arguments),
        )
        return tmp_path / "out"

    return train


def evaluations(folder):
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_evaluations_come_every_epoch_or_every_so_many_steps(run):
    folder = run("--evaluation_strategy", "epoch")
    found = evaluations(folder)
    assert [(line["step"], line["epoch"]) for line in found] == [(3, 1.0), (6, 2.0), (9, 3.0)]
    metrics = metrics_of(folder)
    assert {name: metrics[name] for name in ("accuracy", "loss")} == {k: found[-1][k] for k in ("accuracy", "loss")}
    folder = run("--evaluation_strategy", "steps", "--eval_steps", "4", "--overwrite_output_dir")
    assert [line["step"] for line in evaluations(folder)] == [4, 8]


def test_evaluating_on_the_way_changes_nothing_of_the_training(run):
    plain = (run() / "prompt.safetensors").read_bytes()
    evaluated = run("--evaluation_strategy", "epoch", "--overwrite_output_dir")
    assert (evaluated / "prompt.safetensors").read_bytes() == plain


def test_the_best_prompt_is_saved_and_where_it_was_chosen_is_reported(run):
    arguments = ["--evaluation_strategy", "steps", "--eval_steps", "2", "--load_best_model_at_end"]
    folder = run(*arguments, "--metric_for_best_model", "loss", "--learning_rate", "0.5")
    found, metrics = evaluations(folder), metrics_of(folder)
    best = min(found, key=lambda line: line["loss"])
    assert best is not found[-1], "the rate is meant to be too high for the last to be best"
    assert (metrics["best_step"], metrics["best_metric"]) == (best["step"], "loss")
    assert metrics["loss"] == pytest.approx(best["loss"], rel=1e-5)
    assert metrics["best_chosen_on"] == "the evaluation split, the same that is reported"
    assert not (folder / "best").exists()


def test_a_split_apart_chooses_the_best(run):
    arguments = ["--evaluation_strategy", "epoch", "--load_best_model_at_end", "--selection_samples", "8"]
    metrics = metrics_of(run(*arguments))
    assert metrics["best_chosen_on"] == "8 training examples set apart"
    assert (metrics["train_samples"], metrics["steps"]) == (16, 6)
    assert metrics["eval_samples"] == 5


def test_a_test_split_is_answered(run):
    folder = run("--do_train", "--do_predict")
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["a warm film", "grey and dull"]
    assert "accuracy" not in metrics_of(folder)
    asked = [("line 1", "a warm film"), ("line 2", "grey and dull")]
    again = list(predict(TrainOptions(model_name_or_path=str(folder)), asked))
    assert [line["label"] for line in again] == [line["label"] for line in lines]


def test_a_saved_prompt_is_evaluated_without_training(run, train_here, data, tmp_path):
    folder = run()
    arguments = ["--task_name", "glue", "--dataset_name", "sst2", "--data_dir", data, "--output_dir", tmp_path / "new"]
    found = train_here("--do_eval", "--model_name_or_path", folder, *arguments)
    assert found["accuracy"] == metrics_of(folder)["accuracy"]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"metrics.json"}


MISTAKES = {
    "evaluating what was never trained": (["--do_eval"], "holds no prompt"),
    "the best of no evaluations": (["--load_best_model_at_end"], "needs evaluations: --evaluation_strategy"),
    "a split that chooses nothing": (["--selection_samples", "4"], "goes with --load_best_model_at_end"),
    "a split that leaves nothing to train on": (
        ["--selection_samples", "24", "--load_best_model_at_end", "--evaluation_strategy", "epoch"],
        "--selection_samples is 24, and there are 24 training examples",
    ),
    "a score that the task has not": (
        ["--metric_for_best_model", "f1", "--load_best_model_at_end", "--evaluation_strategy", "epoch"],
        "--metric_for_best_model is 'f1'; there are accuracy, loss",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_reported_in_a_line(run, case):
    arguments, message = MISTAKES[case]
    with pytest.raises(ConfigError) as caught:
        run(*arguments)
    assert message in str(caught.value)


def test_the_published_squad_command_runs_as_it_is_written(command, minilm, squad, tmp_path):
    """The command of the walk through P-Tuning v2's code, its model and data replaced, on the first questions."""
    articles = json.loads((squad / "dev-v1.1.json").read_text())["data"][0]
    cut = [{**articles, "paragraphs": [{**articles["paragraphs"][0], "qas": articles["paragraphs"][0]["qas"][:5]}]}]
    for name in ("train.json", "dev.json"):
        (tmp_path / name).write_text(json.dumps({"version": "1.1", "data": cut}))
    command(
        "train",
        *f"--model_name_or_path {minilm} --task_name qa --dataset_name squad --do_train --do_eval "
        f"--max_seq_length 128 --per_device_train_batch_size 2 --learning_rate 5e-3 --num_train_epochs 10 "
        f"--pre_seq_len 128 --output_dir {tmp_path}/checkpoints/SQuAD-bert --overwrite_output_dir "
        f"--hidden_dropout_prob 0.1 --seed 11 --save_strategy no --evaluation_strategy epoch --prefix "
        f"--data_dir {tmp_path}".split(),
    )
    folder = tmp_path / "checkpoints/SQuAD-bert"
    answers = json.loads((folder / "predictions.json").read_text())
    assert set(answers) == {question["id"] for question in cut[0]["paragraphs"][0]["qas"]}
    metrics = metrics_of(folder)
    assert metrics["train_samples"] == 5
    assert metrics["trainable_parameters"] == 128 * 2 * 6 * 384 + 2 * 384 + 2
    assert 0 <= metrics["exact_match"] <= metrics["f1"] <= 1
    assert len(evaluations(folder)) == 10


@pytest.mark.once
@pytest.mark.parametrize("name", recipes())
def test_a_recipe_is_a_whole_run(name):
    options = gather({"recipe": name})
    assert options.data.task_name
    assert options.model.model_name_or_path
    assert gather({"recipe": name, "seed": 3, "model_name_or_path": "M"}).model.seed == 3


@pytest.mark.once
def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="no recipe 'rte'; there are boolq-bert-large, "):
        gather({"recipe": "rte"})


@pytest.mark.once
def test_a_prefix_made_by_a_network_trains_at_a_rate_of_its_own():
    plain, projected = (
        gather({"model_name_or_path": "M"}),
        gather({"model_name_or_path": "M", "prefix_projection": True}),
    )
    assert (plain.training.learning_rate, projected.training.learning_rate) == (3e-2, 1e-3)
