"""Where commands print their tables."""

from typing import TextIO

from rich.console import Console


def make_console(results: TextIO) -> Console:
    """On a terminal as wide as it is; elsewhere wide enough for a whole table."""
    return Console(file=results, markup=False, highlight=False, width=None if results.isatty() else 140)
