"""The command line: a run from training to prediction, and one line for every mistake."""

import json
import os
import signal
import subprocess
import sys
import time

import fastprompt as fp
from fastprompt.errors import ConfigError
from fastprompt.options.parsing import gather
from fastprompt.options.train import TrainOptions

import pytest


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    """A folder in GLUE's form with a few of the embedded reviews."""
    folder = tmp_path_factory.mktemp("glue")
    for split, name, count in (("train", "train.tsv", 48), ("validation", "dev.tsv", 20)):
        rows = fp.load_reviews(split).head(count)
        lines = [f"{text}\t{label}" for text, label in zip(rows.texts, rows.labels, strict=True)]
        (folder / name).write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def task(tiny, glue):
    return [
        *("--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2", "--data_dir", glue),
        *("--per_device_train_batch_size", "16", "--logging_steps", "2"),
    ]


@pytest.fixture(scope="module")
def trained(command, task, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "out"
    done = command("train", *task, "--num_train_epochs", "2", "--pre_seq_len", "3", "--output_dir", output)
    return output, done


def test_train_leaves_prompt_metrics_and_history(trained):
    output, done = trained
    assert {path.name for path in output.iterdir()} == {
        "README.md",
        "prompt_config.json",
        "prompt.safetensors",
        "metrics.json",
        "history.jsonl",
    }
    metrics = json.loads((output / "metrics.json").read_text())
    assert 0 <= metrics["accuracy"] <= 1
    assert metrics["steps"] == 6
    assert metrics["train_samples"] == 48
    assert metrics["trainable_parameters"] == 3 * 2 * 3 * 32 + 66
    assert metrics["backend"] == fp.backend()
    assert not any(isinstance(value, dict | list) for value in metrics.values())
    for name in ("train_seconds", "samples_per_second", "seconds_to_first_step", "peak_memory_mb", "loss"):
        assert metrics[name] > 0
    history = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [2, 4, 6]
    assert history[-1]["learning_rate"] < history[0]["learning_rate"]
    assert done.stdout.decode().startswith(f"accuracy: {metrics['accuracy']}")


def test_progress_is_plain_lines_with_rate_and_time_left_off_a_terminal(trained):
    lines = [line for line in trained[1].stderr.decode().splitlines() if line.startswith("step ")]
    assert len(lines) == 3
    assert "samples/s" in lines[0]
    assert lines[0].endswith("left")


def test_the_same_seed_gives_the_same_prompt(command, task, trained, tmp_path):
    command("train", *task, "--num_train_epochs", "2", "--pre_seq_len", "3", "--output_dir", tmp_path)
    assert (tmp_path / "history.jsonl").read_text() == (trained[0] / "history.jsonl").read_text()


def test_evaluate_finds_what_train_found(command, task, trained):
    output, _ = trained
    metrics = json.loads((output / "metrics.json").read_text())
    done = command("evaluate", *task[2:8], "--model_name_or_path", output)
    assert done.stdout.decode().startswith(f"accuracy: {metrics['accuracy']}\n")


def test_predict_writes_one_object_per_line(command, trained, tmp_path):
    texts = ["a fine film", "", "我很喜欢", "word " * 300]
    (tmp_path / "texts").write_text("\n".join(texts) + "\n", encoding="utf-8")
    arguments = ("predict", "--model_name_or_path", trained[0], "--format", "jsonl")
    from_file = command(*arguments, "--input", tmp_path / "texts").stdout
    from_pipe = command(*arguments, stdin=(tmp_path / "texts").read_bytes()).stdout
    assert from_file == from_pipe
    found = [json.loads(line) for line in from_file.decode().splitlines()]
    assert [line["text"] for line in found] == texts
    for line in found:
        assert set(line) == {"text", "label", "probabilities"}
        assert set(line["probabilities"]) == {"negative", "positive"}
        assert abs(sum(line["probabilities"].values()) - 1) < 1e-5
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)


def test_predict_draws_a_table(command, trained):
    shown = command("predict", "--model_name_or_path", trained[0], stdin=b"a [bold] film\n").stdout.decode()
    assert "probability" in shown
    assert "a [bold] film" in shown


