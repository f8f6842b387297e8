"""`doctor`: what the machine has, and why a run did not learn, each reason with the numbers that show it."""

import json
import re
import shutil
from pathlib import Path

from fastprompt.commands.doctor import machine
from fastprompt.commands.run_check import findings, read_run
from fastprompt.errors import CheckpointError

import pytest

PROMPT = Path(__file__).resolve().parents[1] / "fixtures" / "0.1.0" / "prompts" / "classes-p-tuning-v2"  # three classes
CHANCE = 1.0986  # ln 3

FALLING = [1.1, 1.0, 0.9, 0.5, 0.3, 0.2, 0.15, 0.14, 0.14]
FLAT = [CHANCE + 0.001 * (-1) ** step for step in range(9)]


@pytest.fixture
def run(tmp_path):
    """run(losses, ...): the findings of a run with these losses in its history; P-Tuning v2's default rate is 3e-2."""

    def make(losses, rate=3e-2, every=50, metrics=None, evaluations=(), predictions=()):
        folder = shutil.copytree(PROMPT, tmp_path / "run", dirs_exist_ok=True)
        history = [
            {"step": every * number, "loss": loss, "learning_rate": rate} for number, loss in enumerate(losses, 1)
        ]
        for name, rows in (("history", history), ("evaluations", evaluations), ("predictions", predictions)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = {"method": "p-tuning-v2", "train_samples": 100, "max_seq_length": 128, **(metrics or {})}
        (folder / "metrics.json").write_text(json.dumps(found))
        return findings(read_run(folder))

    return make


@pytest.mark.once
def test_a_run_that_learns_has_no_findings(run):
    good = [{"step": 100, "loss": 0.4}, {"step": 200, "loss": 0.3}]
    mixed = [{"label": name} for name in ("bad", "good", "neither")]
    assert run(FALLING, metrics={"train_samples_at_max_length": 3}, evaluations=good, predictions=mixed) == []


CASES = {
    "a rate too small": ({"losses": FLAT, "rate": 1e-4}, "the loss is flat: the learning rate is too small", "0.03"),
    "a rate too large": ({"losses": FLAT, "rate": 0.5}, "the loss is flat: the learning rate is too large", "0.03"),
    "a rising loss": (
        {"losses": [1.1, 1.2, 1.3, 2, 3, 4, 5, 5, 6], "rate": 0.3},
        "the loss rises: the learning rate is too large",
        "--learning_rate 0.1",
    ),
    "few steps": ({"losses": FLAT, "every": 1}, "the loss is flat: 9 steps are few", "--num_train_epochs"),
    "a flat loss": ({"losses": FLAT}, "the loss is flat", "another rate"),
    "a short training": (
        {"losses": [1.1, 1.05, 1.0, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5]},
        "the loss still falls at the end: the training is short",
        "--max_steps",
    ),
    "one class": (
        {"losses": FALLING, "predictions": [{"label": "good"}] * 39 + [{"label": "bad"}]},
        "one class is predicted nearly always",
        "--learning_rate",
    ),
    "a correlation of 0": (
        {"losses": FALLING, "metrics": {"matthews_correlation": 0.0}},
        "one class is predicted",
        "balance",
    ),
    "truncation": (
        {"losses": FALLING, "metrics": {"train_samples_at_max_length": 40}},
        "many texts are cut",
        "--max_seq_length",
    ),
    "overfitting": (
        {"losses": FALLING, "evaluations": [{"step": 100, "loss": 0.4}, {"step": 450, "loss": 0.9}]},
        "it learns the training data by heart",
        "--load_best_model_at_end",
    ),
    "few lines": ({"losses": [1.0, 0.5]}, "too few lines of history to judge the loss by", "--logging_steps"),
}


@pytest.mark.once
@pytest.mark.parametrize("case", CASES)
def test_each_reason_is_found_alone(run, case):
    given, what, fix = CASES[case]
    (found,) = run(**given)
    assert found.what == what
    assert fix in found.fix


@pytest.mark.once
def test_findings_name_the_numbers_and_their_files(run):
    (flat,) = run(FLAT, rate=1e-4)
    assert "mean loss of the thirds of history.jsonl: 1.0989, 1.0983, 1.0989" in flat.evidence
    assert "a guess among 3 classes has 1.0986" in flat.evidence
    assert "the rate is 0.0001, the method's default 0.03" in flat.evidence
    (cut,) = run(FALLING, metrics={"train_samples_at_max_length": 40})
    assert cut.evidence == "40 of 100 training examples of metrics.json fill all of max_seq_length, 128 tokens"
    (one,) = run(FALLING, predictions=[{"label": "good"}] * 39 + [{"label": "bad"}])
    assert one.evidence == "'good' 39 of 40 times in predictions.jsonl"


@pytest.mark.once
def test_a_run_that_did_not_finish_and_a_folder_without_one_say_so(run, tmp_path):
    run(FALLING)
    (tmp_path / "run" / "metrics.json").unlink()
    (found,) = findings(read_run(tmp_path / "run"))
    assert (found.what, "of step 450" in found.evidence) == ("the run did not finish", True)
    (tmp_path / "run" / "history.jsonl").write_text('{"step": 1')
    with pytest.raises(CheckpointError, match=r"history\.jsonl, line 1 is no JSON object"):
        read_run(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"holds no history\.jsonl"):
        read_run(tmp_path)


def test_a_training_says_how_many_texts_fill_the_longest_input_and_doctor_reads_it(train_here, tiny, command, tmp_path):
    rows = [f"{'good film ' * (20 if number < 8 else 1)}{number}\t{number % 2}" for number in range(16)]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    metrics = train_here(
        *(
            "--model_name_or_path",
            tiny["bert"],
            "--task_name",
            "glue",
            "--dataset_name",
            "sst2",
            "--data_dir",
            tmp_path,
        ),
        *("--pre_seq_len", "2", "--per_device_train_batch_size", "8", "--logging_steps", "1", "--max_seq_length", "40"),
        *("--num_train_epochs", "3", "--learning_rate", "1e-6", "--output_dir", tmp_path / "out"),
    )
    assert metrics["train_samples_at_max_length"] == 8
    done = command("doctor", "--run", tmp_path / "out", check=False)
    assert done.returncode == 1
    shown = re.sub(r"[\s│]+", " ", done.stdout.decode())
    assert "the loss is flat: the learning rate is" in shown
    assert "many texts are cut" in shown


@pytest.mark.once
def test_the_machine_is_read_from_linux_own_files():
    processor = "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16\n"
    memory = "MemTotal:       16777216 kB\nMemFree:  100 kB\nMemAvailable:    8388608 kB\n"
    found = machine(processor, memory, "4294967296\n")
    assert found["memory"] == "16.0 GiB, 8.0 GiB of it free; this container's limit is 4.0 GiB"
    assert found["bfloat16 on the CPU"] == "AMX, AVX-512 BF16"
    found = machine("flags : fpu\n", memory, "max\n")
    assert found["memory"] == "16.0 GiB, 8.0 GiB of it free"
    assert found["bfloat16 on the CPU"].startswith("none")
    assert machine("", "", "")["memory"] == "not known on this system"
