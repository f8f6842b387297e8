"""Instruction tuning: rows in Alpaca's form, Chinese and English, to a tuned prompt that answers."""

import json
import math
from pathlib import Path

import fastprompt as fp
from fastprompt.data.chat import write_instruction
from fastprompt.data.encoding import encode
from fastprompt.data.readers.instruction import load_instructions
from fastprompt.errors import DataError
from fastprompt.saving.prompt_file import read_prompt

import numpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    {"instruction": "Name three colours.", "input": "", "output": "Red, green and blue."},
    {"instruction": "翻译成英文。", "input": "你好，世界。", "output": "Hello, world."},
    {"instruction": "写一句关于春天的话。", "output": "春天来了，花都开了。"},
    {"instruction": "Add the numbers.", "input": "2 and 3", "output": "5"},
]
HIDDEN, LAYERS, HEADS, LENGTH = 32, 2, 4, 5


@pytest.fixture(scope="module")
def bloom(tmp_path_factory, run_python):
    """A small random model in BLOOM's layout, in whose vocabulary every byte is a token."""
    folder = tmp_path_factory.mktemp("bloom") / "model"
    sizes = ("--hidden_size", HIDDEN, "--layers", LAYERS, "--heads", HEADS, "--vocab_size", 300)
    run_python("torch", ROOT / "examples" / "make_bloom.py", folder, *sizes)
    return folder


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS, ensure_ascii=False))
    return path


def test_labels_stand_on_the_answer_alone_and_end_with_its_end(bloom, rows):
    tokenizer = fp.load_tokenizer(bloom)
    data = load_instructions(rows, "train")
    assert data.instructions == [row["instruction"] for row in ROWS[:3]]
    for row, given in zip(encode(data, tokenizer, 256), ROWS[:3], strict=True):
        asked = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]
        answer = [label for label in row["labels"] if label != -100]
        before = "\n".join(["Human: " + given["instruction"], given.get("input", "")]).strip() + "\n\nAssistant: "
        assert tokenizer.decode(asked) == before
        assert asked == tokenizer.plain_ids(before)
        assert answer == [*tokenizer.plain_ids(given["output"]), 2]
        assert row["input_ids"] == asked + answer


def test_alpacas_template_mentions_an_input_where_there_is_one():
    with_input = write_instruction("alpaca", "Add.", "2 and 3")
    without = write_instruction("alpaca", "Name three colours.", "")
    assert with_input.endswith("### Instruction:\nAdd.\n\n### Input:\n2 and 3\n\n### Response:\n")
    assert without.endswith("completes the request.\n\n### Instruction:\nName three colours.\n\n### Response:\n")
    assert "paired with an input" in with_input
    assert "Input" not in without


def test_answers_that_are_cut_or_have_no_room_are_counted(bloom, rows):
    notes = []
    found = encode(load_instructions(rows, "train"), fp.load_tokenizer(bloom), 42, notes)
    assert max(len(row["input_ids"]) for row in found) == 42
    assert all(any(label != -100 for label in row["labels"]) for row in found)
    whole = encode(load_instructions(rows, "train"), fp.load_tokenizer(bloom), 999)
    asked = [sum(label == -100 for label in row["labels"]) for row in whole]
    cut = sum(a < 42 < len(row["input_ids"]) for a, row in zip(asked, whole, strict=True))
    lost = sum(a >= 42 for a in asked)
    assert cut > 0 and lost > 0
    assert notes == [
        f"Of 3 answers {cut} are cut at 42 tokens (max_seq_length); {lost} are left out, whose instructions alone are "
        f"as long."
    ]


def test_every_form_of_the_data_gives_the_same_rows(tmp_path):
    import datasets

    split = {"train": ROWS[:3], "validation": ROWS[3:]}
    (tmp_path / "lines").mkdir()
    for name, part in split.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (tmp_path / "lines" / f"{name}.jsonl").write_text(lines)
    whole = [{"input": "", **row} for row in ROWS]
    datasets.Dataset.from_list(whole).save_to_disk(tmp_path / "one")
    parts = {name: datasets.Dataset.from_list([{"input": "", **row} for row in part]) for name, part in split.items()}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "several")
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "alpaca.json").write_text(json.dumps(ROWS))
    for name in ("lines", "one", "several", "single"):
        for part, wanted in split.items():
            found = load_instructions(tmp_path / name, part)
            assert list(zip(found.instructions, found.contexts, found.outputs, strict=True)) == [
                (row["instruction"], row.get("input", ""), row["output"]) for row in wanted
            ], (name, part)


