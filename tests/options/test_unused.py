"""What is given is used, or refused by name; what a recipe brings and has no use for is left out with a line."""

import json
import re
from pathlib import Path

from fastprompt.cli import make_parser
from fastprompt.errors import ConfigError
from fastprompt.options.option import fields_of
from fastprompt.options.parsing import gather, read_given, used_by_each
from fastprompt.saving.prompt_file import CONFIG_FILE

import pytest

pytestmark = pytest.mark.once

GLUE = ["--model_name_or_path", "M", "--task_name", "glue", "--dataset_name", "sst2"]
QA = ["--model_name_or_path", "M", "--task_name", "qa", "--dataset_name", "squad"]
LAMA = ["--model_name_or_path", "M", "--task_name", "lama", "--data_dir", "D"]

UNUSED = {
    "--prompt beside a method": ([*GLUE, "--method", "p-tuning", "--prompt"], "--prompt means --method shallow-prefix"),
    "--prefix beside a method": ([*GLUE, "--prefix", "--method", "prompt-tuning"], "--prefix means"),
    "a projection of p-tuning": ([*GLUE, "--method", "p-tuning", "--prefix_projection"], "--prefix_projection"),
    "an encoder of p-tuning-v2": ([*GLUE, "--prompt_encoder", "mlp"], "--prompt_encoder"),
    "a width without its network": ([*GLUE, "--prefix_hidden_size", "64"], "--prefix_hidden_size"),
    "a deviation of values made of a text": (
        [*GLUE, "--init", "text", "--init_text", "a", "--init_std", "1"],
        "--init_std",
    ),
    "a length of linear-probe": ([*GLUE, "--method", "linear-probe", "--pre_seq_len", "3"], "--pre_seq_len"),
    "steps of no evaluation": ([*GLUE, "--eval_steps", "5"], "--eval_steps"),
    "steps of an evaluation by epochs": (
        [*GLUE, "--evaluation_strategy", "epoch", "--eval_steps", "5"],
        "--eval_steps",
    ),
    "a limit of no checkpoints": ([*GLUE, "--save_total_limit", "2"], "--save_total_limit"),
    "a score that chooses nothing": ([*GLUE, "--metric_for_best_model", "loss"], "--metric_for_best_model"),
    "windows of single texts": ([*GLUE, "--doc_stride", "32"], "--doc_stride"),
    "a chat of questions": ([*QA, "--chat_template", "alpaca"], "--chat_template"),
    "columns of GLUE": ([*GLUE, "--label_column", "y"], "--label_column"),
    "relations of GLUE": ([*GLUE, "--relations", "P1"], "--relations"),
    "patience outside LAMA": ([*GLUE, "--early_stop", "2"], "--early_stop"),
    "checkpoints of LAMA": ([*LAMA, "--save_steps", "5"], "--save_steps"),
    "a backbone that fine-tuning tunes anyway": (
        [*GLUE, "--method", "fine-tuning", "--use_lm_finetune"],
        "fine-tuning has no such option",
    ),
    "a rate of a frozen backbone": (
        [*GLUE, "--backbone_learning_rate", "1e-5"],
        "--backbone_learning_rate would change nothing: it goes with --use_lm_finetune",
    ),
    "a rate of fine-tuning's backbone": (
        [*GLUE, "--method", "fine-tuning", "--backbone_learning_rate", "1e-5"],
        "it goes with --use_lm_finetune",
    ),
    "a deviation beside a prompt to start with": (
        [*GLUE, "--init_prompt", "P", "--init_std", "1"],
        "--init_std would change nothing: the prompt of --init_prompt is the start",
    ),
    "a start of LAMA": ([*LAMA, "--init_prompt", "P"], "--init_prompt"),
    "a rate of what trains nothing": ([*LAMA, "--method", "manual", "--learning_rate", "1"], "--learning_rate"),
}


def options_of(words):
    given = vars(make_parser().parse_args(["train", *map(str, words)]))
    del given["command"]
    return gather(given)


@pytest.mark.parametrize("case", UNUSED)
def test_what_would_do_nothing_is_refused_by_name(case):
    words, name = UNUSED[case]
    with pytest.raises(ConfigError, match=re.escape(name)):
        options_of(words)


@pytest.mark.parametrize("case", [case for case in UNUSED if "beside" not in case])
def test_a_config_file_is_held_to_the_same(tmp_path, case):
    words, name = UNUSED[case]
    given = vars(make_parser().parse_args(["train", *words]))
    del given["command"]
    given = {option: value for option, value in given.items() if value is not None}
    (tmp_path / "run.yaml").write_text(json.dumps(given))  # JSON is YAML
    with pytest.raises(ConfigError, match=re.escape(name)):
        gather({"config": str(tmp_path / "run.yaml")})


