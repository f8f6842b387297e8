"""The command `fastprompt show`: what a saved prompt is. It reads the prompt's folder alone, and no framework."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any, TextIO

from fastprompt.commands.terminal import make_console
from fastprompt.metrics.tasks import SCORE_NAMES
from fastprompt.pretrained.checkpoint import read_json
from fastprompt.saving import prompt_file
from fastprompt.saving.remote import fetch_prompt
from fastprompt.saving.run_folder import METRICS_FILE

from rich.table import Table

_OF_RUN = ("backend", "backend_version", "seed", "learning_rate", "num_train_epochs", "train_samples", "eval_samples")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="a saved prompt's folder, or its hub id")
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a prompt on the hub")


def main(prompt: str, revision: str | None, results: TextIO) -> int:
    saved = prompt_file.read_prompt(fetch_prompt(prompt, revision))
    for name, value in describe(saved).items():
        print(f"{name}: {value}", file=results)
    table = Table("tensor", "shape", "type", "numbers")
    for name, array in sorted(saved.tensors.items()):
        table.add_row(name, " x ".join(map(str, array.shape)), str(array.dtype), f"{array.size:,}")
    make_console(results).print(table)
    return 0


def describe(saved: prompt_file.SavedPrompt) -> dict[str, str]:
    """What a prompt's files say, apart from its tensors' shapes."""
    options = {field.name: getattr(saved.config, field.name) for field in dataclasses.fields(saved.config)}
    size = sum((saved.directory / name).stat().st_size for name in (prompt_file.CONFIG_FILE, prompt_file.TENSOR_FILE))
    found = {
        "method": saved.config.method + (" (without its encoder)" if saved.collapsed else ""),
        "options": _listed(options),
        "task": saved.task + (f" ({saved.problem_type})" if saved.problem_type else ""),
        "labels": ", ".join(map(str, saved.label_names)),
        "texts": _listed(saved.text_settings),
        "backbone": f"{saved.backbone_name} ({saved.model_type})",
        "fingerprint": saved.fingerprint,
        "size": f"{size:,} bytes, {sum(array.size for array in saved.tensors.values()):,} numbers",
    }
    metrics = _metrics(saved.directory)
    found["scores"] = _listed({name: value for name, value in metrics.items() if name in SCORE_NAMES})
    found["run"] = _listed({name: metrics.get(name) for name in _OF_RUN})
    return {name: value for name, value in found.items() if value}


def _listed(values: dict[str, Any]) -> str:
    """Values after their names, without those that are None."""
    return ", ".join(
        f"{name} {json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value}"
        for name, value in values.items()
        if value is not None
    )


def _metrics(directory: Path) -> dict[str, Any]:
    """What the folder's run found; nothing where the prompt was saved by a script."""
    path = directory / METRICS_FILE
    return read_json(path) if path.exists() else {}