def test_rows_without_an_output_are_left_out_and_counted(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROWS[0], {**ROWS[1], "output": "  "}, *ROWS[2:]]))
    data = load_instructions(path, "train")
    assert len(data) == 2
    assert f"{path}: 1 rows have no output and are left out, the first at row 1." in data.notes
    path.write_text(json.dumps([{**row, "output": ""} for row in ROWS]))
    with pytest.raises(DataError, match="has no row with an output"):
        load_instructions(path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"instruction": "a", "input": ""}], "row 0: the key 'output' is missing"),
        ([{"instruction": "a", "output": 5}], "row 0: 'output' is int, not str"),
        ([ROWS[0], {"instruction": " ", "output": "b"}], "row 1: 'instruction' is empty"),
        ([ROWS[0], "text"], "row 1: an object is expected, not str"),
        ([ROWS[0]], "has one row; at least two are expected"),
        ({"data": ROWS}, "holds no list of rows"),
    ],
)
def test_rows_in_another_form_are_refused_by_their_position(tmp_path, content, message):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load_instructions(path, "train")


def run(command, bloom, data, output, *more):
    return command(
        *("train", "--model_name_or_path", bloom, "--task_name", "instruction", "--data_dir", data),
        *("--output_dir", output, "--pre_seq_len", LENGTH, "--per_device_train_batch_size", 4),
        *("--max_seq_length", 64, "--logging_steps", 2, *more),
    )


def test_a_prompt_is_tuned_on_instructions_and_answers_one(bloom, shared_data, tmp_path, command):
    """From the command line, on real Chinese rows."""
    done = run(
        *(command, bloom, shared_data("alpaca_zh") / "alpaca_zh_3k.json", tmp_path),
        *("--max_train_samples", 40, "--max_eval_samples", 8, "--num_train_epochs", 2, "--learning_rate", 0.1),
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]), rel=1e-9)
    assert metrics["trainable_parameters"] == LENGTH * 2 * LAYERS * HIDDEN
    assert 0 < metrics["model_memory_mb"] <= metrics["peak_memory_mb"]
    history = [json.loads(line)["loss"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert history[-1] < history[0]
    printed, notes = done.stdout.decode(), done.stderr.decode()
    share = 100 * metrics["trainable_parameters"] / metrics["total_parameters"]
    line = f"trainable params: 640 || all params: {metrics['total_parameters']:,} || trainable%: {share:.4f}"
    assert line in printed
    assert "p-tuning-v2" in printed.splitlines()[-2]
    assert "has no splits: 150 of 3000 rows, every 20th, are for evaluation" in notes
    assert "are cut at 64 tokens" in notes
    assert read_prompt(tmp_path).task == "causal_lm"
    asked = "给出保持健康的三个建议。".encode()
    done = command(
        *("predict", "--model_name_or_path", tmp_path, "--max_new_tokens", 6, "--format", "jsonl"),
        stdin=asked + b"\nName a colour.\n",
    )
    answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [answer["instruction"] for answer in answers] == [asked.decode(), "Name a colour."]
    model = fp.load_prompt_model(tmp_path)
    tokenizer = fp.load_tokenizer(bloom)
    from fastprompt.framework import ops

    for answer in answers:  # a batch with padding gives what each gives alone
        ids = tokenizer.plain_ids(write_instruction("human-assistant", answer["instruction"], ""))
        written = model.generate(ops.tensor(numpy.array([ids])), max_new_tokens=6)[0, len(ids) :].tolist()
        assert answer["output"] == tokenizer.decode([i for i in written if i != 2])


@pytest.mark.parametrize("method", [["p-tuning", "--prompt_encoder", "mlp"], ["prompt-tuning"]])
def test_shallow_prompts_are_tuned_on_instructions_too(bloom, rows, tmp_path, method):
    from fastprompt.commands import train
    from fastprompt.options.train import TrainOptions

    options = {"method": method[0], "prompt_encoder": method[-1] if len(method) > 1 else None}
    metrics = train.train(
        TrainOptions(
            model_name_or_path=str(bloom),
            task_name="instruction",
            data_dir=str(rows),
            output_dir=str(tmp_path / "run"),
            pre_seq_len=LENGTH,
            chat_template="alpaca",
            max_seq_length=400,
            **options,
        )
    )
    assert math.isfinite(metrics["perplexity"])
    layers = 3 * (HIDDEN * HIDDEN + HIDDEN) if method[0] == "p-tuning" else 0
    assert metrics["trainable_parameters"] == LENGTH * HIDDEN + layers


@pytest.mark.once
def test_the_table_of_costs_has_a_row_for_each_way_to_tune(bloom, shared_data, tmp_path, run_python):
    data = shared_data("alpaca_zh") / "alpaca_zh_3k.json"
    given = ("--output_dir", tmp_path, "--samples", 8, "--without", "prompt-tuning", "p-tuning(LSTM)")
    output = run_python("torch", ROOT / "examples" / "instruction_costs.py", bloom, data, *given).stdout
    found = {line.split()[1]: line for line in output.splitlines() if "GiB" in line}
    layers = 3 * (HIDDEN * HIDDEN + HIDDEN)
    tuned = {"p-tuning(MLP)": 10 * HIDDEN + layers, "p-tuning-v2": 10 * 2 * LAYERS * HIDDEN}
    assert list(found) == ["fine-tuning", *tuned]
    for name, count in tuned.items():
        assert f" {count:,} " in found[name]
