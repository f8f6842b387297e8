"""The command `fastprompt search`. It imports no framework: its children do."""

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from fastprompt.commands.terminal import make_console
from fastprompt.compare.runs import run_all
from fastprompt.compare.search import Search, Trial, describe
from fastprompt.compare.terminal import plus_minus, show_progress
from fastprompt.errors import ConfigError
from fastprompt.framework import backend
from fastprompt.options.groups import ModelOptions
from fastprompt.options.parsing import add_arguments, read_given
from fastprompt.saving.files import as_json, write_whole

from rich.table import Table

RESULTS_FILE = "results.json"
_OUTPUT = "runs/search"


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)
    parser.add_argument(
        "--over",
        nargs="+",
        action="append",
        metavar=("OPTION", "VALUE"),
        help="an option to search and its values, once for each: --over learning_rate 1e-3 1e-2; an option of several "
        "words takes commas (4,5); default leaves it off; with --trials, a range 1e-4..1e-1 too",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="draw so many settings with --seed; default: try all")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="of each setting; default: --seed's")


def run_search(arguments: dict[str, Any], results: TextIO) -> int:
    """Status 1 where a run failed."""
    over, trials, seeds = (arguments.pop(name) for name in ("over", "trials", "seeds"))
    given = read_given(arguments)
    search = Search(
        given,
        Path(given.values.get("output_dir", _OUTPUT)).expanduser(),
        given.values.get("backend") or backend(),
        _by_name(over),
        seeds or [given.values.get("seed", ModelOptions.seed)],
        trials,
        given.values.get("overwrite_output_dir", False),
    )
    search.prepare()
    runs = search.runs()
    done = sum(run.metrics is not None for run in runs)
    _say(
        f"search: {len(search.settings)} settings x {len(search.seeds)} seeds are {len(runs)} trainings under "
        f"{search.backend}, {done} of them done; {search.metric} on {search.apart} training examples set apart chooses"
    )
    _run(search, runs)
    rows = search.results(runs)
    write_whole({search.output / RESULTS_FILE: as_json({"metric": search.metric, "settings": rows})})
    console = make_console(results)
    table = Table("setting", search.metric, "seeds", "training s", title="on training examples set apart")
    for row in rows:
        spread = None if row["mean"] is None else {"mean": row["mean"], "deviation": row["deviation"]}
        shown = plus_minus(spread, ".4f")
        table.add_row(describe(row["setting"]), shown, str(len(row["scores"])), f"{row['seconds']:.1f}")
    console.print(table)
    if rows[0]["mean"] is None:
        console.print("no setting was trained with every seed")
    else:
        best = search.write_best(rows[0]["setting"])
        console.print(f"best: {describe(rows[0]['setting'])}", soft_wrap=True)
        command = ["fastprompt", "train", "--config", str(best), "--output_dir", str(search.output / "best")]
        console.print(f"train it: {shlex.join(command)}", soft_wrap=True)
    return 1 if any(run.state == "failed" for run in runs) else 0


def _by_name(over: list[list[str]] | None) -> dict[str, list[str]]:
    if not over:
        raise ConfigError("search needs options to try: --over learning_rate 1e-3 1e-2.")
    found: dict[str, list[str]] = {}
    for name, *values in over:
        name = name.removeprefix("--")
        if name in found or not values or len(set(values)) < len(values):
            raise ConfigError(f"--over {name} needs values, each once, and stands once.")
        found[name] = values
    return found


def _run(search: Search, runs: list[Trial]) -> None:
    """Run what is not finished, and say what each came to and how long the rest will take."""
    begun, fresh = time.monotonic(), 0
    with show_progress("search", len(runs)) as progress:
        ended = run_all(runs, lambda run, line: progress(f"{run.name}: {line}", advance=line == "starting"))
        for number, run in enumerate(ended, start=1):
            if run.state == "failed":
                _say(f"fastprompt: {run.name}: {run.reason}")
            elif run.fresh:
                fresh += 1
                left = sum(other.metrics is None for other in runs[number:])
                minutes = (time.monotonic() - begun) / fresh * left / 60
                _say(f"{run.name}: {search.metric} {run.score(search.metric):.4f}; about {minutes:.0f} minutes left")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
