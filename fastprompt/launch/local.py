"""`--num_processes N`: the command line in N processes of this machine, as the framework's own launcher starts them.

Each driver declares how. Where its launcher is no more than variables in the environment, they are set here: torchrun
and paddle.distributed.launch print a page where a process printed a line, and start slower; on several machines they
are the ones to use.
"""

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from fastprompt.errors import TrainingError
from fastprompt.framework import declaration
from fastprompt.launch.subprocesses import Finished

Command = tuple[list[str], dict[str, str]]  # a command line, and the environment that it runs in

LOST = 3  # exit status of a process that ended because another one had
_GRACE = 15.0  # seconds in which processes end by themselves once one has failed


def run(backend: str, count: int, device: str | None, arguments: Sequence[str], results: TextIO) -> int:
    """Run `fastprompt ARGUMENTS` in `count` processes to their end; the first one writes to `results`.

    Returns:
        The exit status: 0, or that of the process that failed first, whose own line is the error.

    Raises:
        BackendError: what starts several processes of the framework is missing.
        TrainingError: why a process failed, other than the first, which reports its error itself.
    """
    launcher, arguments = declaration(backend).launcher, ["-m", "fastprompt.cli", *arguments]
    if launcher.run is not None:
        return launcher.run(count, arguments, results)
    commands = launcher.commands(count, device, arguments)
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in commands]
        processes = [
            subprocess.Popen(
                command,
                env=variables,
                stdout=results if rank == 0 else subprocess.DEVNULL,
                stderr=None if rank == 0 else logs[rank],
            )
            for rank, (command, variables) in enumerate(commands)
        ]
        with _passing_on_sigterm(processes):
            failed = _wait(processes)
        if not failed or (0 in failed and processes[0].returncode > 0):  # the first has printed why, but for a signal
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


def free_ports(count: int) -> list[str]:
    """So many ports of this machine that nothing listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for taken in sockets:
        taken.bind(("127.0.0.1", 0))
    ports = [str(taken.getsockname()[1]) for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports
