"""`--num_processes N` under jittor: the command line in N processes of this machine, started by Open MPI's mpirun.

mpirun ends all processes as soon as one fails, and says which in a page; here it becomes a line. Imports no framework.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from fastprompt.errors import BackendError, TrainingError
from fastprompt.launch.subprocesses import Finished, environment, threads_each

FIX = "pip install 'fastprompt[mpi]'"
_TAGGED = re.compile(r"\[[^\]]*,(\d+)\]<std(?:out|err)>: ?(.*)", re.DOTALL)
_KILLED = re.compile(r"rank (\d+) with PID \d+ .*?signal (\d+)", re.DOTALL)
_FAILED = re.compile(r"Process name: \[[^\]]*,(\d+)\]\s+Exit code:\s+(\d+)")


def find() -> str:
    """Raises: BackendError: there is no mpirun."""
    beside = Path(sys.executable).parent / "mpirun"  # the wheel's, whose MPI mpi4py finds
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise BackendError(f"Several processes under jittor are started by mpirun, which is missing: {FIX}.")
    return found


def command(count: int, arguments: Sequence[str]) -> list[str]:
    """What starts `python ARGUMENTS` in `count` processes, whose lines it tags with their ranks.

    Raises:
        BackendError: there is no mpirun.
    """
    options = ["-np", str(count), "--oversubscribe", "--bind-to", "none", "--output", "tag"]
    return [find(), *options, sys.executable, *arguments]


def variables(count: int) -> dict[str, str]:
    """Its environment."""
    inherited = environment("jittor")
    inherited.pop("PYTHONUNBUFFERED", None)  # a line would come in two pieces, and mpirun ends each piece as a line
    root = dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")  # as in a container
    return {**inherited, **root, "OMP_NUM_THREADS": threads_each(count)}


def run(count: int, arguments: Sequence[str], results: TextIO) -> int:
    """See `fastprompt.launch.local.run`."""
    process = subprocess.Popen(
        command(count, arguments),
        env=variables(count),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    lines: dict[int | None, list[str]] = {rank: [] for rank in (None, *range(count))}
    readers = [
        threading.Thread(target=_read, args=(stream, lines, first), daemon=True)
        for stream, first in ((process.stdout, results), (process.stderr, sys.stderr))
    ]
    for reader in readers:
        reader.start()
    before = signal.signal(signal.SIGTERM, lambda *_: _pass_on(process.pid))
    try:
        status = process.wait()
    except BaseException:  # Ctrl-C: mpirun got it too
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    for reader in readers:
        reader.join()
    if status == 0 or any(line.startswith("fastprompt: ") for line in lines[0]):
        return status
    rank, code = _who_failed("\n".join(lines[None]))
    raise TrainingError(f"process {rank}: {Finished(code, lines[rank]).reason}")


def _read(stream: TextIO, lines: dict[int | None, list[str]], first: TextIO) -> None:
    """Collect all lines by their ranks, and pass on those of the first process."""
    for line in stream:
        tagged = _TAGGED.match(line)
        rank, text = (int(tagged[1]), tagged[2]) if tagged else (None, line)
        lines[rank].append(text.rstrip("\n"))
        if rank == 0:
            first.write(text)
            first.flush()


def _pass_on(mpirun: int) -> None:
    """SIGTERM for the processes themselves, which end by it in their own time; mpirun would kill them."""
    for child in Path(f"/proc/{mpirun}/task/{mpirun}/children").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGTERM)


def _who_failed(output: str) -> tuple[int | None, int]:
    """The rank that mpirun names and its exit status, below 0 for a signal; None where it names none."""
    if killed := _KILLED.search(output):
        return int(killed[1]), -int(killed[2])
    if failed := _FAILED.search(output):
        return int(failed[1]), int(failed[2])
    return None, 1
