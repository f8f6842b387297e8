"""Python processes of another framework: one process runs one framework.

The parent imports none, so that its environment is still the user's own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LAST_LINES = 50


def environment(backend: str) -> dict[str, str]:
    """This process's environment, for a child that runs on `backend`."""
    return {**os.environ, "FASTNLP_BACKEND": backend}


def threads_each(count: int) -> str:
    """OMP_NUM_THREADS for each of `count` processes that share this machine."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // count))


@dataclass
class Finished:
    """A child that has ended: its exit status and the last lines of its standard error."""

    returncode: int
    errors: list[str]

    @property
    def reason(self) -> str:
        """Why it failed, in one line: its own error line, else the last line it printed."""
        reported = [line.removeprefix("fastprompt: ") for line in self.errors if line.startswith("fastprompt: ")]
        printed = [line.strip() for line in self.errors if line.strip()]
        if reported:
            return reported[-1]
        ended = f"ended by signal {-self.returncode}" if self.returncode < 0 else f"ended with status {self.returncode}"
        return f"{ended}, last line: {printed[-1]}" if printed else f"{ended} without a message"


def run(backend: str, arguments: Sequence[str], on_line: Callable[[str], None] = lambda line: None) -> Finished:
    """Run `python ARGUMENTS` on `backend` to its end; what ends this process's wait (Ctrl-C) ends the child too.

    Args:
        on_line: is given each line of its standard error as it comes.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(backend),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    errors: list[str] = []
    try:
        for line in process.stderr:
            errors = [*errors[1 - _LAST_LINES :], line.rstrip("\n")]
            on_line(errors[-1])
        return Finished(process.wait(), errors)
    except BaseException:
        process.terminate()
        process.wait()
        raise
