"""What Open MPI's mpirun says about its processes becomes one of our lines."""

import io
import sys

from fastprompt.drivers.jittor import mpirun
from fastprompt.errors import TrainingError

import pytest

MPIRUN_OUTPUT = """
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
        ("dull words", "ended with status 1, last line: dull words"),
        ("", "ended with status 1 without a message"),
    ],
)
def test_a_process_that_fails_before_the_first_has_spoken_is_reported_in_one_line(monkeypatch, line, reason):
    script = f"import sys; sys.stderr.write('[1,1]<stderr>: {line}\\n' + {MPIRUN_OUTPUT!r}); sys.exit(1)"
    monkeypatch.setattr(mpirun, "command", lambda count, arguments: [sys.executable, "-c", script])
    with pytest.raises(TrainingError) as caught:
        mpirun.run(2, [], io.StringIO())
    assert str(caught.value) == f"process 1: {reason}"
