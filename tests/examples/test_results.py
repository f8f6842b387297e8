"""`examples/results.py`: its plan, a table of its runs, and going on where it was stopped."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

SCRIPT = Path(__file__).parents[2] / "examples" / "results.py"


@pytest.fixture
def results(monkeypatch):
    """results(*arguments): the script's exit status."""
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "results", module)  # its dataclasses look themselves up there
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["results.py", *map(str, arguments)])
        return module.main()

    run.module = module
    return run


def test_the_plan_says_what_is_run_and_what_it_takes_and_runs_nothing(results, tiny, tmp_path, capsys):
    arguments = [tiny["bert"], "--data", tmp_path, "--mlm_model", tiny["bert-mlm"], "--output_dir", tmp_path / "out"]
    assert results(*arguments, "--plan") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(results.module.TABLES)
    for name, line in zip(results.module.TABLES, lines, strict=True):
        rows = results.module.TABLES[name].rows
        minutes = sum(row.minutes * (3 if row.seeded else 1) for row in rows)
        count = sum(3 if row.seeded else 1 for row in rows)
        assert line == f"{name}: {count} runs, 0 of them done, about {minutes:.0f} minutes"
        assert minutes <= 60
    assert not (tmp_path / "out").exists()


def test_runs_are_means_over_seeds_and_what_is_done_is_not_done_again(results, tiny, tmp_path, capsys, monkeypatch):
    task = results.module.TABLES["ner"]
    rows = (results.module.Row("the probe", 1, "--method linear-probe"),)
    monkeypatch.setitem(results.module.TABLES, "ner", results.module.Task(task.shared, task.scores, rows))
    arguments = [tiny["bert"], "--data", tmp_path, "--output_dir", tmp_path, "--only", "ner", "--seeds", "1", "2"]
    arguments += ["--max_train_samples", "8", "--max_eval_samples", "4"]
    assert results(*arguments) == 0
    scores = []
    for seed in (1, 2):
        metrics = json.loads((tmp_path / "ner" / f"the-probe-{seed}" / "metrics.json").read_text())
        assert metrics["seed"] == seed
        scores.append(metrics["entity_f1"])
    table = (tmp_path / "ner.md").read_text()
    assert f"| the probe | {sum(scores) / 2:.3f} ± " in table
    assert "| 2 | " in table
    assert "fastprompt train --model_name_or_path" in table
    (tmp_path / "ner" / "the-probe-2" / "metrics.json").unlink()  # as where it was killed
    capsys.readouterr()
    assert results(*arguments) == 0
    said = capsys.readouterr().out
    assert "2 runs, 1 of them done" in said
    assert "the probe, seed 2" in said
    assert "seed 1" not in said
    # another command's runs are no runs of this one
    assert results(*arguments, "--max_eval_samples", "3", "--plan") == 0
    assert "2 runs, 0 of them done" in capsys.readouterr().out
