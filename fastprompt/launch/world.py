"""Which of several processes this is, as the engine's launcher says it in the environment; no framework is asked."""

import os
from dataclasses import dataclass

# framework -> what its launcher is, and the variables it sets: rank, number of processes, rank on this machine
_LAUNCHERS = {
    "torch": ("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "paddle": (
        "python -m paddle.distributed.launch",
        *("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM", "PADDLE_RANK_IN_NODE"),
    ),
    "jittor": ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


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
    for framework, (_, *names) in _LAUNCHERS.items():
        values = [os.environ.get(name, "") for name in names]
        if all(value.isdecimal() for value in values) and values[1] != "1":
            rank, size, local_rank = map(int, values)
            return Place(rank, size, local_rank, framework)
    return Place()


def is_first() -> bool:
    """Whether this is the process that writes files and speaks for all."""
    return place().rank == 0


def launcher_of(framework: str) -> str:
    """The command that starts several processes of a framework."""
    return _LAUNCHERS[framework][0]
