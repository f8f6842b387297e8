"""A run that ends in the middle goes on from its last checkpoint, and ends as if nothing had been."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import fastprompt as fp
from fastprompt.errors import CheckpointError, ConfigError, TrainingError
from fastprompt.models import sequence_classification
from fastprompt.models.outputs import CLASSES
from fastprompt.saving.trainer_state import read_state, write_state
from fastprompt.training import checkpointing
from fastprompt.training.checkpointing import find_checkpoints

import numpy
import pytest

ROWS = [("a fine film", 1), ("a dull film", 0), ("warm and bright", 1), ("cold and grey", 0)] * 6


@pytest.fixture(scope="module")
def task(tiny, tmp_path_factory):
    """Three epochs of three steps, with dropout, in whose midst an evaluation falls."""
    data = tmp_path_factory.mktemp("glue")
    lines = [f"{text}\t{label}" for text, label in ROWS]
    (data / "train.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    (data / "dev.tsv").write_text("\n".join(["sentence\tlabel", *lines[:5]]) + "\n")
    return [
        *("--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2"),
        *("--data_dir", data, "--num_train_epochs", "3", "--pre_seq_len", "3", "--logging_steps", "2"),
        *("--per_device_train_batch_size", "8", "--hidden_dropout_prob", "0.2", "--evaluation_strategy", "steps"),
        *("--eval_steps", "3", "--save_steps", "2", "--learning_rate", "0.1", "--load_best_model_at_end"),
    ]


@pytest.fixture(scope="module")
def whole(train_here, task, tmp_path_factory):
    """The folder of the run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    train_here(*task, "--output_dir", folder)
    return folder


def tensors(folder):
    return fp.load_prompt_model(folder).stored_parameters()


def assert_same_run(folder, other):
    for name in ("history.jsonl", "evaluations.jsonl"):
        found, wanted = ([json.loads(x) for x in (f / name).read_text().splitlines()] for f in (folder, other))
        assert found == wanted
    found, wanted = tensors(folder), tensors(other)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        numpy.testing.assert_array_equal(*(fp.framework.ops.to_numpy(x) for x in (found[name], value)))


def kill_when(arguments, seen, how=signal.SIGKILL):
    """Start the command, and send the signal once `seen` says so; its exit status and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fastprompt.cli", "train", *map(str, arguments)],
        env={**os.environ, "FASTNLP_BACKEND": fp.backend()},
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not seen():
        time.sleep(0.002)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=300)
    return process.returncode, stderr


def test_a_killed_run_goes_on_and_ends_as_the_whole_one(command, train_here, task, whole, tmp_path):
    arguments = [*task, "--output_dir", tmp_path, "--resume_from_checkpoint", "last"]
    status, stderr = kill_when(arguments, lambda: (tmp_path / "checkpoint-4").exists())
    assert status == -signal.SIGKILL
    assert "starting from the beginning" in stderr
    done = command("train", *arguments)
    assert b"resuming from" in done.stderr
    assert_same_run(tmp_path, whole)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert train_here(*arguments) == metrics
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(fp.backend() != "torch", reason="on a CPU torch alone has fp16")
def test_a_run_in_mixed_precision_goes_on_with_its_scale(train_here, task, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    task = [*(word for word in task if word != "--load_best_model_at_end"), "--fp16"]
    train_here(*task, "--output_dir", whole)
    shutil.copytree(whole, stopped)
    (stopped / "metrics.json").unlink()
    for later in ("checkpoint-6", "checkpoint-8"):
        shutil.rmtree(stopped / later)
    scaler = read_state(stopped / "checkpoint-4")["grad_scaler"]
    assert (scaler["scale"], scaler["_growth_tracker"]) == (65536.0, 4)
    train_here(*task, "--output_dir", stopped, "--resume_from_checkpoint", "last")
    assert_same_run(stopped, whole)
    found, wanted = (read_state(folder / "checkpoint-8")["grad_scaler"] for folder in (stopped, whole))
    assert found == wanted


def test_sigterm_saves_and_ends(train_here, task, whole, tmp_path):
    arguments = [*task, "--output_dir", tmp_path, "--save_steps", "100"]
    status, stderr = kill_when(arguments, lambda: (tmp_path / "evaluations.jsonl").exists(), signal.SIGTERM)
    assert status == 1
    assert "go on with --resume_from_checkpoint last" in stderr
    assert "Traceback" not in stderr
    assert len(find_checkpoints(tmp_path)) == 1
    train_here(*arguments, "--resume_from_checkpoint", "last")
    assert_same_run(tmp_path, whole)


def test_a_checkpoint_is_a_saved_prompt_without_the_backbone(whole):
    folders = find_checkpoints(whole)
    assert [folder.name for folder in folders] == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8"]
    assert sum(path.stat().st_size for path in folders[0].iterdir()) < 60_000  # the backbone has 200 KB
    assert fp.load_prompt_model(folders[0]).label_names == ["negative", "positive"]
    assert not [path for path in whole.iterdir() if path.name.startswith(".")]


def test_only_the_newest_are_kept_where_a_limit_is_set(train_here, task, tmp_path):
    train_here(*task, "--output_dir", tmp_path, "--save_total_limit", "2")
    assert [folder.name for folder in find_checkpoints(tmp_path)] == ["checkpoint-6", "checkpoint-8"]


FULL_DISK = """
import shutil, subprocess, sys
from pathlib import Path
from fastprompt.training.checkpointing import find_checkpoints
from fastprompt.cli import main
from fastprompt.saving.trainer_state import read_state