def test_a_yaml_file_gives_the_same_options(tmp_path):
    (tmp_path / "run.yaml").write_text("model_name_or_path: M\nlearning_rate: 1e-3\nprefix_projection: true\nseed: 5\n")
    found = gather({"config": str(tmp_path / "run.yaml"), "seed": 7})
    assert found == TrainOptions(model_name_or_path="M", learning_rate=1e-3, prefix_projection=True, seed=7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: M\n", "there is no option 'model'"),
        ("seed: one\n", "seed is 'one'; it must be of type int"),
        ("num_train_epochs: 1.5\n", "it must be of type int"),
        ("prefix: 'yes'\n", "it must be of type bool"),
        ("method: lora\n", "it is one of p-tuning-v2"),
        ("- a\n", "holds no options"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_a_yaml_file_that_cannot_work_is_refused(tmp_path, content, message):
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        gather({"config": str(tmp_path / "run.yaml")})


MISTAKES = {
    "another run's folder": (["--output_dir", "TRAINED"], "add --overwrite_output_dir"),
    "a learning rate of 0": (["--learning_rate", "0"], "learning_rate is 0.0; it must be above 0"),
    "a batch size of 0": (["--per_device_train_batch_size", "0"], "per_device_train_batch_size is 0"),
    "no epochs": (["--num_train_epochs", "0"], "num_train_epochs is 0"),
    "a prompt of no length": (["--pre_seq_len", "0"], "pre_seq_len is 0"),
    "a prompt too long for shifted positions": (["--pre_seq_len", "160", "--shift_positions"], "leaves no room"),
    "an unknown model": (["--model_name_or_path", "./nothing"], "There is no folder ./nothing"),
    "an unknown task": (["--task_name", "qnli"], "there are --task_name glue"),
    "a method to come": (["--prefix", "--prompt"], "name two methods"),
    "an unknown schedule": (["--lr_scheduler_type", "cosine"], "one of linear, constant, exponential"),
    "a folder without data": (["--data_dir", "."], "There is no file"),
}


@pytest.mark.once
@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_or_two_lines(command, task, trained, tmp_path, case):
    arguments, message = MISTAKES[case]
    given = [str(trained[0]) if argument == "TRAINED" else argument for argument in arguments]
    output = [] if "--output_dir" in given else ["--output_dir", tmp_path / "out"]
    before = {path: path.read_bytes() for path in trained[0].iterdir()}
    done = command("train", *task, *output, *given, check=False)
    reported = [line for line in done.stderr.decode().splitlines() if line.startswith("fastprompt: ")]
    assert done.returncode == 1
    assert done.stdout == b""
    assert len(reported) == 1
    assert message in reported[0]
    assert "Traceback" not in done.stderr.decode()
    assert {path: path.read_bytes() for path in trained[0].iterdir()} == before


@pytest.mark.once
def test_a_framework_that_is_not_installed_is_named_with_its_extra(command, task):
    code = (
        "import importlib.util as u, sys; found = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n == 'jittor' else found(n, *a); "
        "from fastprompt.cli import main; sys.exit(main(['train', '--backend', 'jittor', '--model_name_or_path', 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "fastprompt: jittor is not installed: pip install 'fastprompt[jittor]'.\n",
    )


@pytest.mark.once
@pytest.mark.parametrize("name", ["train", "predict"])
def test_help_waits_for_no_framework_and_no_other_command(name):
    code = (
        "import sys\nfrom fastprompt.cli import main\ntry:\n    main([sys.argv[1], '--help'])\nfinally:\n"
        "    print(*(m for m in sys.modules if m in ('torch', 'paddle', 'jittor', 'fastNLP', 'rich.console') or "
        "m.startswith(('fastprompt.compare', 'fastprompt.convert'))), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True)
    assert f"usage: fastprompt {name}" in done.stdout
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.once
def test_predicting_with_a_bare_model_is_refused(command, tiny):
    done = command("predict", "--model_name_or_path", tiny["bert"], stdin=b"x\n", check=False)
    assert b"holds no prompt" in done.stderr
    assert done.returncode == 1


@pytest.mark.once
def test_input_that_is_not_utf8_names_the_line(command, trained):
    done = command("predict", "--model_name_or_path", trained[0], stdin=b"fine\n\xff\n", check=False)
    assert b"standard input, line 2 is not UTF-8" in done.stderr


def test_ctrl_c_saves_what_was_trained_and_ends_with_130(task, tmp_path):
    """Sent to the process group, as a terminal sends it."""
    command = [sys.executable, "-m", "fastprompt.cli", "train", *map(str, task), "--num_train_epochs", "100000"]
    process = subprocess.Popen(
        [*command, "--output_dir", tmp_path],
        env={**os.environ, "FASTNLP_BACKEND": fp.backend()},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stderr:
        if line.startswith("step "):
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=120) == 130
    assert "fastprompt: Stopped at step" in rest
    assert "Traceback" not in rest
    fp.PromptForSequenceClassification.from_pretrained(tmp_path)


@pytest.mark.once
def test_doctor_reports_what_works_here(command):
    shown = command("doctor").stdout.decode()
    assert shown.count("works (") == 3
    assert shown.count("several processes") == 3
    assert "transformers" in shown


@pytest.mark.once
def test_a_reader_that_leaves_ends_predict_quietly(trained):
    code = f"yes fine | {sys.executable} -m fastprompt.cli predict --format jsonl --model_name_or_path {trained[0]}"
    started = time.monotonic()
    done = subprocess.run(["bash", "-c", f"{code} | head -n 2"], capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 120
