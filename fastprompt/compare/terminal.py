"""What `compare`, `parity` and `search` print beside tables of their own: spreads, and which run is under way."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


def plus_minus(spread: dict[str, float] | None, form: str) -> str:
    if spread is None:
        return "-"
    shown = format(spread["mean"], form)
    return shown if spread["deviation"] is None else f"{shown} ± {spread['deviation']:{form}}"


@contextmanager
def show_progress(name: str, total: int) -> Iterator[Callable[..., None]]:
    """Yields progress(line, advance=True), which shows what is going on: a bar on a terminal, lines elsewhere."""
    begun = 0
    if not sys.stderr.isatty():

        def progress(line: str, advance: bool = True) -> None:
            nonlocal begun
            begun += advance
            if advance:
                print(f"{name} {begun}/{total}: {line}", file=sys.stderr, flush=True)

        yield progress
        return
    columns = (
        *(TextColumn(name), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeElapsedColumn()),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=total)

        def progress(line: str, advance: bool = True) -> None:
            nonlocal begun
            begun += advance
            bar.update(task, description=line, completed=begun - 1)

        yield progress
