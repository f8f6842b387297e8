"""The command `fastprompt tasks`: the tasks, their data sets, what a row of their files has, and their scores."""

from collections.abc import Iterator
from typing import TextIO

from fastprompt.commands.terminal import make_console
from fastprompt.data.readers import lama
from fastprompt.data.tasks import TASKS, TaskSource
from fastprompt.metrics.tasks import scores_of

from rich.table import Table


def main(results: TextIO) -> int:
    table = Table("--task_name", "--dataset_name", "--data_dir", "columns of its files", "scores, the main one first")
    for name, source in TASKS.items():
        rows = list(_rows(name, source))
        for row in rows:
            table.add_row(*row, end_section=row is rows[-1])
    table.add_row("lama", "", "needed", ", ".join(lama.COLUMNS), _scores("lama"))
    make_console(results).print(table)
    return 0


def _rows(name: str, source: TaskSource) -> Iterator[tuple[str, ...]]:
    """A task's rows, one for each of its data sets."""
    for dataset in source.hub or (None,):
        columns = source.columns.get(dataset, source.columns.get(None, ()))
        where = "embedded" if source.embedded else "optional (hub)" if source.hub else "needed"
        yield name, dataset or "", where, ", ".join(columns), _scores(name, dataset)


def _scores(name: str, dataset: str | None = None) -> str:
    scores = scores_of(name, dataset)
    return ", ".join(dict.fromkeys((scores.main, *scores.names)))
