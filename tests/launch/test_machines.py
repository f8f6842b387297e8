"""Two machines, which are network namespaces with addresses of their own, train as one process does."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import fastprompt as fp
from fastprompt.launch.subprocesses import environment

import pytest

ROOT = Path(__file__).resolve().parent
WORDS = ["a", "fine", "dull", "film", "warm", "and", "bright"]
ALONE = ["unshare", "--map-root-user", "--net"]


@pytest.fixture
def machines():
    """What stands before `two_machines.py`."""
    if fp.backend() == "jittor":
        pytest.skip("mpirun reaches other machines over ssh, which namespaces have not")
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("unshare, nsenter or ip is not there to make namespaces with")
    made = subprocess.run([*ALONE, "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"], check=False)
    if made.returncode:
        pytest.skip("network namespaces are not allowed here")
    return [*ALONE, sys.executable, str(ROOT / "two_machines.py"), fp.backend()]


def test_two_machines_take_the_steps_of_one_process(machines, command, tiny, tmp_path):
    draw = random.Random(0)
    for name, count in (("train", 30), ("dev", 7)):
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(count)]
        lines = [f"{text}\t{draw.randint(0, 1)}" for text in texts]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    task = [
        *("train", "--backend", fp.backend(), "--model_name_or_path", tiny["bert"], "--task_name", "glue"),
        *("--dataset_name", "sst2", "--data_dir", tmp_path, "--pre_seq_len", "3", "--device", "cpu"),
        *("--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0", "--logging_steps", "1"),
    ]
    command(*task, "--per_device_train_batch_size", "8", "--output_dir", tmp_path / "one")
    arguments = [*task, "--per_device_train_batch_size", "4", "--output_dir", tmp_path / "two"]
    done = subprocess.run(
        [*machines, Path(sys.executable).parent / "fastprompt", *map(str, arguments)],
        env=environment(fp.backend()),
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    for found, wanted in zip(*map(history, (tmp_path / "two", tmp_path / "one")), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    found, wanted = (json.loads((tmp_path / name / "metrics.json").read_bytes()) for name in ("two", "one"))
    assert (found["num_processes"], wanted["num_processes"]) == (2, 1)
    for name in ("accuracy", "loss", "eval_samples"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-4)


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
