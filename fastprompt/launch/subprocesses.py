"""Python processes of another framework: one process runs one framework.

The parent imports none, so that its environment is still the user's own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_KEPT_LINES = 50


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
        """Why it failed, in one line: the error it told, else the last thing it said."""
        told = [line.removeprefix("fastprompt: ") for line in self.errors if line.startswith("fastprompt: ")]
        said = [line.strip() for line in self.errors if line.strip()]
        if told:
            return told[-1]
        ended = f"ended by signal {-self.returncode}" if self.returncode < 0 else f"ended with status {self.returncode}"
        return f"{ended}, last words: {said[-1]}" if said else f"{ended} without a word"


def run(backend: str, arguments: Sequence[str], told: Callable[[str], None] = lambda line: None) -> Finished:
    """Run `python ARGUMENTS` on `backend` to its end; what ends this process's wait (Ctrl-C) ends the child too.

    Args:
        told: is given each line of its standard error as it comes.
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
            errors = [*errors[1 - _KEPT_LINES :], line.rstrip("\n")]
            told(errors[-1])
        return Finished(process.wait(), errors)
    except BaseException:
        process.terminate()
        process.wait()
        raise
