"""Which of several processes this is, as a launcher says it in the environment; no framework is imported."""

import os
from dataclasses import dataclass

from fastprompt.framework import BACKENDS, declaration


@dataclass(frozen=True)
class Place:
    """A process's place among `size` processes that train together.

    Attributes:
        rank: its number, from 0 on; `local_rank` on its machine.
        framework: whose launcher started it; None where none did.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    framework: str | None = None


def place() -> Place:
    """This process's place; one of its own where no launcher started it."""
    for framework in BACKENDS:
        launcher = declaration(framework).launcher
        values = [os.environ.get(name, "") for name in (launcher.rank, launcher.size, launcher.local_rank)]
        if all(value.isdecimal() for value in values) and values[1] != "1":
            rank, size, local_rank = map(int, values)
            return Place(rank, size, local_rank, framework)
    return Place()


def is_first() -> bool:
    """Whether this is the process that writes files and prints for all."""
    return place().rank == 0


def launcher_of(framework: str) -> str:
    """The command that starts several processes of a framework."""
    return declaration(framework).launcher.command
