"""`--num_processes N`: the command line in N processes of this machine, as the framework's own launcher starts them.

Those of jittor are mpirun's: see `fastprompt.launch.mpirun`. The others find each other by the variables that torchrun
and paddle.distributed.launch set. Those launchers print a page where a process printed a line, and start slower; on
several machines they are the ones to use.
"""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from fastprompt.errors import TrainingError
from fastprompt.launch import mpirun
from fastprompt.launch.subprocesses import Finished, environment, threads_each

LOST = 3  # exit status of a process that ended because another one had
_GRACE = 15.0  # seconds in which processes end by themselves once one has failed


def run(backend: str, count: int, device: str | None, arguments: Sequence[str], results: TextIO) -> int:
    """Run `fastprompt ARGUMENTS` in `count` processes to their end; the first one writes to `results`.

    Returns:
        The exit status: 0, or that of the process that failed first, whose own line is the error.

    Raises:
        BackendError: the engine that starts several processes of the framework is missing.
        TrainingError: what a process other than the first, which speaks for itself, failed from.
    """
    if backend == "jittor":
        return mpirun.run(count, arguments, results)
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        command = [sys.executable, "-m", "fastprompt.cli", *arguments]
        processes = [
            subprocess.Popen(
                command,
                env={**environment(backend), **variables},
                stdout=results if rank == 0 else subprocess.DEVNULL,
                stderr=None if rank == 0 else logs[rank],
            )
            for rank, variables in enumerate(variables(backend, count, device))
        ]
        with _passing_on_sigterm(processes):
            failed = _wait(processes)
        if not failed or (0 in failed and processes[0].returncode > 0):  # the first has said why, but for a signal
            return processes[0].returncode
        rank = failed[0]
        logs[rank].seek(0)
        errors = logs[rank].read().decode(errors="replace").splitlines()
    raise TrainingError(f"process {rank}: {Finished(processes[rank].returncode, errors).reason}")


def _wait(processes: list[subprocess.Popen]) -> list[int]:
    """The ranks of those that failed of themselves; the others have ended then too, or are ended."""
    try:
        until = None
        while any(process.poll() is None for process in processes):
            if until is None and any(process.returncode for process in processes):
                until = time.monotonic() + _GRACE
            if until is not None and time.monotonic() > until:
                break
            time.sleep(0.05)
        return [rank for rank, process in enumerate(processes) if process.returncode not in (None, 0, LOST)]
    except KeyboardInterrupt:  # they got it too
        for process in processes:
            process.wait(_GRACE)
        raise
    finally:
        for process in processes:
            process.kill()  # SIGTERM would wait for the end of a step that does not come
            process.wait()


@contextmanager
def _passing_on_sigterm(processes: list[subprocess.Popen]) -> Iterator[None]:
    def pass_on(signum: int, frame: Any) -> None:
        for process in processes:
            process.send_signal(signum)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def variables(backend: str, count: int, device: str | None) -> list[dict[str, str]]:
    """What each process finds in its environment, under torch or paddle."""
    threads = threads_each(count)
    ports = _free_ports(count)
    ranks = range(count)
    if backend == "torch":
        shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
        shared |= {"MASTER_PORT": ports[0], "OMP_NUM_THREADS": threads}
        return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in ranks]
    points = [f"127.0.0.1:{port}" for port in ports]
    shared = {"PADDLE_TRAINERS_NUM": str(count), "PADDLE_TRAINER_ENDPOINTS": ",".join(points)}
    shared |= {"PADDLE_MASTER": points[0], "OMP_NUM_THREADS": threads}
    return [
        {
            **shared,
            "PADDLE_TRAINER_ID": str(rank),
            "PADDLE_RANK_IN_NODE": str(rank),
            "PADDLE_CURRENT_ENDPOINT": points[rank],
            **({} if device == "cpu" else {"FLAGS_selected_gpus": str(rank)}),
        }
        for rank in ranks
    ]


def _free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for taken in sockets:
        taken.bind(("127.0.0.1", 0))
    ports = [str(taken.getsockname()[1]) for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports
