"""What the PyTorch driver declares about itself: imports no framework."""

import sys
from collections.abc import Sequence

from fastprompt.framework import CAPABILITIES, Declaration, Launcher, LineStyle
from fastprompt.launch import local
from fastprompt.launch.subprocesses import environment, threads_each


def _commands(count: int, device: str | None, arguments: Sequence[str]) -> list[local.Command]:
    (port,) = local.free_ports(1)
    shared = {**environment("torch"), "OMP_NUM_THREADS": threads_each(count)}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": port}
    command = [sys.executable, *arguments]
    return [(command, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]


DECLARATION = Declaration(
    packages=("torch", "transformers"),
    capabilities=frozenset(CAPABILITIES),
    launcher=Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", ("MASTER_ADDR", "MASTER_PORT"), _commands),
    line_style=LineStyle("#123f8c", "#7f9cf5", dashes=(), width=2.6),
)
