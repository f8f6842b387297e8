"""The commands `fastprompt parity` and `fastprompt compare`. They import no framework: their children do."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from fastprompt.commands.terminal import make_console
from fastprompt.compare import parity, summary
from fastprompt.compare.runs import Comparison, Run, run_all
from fastprompt.compare.terminal import plus_minus, show_progress
from fastprompt.errors import ConfigError, FastpromptError
from fastprompt.framework import BACKENDS, frameworks_with, is_installed
from fastprompt.methods.registry import METHODS
from fastprompt.options.groups import ALIASES, OPTIONS, RunOptions
from fastprompt.options.parsing import add_arguments, read_given
from fastprompt.options.train import TrainOptions
from fastprompt.saving import prompt_file
from fastprompt.saving.files import write_whole
from fastprompt.saving.run_folder import make_run_folder

from rich.console import Console
from rich.table import Table

REPORT_FILE = "report.json"
_METHOD_OPTIONS = [name for name, item in OPTIONS.items() if item.group == "method" and name not in ALIASES]
_PARITY_OPTIONS = ["model_name_or_path", "overwrite_output_dir", "seed", "learning_rate", *_METHOD_OPTIONS]


def add_parity_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser, _PARITY_OPTIONS)
    parser.add_argument("--prompt", metavar="DIR", help="a saved prompt; without it a fresh one of --method is taken")
    _add_backends(parser)
    parser.add_argument("--reference", choices=parity.REFERENCES, default=parity.STOCK)
    parser.add_argument("--output_dir", metavar="DIR", default="runs/parity", help="folder for parity.json")


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)
    _add_backends(parser)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), metavar="METHOD", help="default: --method's")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="default: --seed's")


def _add_backends(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="default: all")


# -- parity ----------------------------------------------------------------------------------------------------------


def run_parity(arguments: dict[str, Any], results: TextIO) -> int:
    """Status 1 where a framework leaves a budget or cannot be measured."""
    command = shlex.join(["fastprompt", *sys.argv[1:]])
    prompt, reference = arguments.pop("prompt"), arguments.pop("reference")
    backends, output = tuple(arguments.pop("backends")), Path(arguments.pop("output_dir")).expanduser()
    if prompt is not None and not prompt_file.is_prompt(prompt):
        raise ConfigError(f"{prompt} holds no prompt ({prompt_file.CONFIG_FILE}); train one first.")
    given = read_given(arguments, _PARITY_OPTIONS).used()
    options = TrainOptions(**given)
    fresh = any(name in given for name in _METHOD_OPTIONS)
    request = parity.ParityRequest(
        options.model.model_name_or_path,
        prompt,
        options.config if fresh else None,
        backends,
        reference,
        options.training.learning_rate,
        options.model.seed,
    )
    make_run_folder(output, (parity.REPORT_FILE,), options.run.overwrite_output_dir)
    with show_progress("parity", len(backends) + 1) as progress:
        found = parity.run_parity(request, progress)
    path = parity.write_report({"command": command, **found}, output)
    console = make_console(results)
    console.print(parity.table(found))
    for line in parity.verdicts(found):
        console.print(line, soft_wrap=True)
    console.print(f"report: {path}", soft_wrap=True)
    return 0 if found["holds"] else 1


# -- compare ---------------------------------------------------------------------------------------------------------


def run_compare(arguments: dict[str, Any], results: TextIO) -> int:
    """Status 1 where a run failed."""
    command = shlex.join(["fastprompt", *sys.argv[1:]])
    backends, methods, seeds = (arguments.pop(name) for name in ("backends", "methods", "seeds"))
    given = read_given(arguments)
    output = Path(given.values.get("output_dir", RunOptions.output_dir)).expanduser()
    overwrite = given.values.get("overwrite_output_dir", False)
    given = given.without("output_dir", "overwrite_output_dir")
    comparison = Comparison(given, output, backends, methods or [], seeds or [], overwrite)
    from fastprompt.compare.report.page import write_report  # drawing is an extra: where it lacks, no run begins

    comparison.prepare()
    runs = comparison.runs()
    with show_progress("compare", len(runs)) as progress:
        for run in run_all(runs, lambda run, line: progress(f"{run.name}: {line}", advance=line == "starting")):
            if run.state == "failed":
                print(f"fastprompt: {run.name}: {run.reason}", file=sys.stderr)
    with show_progress("parity", len(comparison.methods)) as progress:
        parities = list(_parities(comparison, runs, progress))
    report = summary.report(comparison, runs, parities, command)
    write_whole({output / REPORT_FILE: (json.dumps(report, ensure_ascii=False) + "\n").encode()})
    page = write_report(report, output)
    _show(report, make_console(results), page)
    return 1 if any(run.state == "failed" for run in runs) else 0


def _parities(comparison: Comparison, runs: list[Run], progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """A parity report for each method, of its first finished run's prompt; an earlier one holds until a run is new."""
    for method in comparison.methods:
        finished = [run for run in runs if run.method == method and run.state == "finished"]
        if not finished:
            continue
        folder = comparison.output / f"parity-{method}"
        path = folder / parity.REPORT_FILE
        if path.exists() and not any(run.fresh for run in finished):
            yield json.loads(path.read_text())
            continue
        measured = tuple(dict.fromkeys(run.backend for run in finished))
        reference = parity.STOCK if any(map(is_installed, frameworks_with("stock"))) else measured[0]
        arguments = ["--model_name_or_path", comparison.model]
        arguments += ["--prompt", str(finished[0].directory), "--backends", *measured, "--reference", reference]
        progress(f"parity of {method}")
        try:
            request = parity.ParityRequest(
                comparison.model,
                str(finished[0].directory),
                backends=measured,
                reference=reference,
                learning_rate=finished[0].metrics["learning_rate"],
            )
            found = parity.run_parity(request)
        except FastpromptError as error:
            print(f"fastprompt: parity of {method}: {error}", file=sys.stderr)
            continue
        folder.mkdir(exist_ok=True)
        command = shlex.join(["fastprompt", "parity", *arguments, "--output_dir", str(folder)])
        parity.write_report({"command": command, **found}, folder)
        yield {"command": command, **found}


def _show(report: dict[str, Any], console: Console, page: Path) -> None:
    scores = report["task_metrics"]
    columns = [*scores, "samples/s", "first step s", "seconds", "peak MiB", "tuned"]
    table = Table("method", "framework", *columns, title="mean and deviation over seeds")
    forms = dict(zip(summary.COSTS, (".0f", ".2f", ".1f", ".0f"), strict=True))
    for row in report["summary"]:
        values = row["values"]
        cells = [plus_minus(values.get(name), ".3f") for name in scores]
        cells += [plus_minus(values[name], form) for name, form in forms.items()]
        table.add_row(row["method"], row["backend"], *cells, f"{row['trainable_parameters']:,}")
    console.print(table)
    if report["loss_budget"] is None:
        console.print("dropout is on: each framework draws masks of its own, and losses are not expected to agree")
    for item in report["loss_differences"]:
        console.print(
            f"{item['method']} seed {item['seed']}: losses of {item['backend']} and {report['base']} differ by at most "
            f"{item['largest']:.1e} relative (step {item['at_step']})",
            soft_wrap=True,
        )
    for measured in report["parity"]:
        for line in parity.verdicts(measured):
            console.print(f"{measured['method']}, parity: {line}", soft_wrap=True)
    for run in report["runs"]:
        if run["status"] == "failed":
            console.print(
                f"failed: {run['backend']} {run['method']} seed {run['seed']}: {run['reason']}", soft_wrap=True
            )
    console.print(f"report: {page}", soft_wrap=True)
