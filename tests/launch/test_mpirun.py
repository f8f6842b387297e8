"""What Open MPI's mpirun tells about its processes, told as one of our lines."""

import io
import sys

from fastprompt.errors import TrainingError
from fastprompt.launch import mpirun

import pytest

SAID_BY_MPIRUN = """
-----
prterun detected that one or more processes exited with non-zero status,

   Process name: [prterun-host-7@1,1]
   Exit code:    1
-----
"""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("fastprompt: there is no file", "there is no file"),
        ("dull words", "ended with status 1, last words: dull words"),
        ("", "ended with status 1 without a word"),
    ],
)
def test_a_process_that_fails_before_the_first_has_spoken_is_told_in_one_line(monkeypatch, line, reason):
    script = f"import sys; sys.stderr.write('[1,1]<stderr>: {line}\\n' + {SAID_BY_MPIRUN!r}); sys.exit(1)"
    monkeypatch.setattr(mpirun, "command", lambda count, arguments: [sys.executable, "-c", script])
    with pytest.raises(TrainingError) as caught:
        mpirun.run(2, [], io.StringIO())
    assert str(caught.value) == f"process 1: {reason}"