@pytest.fixture
def prompt(tmp_path):
    """The folder of a saved prompt, as far as its JSON says."""
    content = {
        **{"format_version": 1, "method": "fine-tuning", "pooling": "first", "train_head": True, "template": None},
        **{"verbalizer": None, "task": "sequence_classification", "num_labels": 2, "labels": ["a", "b"]},
        **{"backbone": {"name_or_path": "M", "model_type": "bert", "fingerprint": "0"}, "tensors": {}},
    }
    (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    "words", [["--method", "p-tuning"], ["--prefix"], ["--pooling", "mean"], ["--pre_seq_len", "3"]]
)
def test_a_saved_prompt_brings_its_method(prompt, words):
    with pytest.raises(ConfigError, match=r"is a saved prompt, which brings its own method \(fine-tuning\)"):
        options_of(["--model_name_or_path", prompt, "--task_name", "reviews", *words])


@pytest.mark.parametrize("words", [["--learning_rate", "1e-3"], ["--num_train_epochs", "2"], ["--save_steps", "2"]])
def test_what_trains_is_refused_where_nothing_is_trained(prompt, words):
    with pytest.raises(ConfigError, match=f"{words[0]} would change nothing: nothing is trained: add --do_train"):
        options_of(["--model_name_or_path", prompt, "--task_name", "reviews", "--do_eval", *words])


def test_a_prompt_that_answers_lines_has_no_use_for_another_tasks_options(prompt):
    with pytest.raises(ConfigError, match="--doc_stride would change nothing: sequence_classification"):
        gather({"model_name_or_path": str(prompt), "doc_stride": 4})
    gather({"model_name_or_path": str(prompt), "max_seq_length": 4})


def test_training_on_from_a_saved_prompt_takes_its_methods_rate(prompt):
    def rate(**changed):
        content = json.loads((prompt / CONFIG_FILE).read_text())
        (prompt / CONFIG_FILE).write_text(json.dumps({**content, **changed}))
        return options_of(["--model_name_or_path", prompt, "--task_name", "reviews"]).training.learning_rate

    assert rate() == 5e-5
    assert rate(method="bitfit") == 1e-3
    assert rate(method="linear-probe") == 1e-2
    own = dict.fromkeys(("init_text", "prefix_parts"))
    own |= {"pre_seq_len": 3, "prefix_projection": True, "prefix_hidden_size": 8, "prefix_dropout": 0.0}
    own |= {"init_std": 0.2, "init": "random", "shift_positions": False}
    assert rate(method="p-tuning-v2", **own, tensors={"prompt.mlp_head.0.weight": [1]}) == 1e-3
    # Its encoder is gone: keys and values are trained themselves.
    assert rate(method="p-tuning-v2", **own, tensors={"key": [1], "value": [1]}) == 3e-2
    assert (
        options_of(
            ["--model_name_or_path", prompt, "--task_name", "reviews", "--learning_rate", "0.5"]
        ).training.learning_rate
        == 0.5
    )


def test_what_a_recipe_brings_in_vain_is_left_out_with_a_line(capsys):
    options = options_of(["--recipe", "rte-bert-large", "--method", "linear-probe"])
    assert options.config.method == "linear-probe"
    assert "pre_seq_len" not in fields_of("linear-probe")
    printed = capsys.readouterr().err
    assert "note: --pre_seq_len is left out: linear-probe has no such option" in printed
    assert "note: --shift_positions is left out" in printed
    assert "pooling" not in printed
    with pytest.raises(ConfigError, match="--pre_seq_len"):
        options_of(["--recipe", "rte-bert-large", "--method", "linear-probe", "--pre_seq_len", "3"])


def test_of_compared_methods_one_may_lack_an_option(capsys):
    given = read_given({"model_name_or_path": "M", "task_name": "reviews", "pre_seq_len": 3})
    found = used_by_each(given, ["p-tuning-v2", "linear-probe"])
    assert "pre_seq_len" in found["p-tuning-v2"]
    assert "pre_seq_len" not in found["linear-probe"]
    assert "note: --pre_seq_len is left out: linear-probe has no such option" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--pre_seq_len would change nothing"):
        used_by_each(given, ["linear-probe", "bitfit"])


def test_a_config_file_of_another_command_is_refused(tmp_path):
    (tmp_path / "run.yaml").write_text("learning_rate: 1e-3\n")
    with pytest.raises(ConfigError, match="this command has no option 'learning_rate'"):
        gather({"config": str(tmp_path / "run.yaml")}, ["model_name_or_path", "config"])


BACKGROUND = Path(__file__).resolve().parents[3] / "shared" / "background"


def commands_of_the_documents():
    """The flags of every command of the documents that gives some, written as it stands there."""
    for path in sorted(BACKGROUND.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if found := re.search(r"python3? \S+\.py (--.*)", line):
                yield found[1].split("`")[0].split()


def test_the_commands_of_the_documents_are_taken_flag_for_flag():
    found = list(commands_of_the_documents())
    if not found:
        pytest.skip("shared/background is not there")
    for words in found:
        options = options_of(words)
        assert options.config.method == "p-tuning-v2"
        assert options.config.pre_seq_len == 128
        assert (options.data.task_name, options.data.dataset_name) == ("qa", "squad")
        assert (options.training.learning_rate, options.training.num_train_epochs) == (5e-3, 10)
        assert (options.run.save_strategy, options.evaluation.evaluation_strategy) == ("no", "epoch")
