"""What the Jittor driver declares about itself: imports no framework."""

from collections.abc import Sequence

from fastprompt.drivers.jittor import mpirun
from fastprompt.framework import Declaration, Launcher, LineStyle
from fastprompt.launch import local


def _commands(count: int, device: str | None, arguments: Sequence[str]) -> list[local.Command]:
    return [(mpirun.command(count, arguments), mpirun.variables(count))]


DECLARATION = Declaration(
    packages=("jittor", "onednn-cpu-gomp"),
    capabilities=frozenset(),
    launcher=Launcher(
        "mpirun",
        *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        (),
        _commands,
        mpirun.run,
    ),
    line_style=LineStyle("#007a81", "#5fd9c8", dashes=(1.2, 2.2), width=1.9),
)
