"""Which of several processes this is, as a launcher says it in the environment; no framework is imported."""

import os
from dataclasses import dataclass

from fastprompt.errors import BackendError
from fastprompt.framework import BACKENDS, declaration


@dataclass(frozen=True)
class World:
    """The processes that train together, and which of them this one is.

    Attributes:
        rank: this process's number, from 0 on; `local_rank` on its machine.
        size: how many processes there are.
        framework: whose launcher started it; None where none did.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    framework: str | None = None


def world() -> World:
    """What this process's launcher says; a world of one process where none started it."""
    for framework in BACKENDS:
        launcher = declaration(framework).launcher
        values = [os.environ.get(name, "") for name in (launcher.rank, launcher.size, launcher.local_rank)]
        if all(value.isdecimal() for value in values) and values[1] != "1":
            rank, size, local_rank = map(int, values)
            return World(rank, size, local_rank, framework)
    return World()


def is_first() -> bool:
    """Whether this is the process that writes files and prints for all."""
    return world().rank == 0


def check_meeting() -> None:
    """Raises: BackendError: this is one of several processes, and nothing says how many they are or where they meet."""
    launcher = declaration(world().framework).launcher
    rank, size = (os.environ.get(name, "") for name in (launcher.rank, launcher.size))
    if not rank.isdecimal() or size == "1" or (not size and int(rank) == 0):
        return
    missing = [name for name in (launcher.size, launcher.local_rank, *launcher.meeting) if not os.environ.get(name)]
    if missing:
        raise BackendError(
            f"{launcher.rank} is {rank}, and {missing[0]} is not set: the processes would not find each other. Start "
            f"them with {launcher.command}, or unset {launcher.rank}."
        )


def launcher_of(framework: str) -> str:
    """The command that starts several processes of a framework."""
    return declaration(framework).launcher.command
