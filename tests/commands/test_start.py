"""What a command waits for before it does its work: its own imports and no others."""

import json

import fastprompt as fp
from fastprompt.framework import BACKENDS, backend

import pytest

TRAINERS = {"fastNLP", "torchmetrics", "sklearn", "datasets", "pandas", "matplotlib"}
OTHERS = {*BACKENDS, "transformers"} - ({backend(), "transformers"} if backend() == "torch" else {backend()})
HEAVY = {*TRAINERS, *BACKENDS, "transformers", "scipy"}
# Runs command lines one after the other and says of each its status and what of some modules is loaded after it.
RUN = """
import json, sys
from fastprompt.cli import main

for line in json.loads(sys.argv[2]):
    try:
        status = main(line)
    except SystemExit as end:
        status = end.code
    print("LOADED", json.dumps([status, sorted(set(json.loads(sys.argv[1])) & set(sys.modules))]), file=sys.stderr)
"""


@pytest.fixture
def loaded_after(run_python):
    """loaded_after(names, command lines): [(status, which of `names` are loaded then), ...]"""

    def run(names, lines):
        done = run_python(backend(), "-c", RUN, json.dumps(sorted(names)), json.dumps(lines))
        found = [json.loads(line[7:]) for line in done.stderr.splitlines() if line.startswith("LOADED ")]
        assert len(found) == len(lines), done.stderr[-3000:]
        return found

    return run


def save(kind, folder, where, **options):
    kind.from_pretrained(folder, fp.PTuningV2Config(pre_seq_len=2), **options).save_pretrained(where)
    return str(where)


def test_predict_loads_no_trainer_and_no_other_framework(tiny, worded, tmp_path, loaded_after):
    bert = tiny["bert"]
    prompts = {
        "text": save(fp.PromptForSequenceClassification, bert, tmp_path / "classes"),
        "tokens": save(fp.PromptForTokenClassification, bert, tmp_path / "tags"),
        "choices": save(fp.PromptForMultipleChoice, bert, tmp_path / "choices"),
        "context": save(fp.PromptForQuestionAnswering, bert, tmp_path / "questions"),
        "instruction": save(fp.PromptForCausalLM, worded("gpt2"), tmp_path / "causal"),
    }
    row = {
        "text": "a b",
        "tokens": ["a"],
        "choices": ["c", "d"],
        "question": "a",
        "context": "a b",
        "instruction": "w1",
    }
    asked = {"tokens": ["tokens"], "context": ["question", "context"], "choices": ["text", "choices"]}
    lines = []
    for name, prompt in prompts.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps({key: row[key] for key in asked.get(name, [name])}) + "\n")
        lines.append(["predict", "--model_name_or_path", prompt, "--input", str(path), "--format", "jsonl"])
    lines[-1] += ["--max_new_tokens", "2"]
    assert loaded_after(TRAINERS | OTHERS, lines) == [[0, []]] * len(lines)


def test_help_and_a_bad_option_wait_for_no_framework(tiny, tmp_path, loaded_after):
    bert, run = str(tiny["bert"]), str(tmp_path / "run")
    prompt = tmp_path / "prompt"
    save(fp.PromptForSequenceClassification, bert, prompt)
    names = ("train", "evaluate", "predict", "compare", "parity", "convert", "show", "tasks", "doctor")
    helps = [[], *([name] for name in names)]
    train = ["train", "--model_name_or_path", bert, "--output_dir", run, "--task_name"]
    best = ["--load_best_model_at_end", "--evaluation_strategy", "epoch"]
    bad = [
        *(["predict", "--nonsense"], ["train", "--backend", "nope"], ["train"], ["predict"]),
        [*train, "nope"],
        [*train, "glue", "--dataset_name", "nope"],
        [*train, "glue", "--dataset_name", "sst2", "--data_dir", "/nowhere/at/all"],
        [*train, "reviews", "--seed", "-1"],
        [*train, "reviews", "--weight_decay", "-1"],
        [*train, "reviews", "--output_dir", bert],
        [*train, "reviews", "--device", "nope"],
        [*train, "reviews", "--doc_stride", "3"],
        [*train, "reviews", *best, "--metric_for_best_model", "nope"],
        [*train, "reviews", "--output_dir", str(prompt)],
        [*train, "reviews", "--model_name_or_path", "/nowhere/at/all"],
        [*train, "reviews", "--do_eval"],
        [*train, "lama"],
        ["evaluate", "--model_name_or_path", bert, "--task_name", "reviews"],
        ["evaluate", "--model_name_or_path", str(prompt), "--task_name", "nope"],
        ["predict", "--model_name_or_path", bert],
        ["predict", "--model_name_or_path", str(prompt), "--input", "/nowhere/at/all"],
        ["compare", *train[1:], "nope"],
        ["parity", "--model_name_or_path", bert, "--prompt", "/nowhere/at/all"],
        ["convert", "--from", "peft", "--input", "/nowhere", "--output", run, "--model_name_or_path", bert],
    ]
    light = [[*command, "--help"] for command in helps] + [["tasks"], ["show", str(prompt)]]
    found = loaded_after(HEAVY, light + bad)
    assert found[: len(light)] == [[0, []]] * len(light)
    for line, (status, loaded) in zip(bad, found[len(light) :], strict=True):
        assert (status in (1, 2), loaded) == (True, []), line
