"""What the environment says of several processes: where something is missing it is named, and nobody waits."""

import fastprompt as fp
from fastprompt.errors import BackendError
from fastprompt.framework import BACKENDS, backend, declaration
from fastprompt.launch.world import check_meeting

import pytest


@pytest.fixture
def launched(monkeypatch):
    """launched(rank, size, ...): the environment of such a process of this framework, the rest as given."""
    for framework in BACKENDS:
        launcher = declaration(framework).launcher
        for name in (launcher.rank, launcher.size, launcher.local_rank, *launcher.meeting):
            monkeypatch.delenv(name, raising=False)
    launcher = declaration(backend()).launcher

    def set_variables(rank=None, size=None, local_rank=None, meeting=()):
        values = {launcher.rank: rank, launcher.size: size, launcher.local_rank: local_rank}
        for name, value in {**values, **dict(meeting)}.items():
            if value is not None:
                monkeypatch.setenv(name, value)
        return launcher

    return set_variables


@pytest.mark.parametrize("given", [(), ("0",), ("0", "1", "0")])
def test_a_process_alone_needs_nothing(launched, given):
    launched(*given)
    check_meeting()


def test_a_rank_without_a_size_is_refused_by_name(launched):
    launcher = launched("1")
    with pytest.raises(BackendError, match=f"{launcher.rank} is 1, and {launcher.size} is not set"):
        check_meeting()


def test_processes_that_would_not_find_each_other_are_refused_by_name(launched, tiny):
    launcher = launched("0", "2", "0")
    if not launcher.meeting:
        check_meeting()
        return
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"])
    for check in (check_meeting, lambda: fp.get_driver(model)):
        with pytest.raises(BackendError, match=f"{launcher.meeting[0]} is not set.*Start them with {launcher.command}"):
            check()
    launched(meeting=dict.fromkeys(launcher.meeting, "127.0.0.1:1"))
    check_meeting()


def variables(rank):
    """What this framework's launcher sets for one of two processes, but for where they meet."""
    launcher = declaration(backend()).launcher
    return {launcher.rank: rank, launcher.size: "2", launcher.local_rank: rank}


def test_of_several_processes_the_first_predicts_and_a_line_says_so(run_python):
    arguments = ("-m", "fastprompt.cli", "predict", "--model_name_or_path", "nothing")
    done = run_python(backend(), *arguments, **variables("1"))
    assert done.stderr.strip() == "fastprompt: rank 0 of the 2 processes does predict, not rank 1."
    first = run_python(backend(), *arguments, check=False, **variables("0"))
    assert "nothing holds no prompt" in first.stderr


@pytest.mark.skipif(not declaration(backend()).launcher.meeting, reason="mpirun's processes find each other")
def test_training_is_refused_before_anything_is_read(run_python):
    launcher = declaration(backend()).launcher
    arguments = ("-m", "fastprompt.cli", "train", "--model_name_or_path", "M", "--task_name", "reviews")
    done = run_python(backend(), *arguments, check=False, **variables("0"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"fastprompt: {launcher.rank} is 0, and {launcher.meeting[0]} is not set: ")