disk, left, size, *arguments = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2**22}", "none", disk], check=True)
ballast, output = Path(disk) / "ballast", Path(disk) / "run"
ballast.write_bytes(bytes(2**22 - int(size)))
arguments = ["train", *arguments, "--output_dir", str(output)]
assert main(arguments) == 1
found = find_checkpoints(output)
for folder in found:
    read_state(folder)
print("found", *sorted(path.name for path in output.iterdir() if "checkpoint" in path.name), file=sys.stderr)
ballast.unlink()
assert main([*arguments, "--resume_from_checkpoint", "last"]) == 0
shutil.copytree(output, left)
"""


def test_a_full_disk_ends_the_run_and_leaves_whole_checkpoints_to_go_on_from(task, whole, tmp_path):
    alone = ["unshare", "--map-root-user", "--mount"]
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk of one's own cannot be mounted here")
    disk, pages = tmp_path / "disk", [-(-path.stat().st_size // 4096) for path in find_checkpoints(whole)[0].iterdir()]
    disk.mkdir()
    room = 5 * sum(pages) // 2 * 4096  # of two checkpoints and a half
    done = subprocess.run(
        [*alone, sys.executable, "-c", FULL_DISK, *map(str, (disk, tmp_path / "left", room, *task))],
        env={**os.environ, "FASTNLP_BACKEND": fp.backend()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    found = next(line for line in done.stderr.splitlines() if line.startswith("found"))
    assert found in ("found checkpoint-2", "found checkpoint-2 checkpoint-4")  # and nothing half written
    assert_same_run(tmp_path / "left", whole)


@pytest.mark.once
def test_a_kill_while_an_old_checkpoint_goes_leaves_none_in_pieces(tmp_path, monkeypatch):
    old = tmp_path / "checkpoint-2"
    old.mkdir()
    for name in ("a", "b"):
        (old / name).touch()

    def killed(folder, **_):
        if folder.exists():
            (folder / "a").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpointing.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpointing._remove(old)
    assert find_checkpoints(tmp_path) == []


@pytest.mark.once
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "prompt"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_offered(train_here, task, whole, tmp_path, damage):
    for folder in find_checkpoints(whole)[:2]:
        (tmp_path / folder.name).mkdir()
        for path in folder.iterdir():
            (tmp_path / folder.name / path.name).write_bytes(path.read_bytes())
    state = tmp_path / "checkpoint-4" / "trainer_state.json"
    prompt = tmp_path / "checkpoint-4" / "prompt.safetensors"
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-20])
    elif damage == "flipped":
        state.write_text(state.read_text().replace('"seed"', '"seeD"', 1))
    elif damage == "gone":
        state.unlink()
    else:
        content = bytearray(prompt.read_bytes())
        content[-1] ^= 1
        prompt.write_bytes(bytes(content))
    with pytest.raises(CheckpointError) as caught:
        train_here(*task, "--output_dir", tmp_path, "--resume_from_checkpoint", "last")
    assert f"--resume_from_checkpoint {tmp_path / 'checkpoint-2'}" in str(caught.value)


@pytest.mark.once
def test_going_on_with_other_options_is_refused(train_here, task, whole, tmp_path):
    with pytest.raises(ConfigError, match="is of a run with seed 11, now it is 5"):
        train_here(
            *task, "--output_dir", tmp_path, "--resume_from_checkpoint", find_checkpoints(whole)[0], "--seed", "5"
        )


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_checkpoints_good(
    train_here, task, tmp_path, monkeypatch
):
    losses = iter([*[1.0] * 4, *[float("nan")] * 9])
    true_loss = sequence_classification._LOSSES[CLASSES]
    monkeypatch.setitem(sequence_classification._LOSSES, CLASSES, lambda *a: true_loss(*a) * next(losses))
    arguments = [*task, "--output_dir", tmp_path, "--save_steps", "1", "--eval_steps", "100"]
    with pytest.raises(TrainingError, match=r"The loss is nan at step 5; lower the learning rate"):
        train_here(*arguments)
    assert [folder.name for folder in find_checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in (1, 2, 3, 4)]
    for value in tensors(find_checkpoints(tmp_path)[-1]).values():
        assert numpy.isfinite(fp.framework.ops.to_numpy(value)).all()


STATE = {
    "text": "é",
    "numbers": [1, 2.5, None, True],
    "pair": (1, (2, "x")),
    "by number": {0: {"m": numpy.arange(3.0)}, 1: {}},
    "nothing": {},
}


def test_a_state_comes_back_as_it_was(tmp_path):
    tensor = fp.framework.ops.tensor(numpy.float32([[1, 2]]))
    write_state(tmp_path, {**STATE, "tensor": tensor})
    found = read_state(tmp_path)
    back = found.pop("tensor")
    assert type(back) is type(tensor)
    assert fp.framework.ops.to_numpy(back).tolist() == [[1, 2]]
    array = found["by number"][0].pop("m")
    numpy.testing.assert_array_equal(array, numpy.arange(3.0))
    assert found == {**STATE, "by number": {0: {}, 1: {}}}


@pytest.mark.once
def test_what_no_checkpoint_can_hold_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot hold state\.callback\.made, which is of object"):
        write_state(tmp_path, {"callback": {"made": object()}})
