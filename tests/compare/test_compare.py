"""`fastprompt parity` and `fastprompt compare`: what they find, what they catch, and that nothing is run twice."""

import json
import shlex
from pathlib import Path

from fastprompt.compare.budgets import LOSSES

import pytest

pytestmark = pytest.mark.once

# A LayerNorm whose forward pass is right and whose gradient is 1 % off, as number 4 that a paddle model makes: the
# embeddings have one, every layer two, so this is the second of layer 2.
BROKEN_LAYER_NORM = """
import importlib.abc, importlib.util, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "fastprompt.drivers.paddle.nn":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            forward, made = module.LayerNorm.forward, []
            def broken(self, x):
                if self not in made:
                    made.append(self)
                y = forward(self, x)
                return y if made.index(self) != 4 else y.detach() + (y - y.detach()) * 1.01
            module.LayerNorm.forward = broken
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture(scope="module")
def fastprompt(run_python):
    """The command, in a process that chooses no framework."""

    def run(*arguments, **variables):
        done = run_python(None, "-m", "fastprompt.cli", *arguments, check=False, **variables)
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def task(tiny):
    return [
        *("--model_name_or_path", tiny["bert"], "--task_name", "reviews", "--max_train_samples", "24"),
        *("--max_eval_samples", "16", "--per_device_train_batch_size", "8", "--pre_seq_len", "3"),
        *("--logging_steps", "1", "--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0"),
    ]


@pytest.fixture(scope="module")
def compared(fastprompt, task, tmp_path_factory):
    """A comparison of all frameworks, and its folder."""
    output = tmp_path_factory.mktemp("compare") / "out"
    return output, fastprompt("compare", *task, "--output_dir", output)


# -- parity ----------------------------------------------------------------------------------------------------------


def test_parity_of_a_trained_prompt_holds_on_real_weights(fastprompt, minilm, tmp_path, run_python):
    """Twenty tokens on MiniLM, trained under torch; every quantity of the three frameworks inside its budget."""
    trained = ["-m", "fastprompt.cli", "train", "--model_name_or_path", minilm, "--task_name", "reviews"]
    run_python("torch", *trained, "--max_train_samples", "160", "--output_dir", tmp_path / "prompt")
    done = fastprompt(
        *("parity", "--model_name_or_path", minilm, "--prompt", tmp_path / "prompt", "--output_dir", tmp_path / "out")
    )
    assert done.returncode == 0, done.stdout
    report = json.loads((tmp_path / "out/parity.json").read_text())
    assert report["holds"]
    assert report["reference"] == "transformers (float64)"
    rows = {(row["quantity"], row["name"]): row for row in report["rows"]}
    layers = [name for quantity, name in rows if quantity == "hidden state"]
    assert layers == ["embeddings", *(f"layer {i}" for i in range(1, 7))]
    for quantity in ("gradient", "step", "update / rate"):
        tensors = {name for kind, name in rows if kind == quantity}
        assert tensors == {"prompt.embedding.weight", "classifier.weight", "classifier.bias"}
    for row in report["rows"]:
        assert set(row["values"]) == {"torch", "paddle", "jittor"}
    assert max(rows["logits", "logits"]["values"].values()) > 0  # float32 is not float64: something was compared
    for backend in ("torch", "paddle", "jittor"):
        assert f"{backend}: inside every budget" in done.stdout


def test_a_broken_layer_norm_gradient_is_caught_and_its_layer_named(fastprompt, tiny, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BROKEN_LAYER_NORM)
    done = fastprompt(
        *("parity", "--model_name_or_path", tiny["bert"], "--backends", "torch", "paddle", "--init_std", "0.5"),
        *("--output_dir", tmp_path / "out"),
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 1
    assert "torch: inside every budget" in done.stdout
    assert "paddle: the backward pass breaks in layer 2 (1.0e-02, the budget is 1e-04" in done.stdout
    broken = json.loads((tmp_path / "out/parity.json").read_text())["broken"]
    assert {item["backend"] for item in broken} == {"paddle"}
    assert not any(item["quantity"] in ("hidden state", "logits") for item in broken)


@pytest.mark.parametrize("method", ["shallow-prefix", "bitfit", "linear-probe"])
def test_parity_of_a_fresh_prompt_of_any_method(fastprompt, tiny, tmp_path, method):
    done = fastprompt(
        *("parity", "--model_name_or_path", tiny["distilbert"], "--method", method, "--backends", "paddle"),
        *("--reference", "torch", "--output_dir", tmp_path),
    )
    assert done.returncode == 0, done.stdout
    assert json.loads((tmp_path / "parity.json").read_text())["reference"] == "torch (float32)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--prompt", "RUN", "--model_name_or_path", "roberta"], "whose weights are not"),
        (["--prompt", "roberta", "--model_name_or_path", "bert"], "holds no prompt"),
        (["--prompt", "RUN", "--model_name_or_path", "bert", "--method", "bitfit"], "brings its own method"),
        (["--model_name_or_path", "bert", "--output_dir", "FILE"], "cannot be made"),
        (["--model_name_or_path", "roformer", "--backends", "paddle"], "roformer computes attention by itself"),
    ],
)
def test_parity_refuses_what_cannot_be_compared(fastprompt, tiny, tmp_path, compared, given, message):
    (tmp_path / "file").write_text("")
    names = {**tiny, "RUN": compared[0] / "runs/torch-p-tuning-v2-11", "FILE": tmp_path / "file" / "out"}
    output = [] if "--output_dir" in given else ["--output_dir", tmp_path / "out"]
    done = fastprompt("parity", *(names.get(word, word) for word in given), *output)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "out/parity.json").exists()


# -- compare ---------------------------------------------------------------------------------------------------------


def test_compare_reports_every_framework_with_the_same_losses(compared):
    output, done = compared
    assert done.returncode == 0, done.stderr
    report = json.loads((output / "report.json").read_text())
    assert [(run["backend"], run["status"]) for run in report["runs"]] == [
        ("torch", "finished"),
        ("paddle", "finished"),
        ("jittor", "finished"),
    ]
    assert report["loss_budget"] == LOSSES
    assert {item["backend"] for item in report["loss_differences"]} == {"paddle", "jittor"}
    for item in report["loss_differences"]:
        assert item["steps"] == [1, 2, 3]
        assert item["largest"] == max(item["values"]) <= LOSSES
    for row in report["summary"]:
        assert set(row["values"]) >= {"accuracy", "samples_per_second", "seconds_to_first_step", "peak_memory_mb"}
        assert row["trainable_parameters"] == 3 * 2 * 3 * 32 + 66
    assert report["parity"][0]["holds"]
    assert done.stdout.splitlines()[-1] == f"report: {output / 'report.html'}"
    assert (output / "report.html").exists()


def test_the_commands_in_the_report_are_those_that_run(fastprompt, compared, tmp_path):
    run = json.loads((compared[0] / "report.json").read_text())["runs"][0]
    words = [*shlex.split(run["command"])[1:], "--output_dir", str(tmp_path)]
    assert fastprompt(*words).returncode == 0
    assert (tmp_path / "history.jsonl").read_text() == (Path(run["directory"]) / "history.jsonl").read_text()


def test_what_is_finished_is_not_run_again(fastprompt, compared, task):
    output, _ = compared
    before = {path: path.stat().st_mtime_ns for path in output.rglob("metrics.json")}
    parity = (output / "parity-p-tuning-v2/parity.json").stat().st_mtime_ns
    done = fastprompt("compare", *task, "--output_dir", output)
    assert done.returncode == 0
    assert "starting" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in output.rglob("metrics.json")} == before
    assert (output / "parity-p-tuning-v2/parity.json").stat().st_mtime_ns == parity


def test_another_comparison_in_the_same_folder_is_refused(fastprompt, compared, task):
    before = {path: path.read_bytes() for path in compared[0].rglob("*") if path.is_file()}
    done = fastprompt("compare", *task, "--num_train_epochs", "2", "--output_dir", compared[0])
    assert done.returncode == 1
    assert "compares runs with num_train_epochs not given, now it is 2" in done.stderr
    assert {path: path.read_bytes() for path in compared[0].rglob("*") if path.is_file()} == before


def test_a_failed_run_is_reported_with_its_reason_and_the_others_go_on(fastprompt, task, tmp_path):
    """Paddle has no bfloat16 on a CPU; two seeds of torch finish around it."""
    arguments = ("compare", *task, "--bf16", "--backends", "paddle", "torch", "--seeds", "1", "2")
    done = fastprompt(*arguments, "--output_dir", tmp_path)
    assert done.returncode == 1
    report = json.loads((tmp_path / "report.json").read_text())
    states = {(run["backend"], run["seed"]): (run["status"], run["reason"]) for run in report["runs"]}
    assert states["torch", 1] == states["torch", 2] == ("finished", None)
    assert states["paddle", 1] == ("failed", "paddle has no bfloat16 on cpu; leave --bf16 off.")
    assert "failed: paddle p-tuning-v2 seed 1: paddle has no bfloat16" in done.stdout
    (row,) = report["summary"]
    assert row["seeds"] == [1, 2]
    assert row["values"]["accuracy"]["deviation"] is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seeds", "1", "1"], "--seeds names 1 twice"),
        (["--pre_seq_len", "0"], "pre_seq_len is 0"),
        (["--output_dir", "FILE"], "cannot be written"),
        (["--model_name_or_path", "RUN"], "compare starts from its backbone"),
    ],
)
def test_a_comparison_that_cannot_work_starts_no_run(fastprompt, task, tmp_path, compared, given, message):
    (tmp_path / "file").write_text("")
    names = {"FILE": tmp_path / "file" / "out", "RUN": compared[0] / "runs/torch-p-tuning-v2-11"}
    output = [] if "--output_dir" in given else ["--output_dir", tmp_path / "out"]
    done = fastprompt("compare", *task, *output, *(names.get(word, word) for word in given))
    assert done.returncode == 1
    assert message in done.stderr
    assert "starting" not in done.stderr


def test_a_framework_that_is_not_installed_is_a_failed_run_with_the_fix(run_python, task, tmp_path):
    code = (
        "import importlib.util as u, sys; found = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n == 'jittor' else found(n, *a); "
        "from fastprompt.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["compare", *map(str, task), "--backends", "torch", "jittor", "--output_dir", str(tmp_path)]
    done = run_python(None, "-c", code, *words, check=False)
    assert done.returncode == 1
    runs = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert [run["status"] for run in runs] == ["finished", "failed"]
    assert runs[1]["reason"] == "not installed: pip install 'fastprompt[jittor]'"
