"""What the command line says of itself and of a prompt's folder: help in groups, the tasks, and `show`."""

import json
import re
import shutil
from pathlib import Path

from fastprompt.cli import main, make_parser
from fastprompt.data.readers.files import Record
from fastprompt.data.readers.superglue import COPA_COLUMNS, SUPERGLUE, copa_from_rows, superglue_from_rows
from fastprompt.data.tasks import TASKS
from fastprompt.metrics.tasks import scores_of
from fastprompt.options.groups import GROUPS, OPTIONS

import pytest

pytestmark = pytest.mark.once

PROMPTS = Path(__file__).resolve().parents[1] / "fixtures" / "0.1.0" / "prompts"


def shown(capfd, *arguments):
    """What a command prints on standard output, as one line without the frames of its tables."""
    try:
        status = main(list(map(str, arguments)))
    except SystemExit as end:
        status = end.code
    found = capfd.readouterr()
    return status, re.sub(r"[\s│|]+", " ", found.out), found.err


def help_of(name):
    (commands,) = (action for action in make_parser()._actions if action.dest == "command")
    parser = commands.choices[name]
    parser.add_options(parser)
    groups = {group.title: [action.dest for action in group._group_actions] for group in parser._action_groups}
    return groups, re.sub(r"\s+", " ", parser.format_help())


def test_help_stands_in_groups_with_the_common_options_first():
    groups, text = help_of("train")
    for name in GROUPS:
        own = {item.name for item in OPTIONS.values() if item.group == name}
        assert set(groups[f"{name} options"]) == own
    assert groups["training options"][:2] == ["learning_rate", "num_train_epochs"]
    assert groups["method options"][:2] == ["method", "pre_seq_len"]
    assert groups["hardware options"][0] == "backend"
    assert text.startswith("usage: fastprompt train --model_name_or_path MODEL")


def test_help_names_defaults_and_tasks():
    text = help_of("train")[1]
    assert "batches and dropout; default: 11" in text
    assert "default: 0.2 (p-tuning-v2), 1.0 (p-tuning), 1.0 (shallow-prefix)" in text
    assert "default: None" not in text
    assert ", ".join(TASKS) in text


def test_help_of_a_command_with_few_options_names_no_empty_group():
    assert "training options" not in help_of("predict")[1]


def test_tasks_lists_every_task_with_its_columns_and_scores(capfd):
    status, text, _ = shown(capfd, "tasks")
    assert status == 0
    for name, source in TASKS.items():
        for dataset in source.hub or ("",):
            assert f" {name} {dataset}".rstrip() in text
        assert scores_of(name).main in text
    assert "glue mrpc optional (hub) #1 String, #2 String, Quality accuracy, f1" in text
    assert "qa squad optional (hub) context, question, answers f1, exact_match" in text
    assert "lama needed sub_label, obj_label p_at_1, p_at_10, mrr" in text


def test_the_listed_columns_of_superglue_are_those_that_are_read():
    values = {"label": 0, "target": {"span1_text": "a", "span2_index": 0}, "question": "cause"}
    answer = {"text": "a", "label": 0}
    values["passage"] = "p"
    for name, task in SUPERGLUE.items():
        row = {column: values.get(column, "a") for column in task.columns}
        if name == "multirc":
            row["passage"] = {"text": "p", "questions": [{"question": "q", "answers": [answer]}]}
        assert len(superglue_from_rows(name, [Record("file", "line 1", row)]).texts) == 1
    row = {column: values.get(column, "a") for column in COPA_COLUMNS}
    assert len(copa_from_rows([Record("file", "line 1", row)]).choices) == 1


def test_show_says_what_a_prompt_is(capfd, tmp_path):
    folder = shutil.copytree(PROMPTS / "classes-p-tuning-v2", tmp_path / "prompt")
    written = json.loads((folder / "prompt_config.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({"accuracy": 0.75, "backend": "torch", "seed": 11, "steps": 3}))
    status, text, _ = shown(capfd, "show", folder)
    assert status == 0
    assert "method: p-tuning-v2 options: " in text
    assert "pre_seq_len 3" in text
    assert "task: sequence_classification (single_label_classification) labels: bad, good, neither" in text
    assert f"backbone: {written['backbone']['name_or_path']} (bert) fingerprint: sha256:" in text
    for name, shape in written["tensors"].items():
        assert f" {name} {' x '.join(map(str, shape))} float32 " in text
    size = sum((folder / name).stat().st_size for name in ("prompt_config.json", "prompt.safetensors"))
    assert f"size: {size:,} bytes, 515 numbers scores: accuracy 0.75 run: backend torch, seed 11" in text


def test_show_refuses_what_is_no_whole_prompt(capfd, tmp_path):
    assert shown(capfd, "show", tmp_path)[::2] == (
        *(
            1,
            f"fastprompt: {tmp_path} holds no prompt (prompt_config.json); model.save_pretrained(folder) writes one.\n",
        ),
    )
    folder = shutil.copytree(PROMPTS / "number", tmp_path / "prompt")
    (folder / "prompt.safetensors").write_bytes((folder / "prompt.safetensors").read_bytes()[:-4])
    status, out, err = shown(capfd, "show", folder)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert str(folder / "prompt.safetensors") in err
