"""Several processes train as one: the same steps, every example once, and none left running when one dies."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fastprompt as fp
from fastprompt.data.examples import LabelledTexts
from fastprompt.data.sampler import LengthGroupedBatchSampler
from fastprompt.errors import BackendError
from fastprompt.launch import local
from fastprompt.launch.subprocesses import environment
from fastprompt.launch.world import launcher_of, world
from fastprompt.metrics.loss import MeanLoss

import numpy
import pytest

LAUNCHERS = {  # the variables of their processes: rank, number, rank on this machine
    "torch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "paddle": ("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM", "PADDLE_RANK_IN_NODE"),
    "jittor": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
WORDS = ["a", "fine", "dull", "film", "warm", "and", "bright", "cold", "it", "was", "best", "of", "all", "times"]
NO_DROPOUT = ("--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0")


@pytest.fixture(scope="module")
def task(tiny, tmp_path_factory):
    """63 examples: in batches of 12 three are left over, of which one process gets two and the other one."""
    data, draw = tmp_path_factory.mktemp("glue"), random.Random(0)
    for name, count in (("train", 63), ("dev", 23)):
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]
        lines = [f"{text}\t{draw.randint(0, 1)}" for text in texts]
        (data / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return [
        *("train", "--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2"),
        *("--data_dir", data, "--pre_seq_len", "3", "--learning_rate", "0.05", "--device", "cpu", *NO_DROPOUT),
    ]


@pytest.fixture(scope="module")
def long_task(task):
    """60 batches; the prompt steps every second one."""
    return [
        *(*task, "--num_train_epochs", "10", "--gradient_accumulation_steps", "2", "--logging_steps", "3"),
        *("--max_grad_norm", "0.05"),
        *("--evaluation_strategy", "steps", "--eval_steps", "20", "--save_steps", "20"),
    ]


@pytest.fixture(scope="module")
def one(command, long_task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    command(*long_task, "--per_device_train_batch_size", "12", "--output_dir", folder)
    return folder


@pytest.fixture(scope="module")
def two(command, long_task, tmp_path_factory):
    """(what the command did, its folder)"""
    folder = tmp_path_factory.mktemp("two")
    arguments = ("--per_device_train_batch_size", "6", "--num_processes", "2", "--output_dir", folder)
    return command(*long_task, *arguments), folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_tensors(folder, other):
    tensors, like = (fp.load_prompt_model(f).stored_parameters() for f in (folder, other))
    for name, value in like.items():
        found, wanted = (fp.framework.ops.to_numpy(x) for x in (tensors[name], value))
        numpy.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * abs(wanted).max())


def assert_same_run(folder, other):
    for name in ("history.jsonl", "evaluations.jsonl"):
        for found, wanted in zip(lines(folder / name), lines(other / name), strict=True):
            assert found == pytest.approx(wanted, rel=1e-4)
    assert_same_tensors(folder, other)
    found, wanted = (json.loads((f / "metrics.json").read_bytes()) for f in (folder, other))
    for name in ("accuracy", "loss", "eval_samples", "train_samples", "steps"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-4)


def test_two_processes_take_the_steps_of_one(one, two):
    _, folder = two
    assert len(lines(folder / "history.jsonl")) == 20
    assert_same_run(folder, one)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in one.iterdir())


def test_the_last_shorter_group_of_batches_is_that_of_one_process(command, train_here, task, tmp_path):
    """Six batches in groups of four; a checkpoint falls into the second group, whose gradients the processes share."""
    task = [*task, "--do_train", "--gradient_accumulation_steps", "4", "--save_steps", "5"]
    halves = [*task, "--per_device_train_batch_size", "6", "--output_dir", tmp_path / "two"]
    command(*halves, "--num_processes", "2")
    whole = [*task[1:], "--per_device_train_batch_size", "12", "--output_dir"]
    assert train_here(*whole, tmp_path / "one")["steps"] == 2
    assert_same_tensors(tmp_path / "two", tmp_path / "one")
    shutil.copytree(tmp_path / "two" / "checkpoint-5", tmp_path / "resumed" / "checkpoint-5")
    train_here(*whole, tmp_path / "resumed", "--resume_from_checkpoint", "last")
    assert_same_tensors(tmp_path / "resumed", tmp_path / "one")


def test_the_first_process_speaks_for_all(two):
    done, folder = two
    assert done.stdout.count(b"accuracy: ") == 1
    assert done.stderr.count(b"step 60/60") == 1
    assert done.stderr.count(b"evaluation at step 40") == 1
    assert json.loads((folder / "metrics.json").read_bytes())["num_processes"] == 2


def test_one_process_goes_on_where_two_stopped(command, long_task, one, two, tmp_path):
    _, stopped = two
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    (folder / "metrics.json").unlink()
    shutil.rmtree(folder / "checkpoint-60")
    done = command(
        *(*long_task, "--per_device_train_batch_size", "12", "--output_dir", folder),
        *("--resume_from_checkpoint", "last"),
    )
    assert b"resuming from" in done.stderr
    assert_same_run(folder, one)


def launched(count, *arguments):
    """The command, started by the framework's own launcher."""
    here = Path(sys.executable).parent
    start = {
        "torch": [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", count, "-m", "fastprompt.cli"],
        "paddle": [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", count, here / "fastprompt"],
        "jittor": [here / "mpirun", "--allow-run-as-root", "--oversubscribe", "-np", count, here / "fastprompt"],
    }[fp.backend()]
    return list(map(str, (*start, *arguments)))


def test_tokens_count_alike_whichever_process_has_them_under_the_frameworks_own_launcher(command, tiny, tmp_path):
    draw = random.Random(1)
    for name, count in (("train", 13), ("valid", 7)):
        sentences = [
            "".join(f"{word} {draw.choice(['O', 'B-X', 'I-X'])}\n" for word in draw.choices(WORDS, k=length))
            for length in [draw.choice([1, 2, 12]) for _ in range(count)]
        ]
        (tmp_path / f"{name}.txt").write_text("\n".join(sentences))
    task = [
        *("train", "--model_name_or_path", tiny["bert"], "--task_name", "ner", "--data_dir", tmp_path, "--device"),
        *("cpu", "--pre_seq_len", "3", "--learning_rate", "0.05", "--logging_steps", "1", *NO_DROPOUT),
        *("--evaluation_strategy", "steps", "--eval_steps", "2", "--load_best_model_at_end"),
    ]
    command(*task, "--per_device_train_batch_size", "6", "--output_dir", tmp_path / "one")
    arguments = (*task, "--per_device_train_batch_size", "2", "--output_dir", tmp_path / "three")
    done = subprocess.run(
        launched(3, *arguments), env=environment(fp.backend()), cwd=tmp_path, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    for found, wanted in zip(*(lines(tmp_path / n / "history.jsonl") for n in ("three", "one")), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    found, wanted = (json.loads((tmp_path / n / "metrics.json").read_bytes()) for n in ("three", "one"))
    for name in ("entity_f1", "precision", "recall", "loss", "best_step"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-4)


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ranks_of(pid):
    """The processes that the command started, by their ranks."""
    ranks = children_of(pid)
    return children_of(ranks[0]) if fp.backend() == "jittor" else ranks  # after mpirun


def assert_gone(ranks):
    until = time.monotonic() + 10
    while left := [pid for pid in ranks if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.05)


def start_two(task, folder, *more):
    """The command in two processes, once both have made steps; and the processes' ids."""
    arguments = [*task, "--output_dir", folder, "--num_processes", "2", "--num_train_epochs", "100000", *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastprompt.cli", *map(str, arguments), "--logging_steps", "5"],
        env=environment(fp.backend()),
        stderr=subprocess.PIPE,
        text=True,
    )
    history = folder / "history.jsonl"
    until = time.monotonic() + 120
    while not (history.exists() and history.stat().st_size) and time.monotonic() < until:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process, ranks_of(process.pid)


@pytest.mark.parametrize(("rank", "more"), [(0, ()), (1, ()), (0, ("--fsdp",)), (1, ("--fsdp",))])
def test_when_a_process_dies_the_others_end_within_a_minute(task, tmp_path, rank, more):
    if more and fp.backend() != "torch":
        pytest.skip("fsdp is torch's")
    process, ranks = start_two(task, tmp_path, *more)
    os.kill(ranks[rank], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.splitlines()[-1].startswith(f"fastprompt: process {rank}: ended by signal 9")
    assert "Traceback" not in stderr
    assert_gone(ranks)


def test_sigterm_saves_and_ends_all(task, tmp_path):
    process, ranks = start_two(task, tmp_path)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "go on with --resume_from_checkpoint last" in stderr.splitlines()[-1]
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
    assert_gone(ranks)


def test_an_error_of_all_is_reported_once(command, task, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # as container images set it: lines are written in pieces
    done = command(*task, "--data_dir", tmp_path, "--num_processes", "2", "--output_dir", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert done.stderr.count(b"fastprompt: ") == 1
    assert b"There is no file" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_without_its_engine_a_framework_says_so(tiny, tmp_path, monkeypatch):
    if fp.backend() != "jittor":
        pytest.skip("it brings its own")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BackendError, match=r"started by mpirun, which is missing: pip install 'fastprompt\[mpi\]'"):
        local.run("jittor", 2, "cpu", [], sys.stdout)
    for name, value in zip(LAUNCHERS["jittor"], ("1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(BackendError, match="talk over MPI, which is missing: pip install"):
        fp.get_driver(fp.PromptForSequenceClassification.from_pretrained(tiny["bert"]))


# -- the parts, in this process ---------------------------------------------------------------------------------------


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is the second of two; what it hands to all-reduce is recorded, and the first hands in none."""
    for name, value in zip(LAUNCHERS[fp.backend()], ("1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    for name in fp.framework.declaration(fp.backend()).launcher.meeting:
        monkeypatch.setenv(name, "127.0.0.1")
    collective, handed_in = fp.framework.collective, []
    monkeypatch.setattr(collective, "join", lambda device: None)
    monkeypatch.setattr(collective, "barrier", lambda: None)
    monkeypatch.setattr(collective, "broadcast", lambda x: handed_in.append(("broadcast", x)) or x)
    monkeypatch.setattr(collective, "all_reduce", lambda x: handed_in.append(("all_reduce", x)) or x)
    return handed_in


def test_only_what_is_tuned_travels_and_once_a_step(tiny, second_of_two):
    from fastNLP import Trainer

    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.PTuningV2Config(pre_seq_len=3))
    data = LabelledTexts(WORDS, [len(word) % 2 for word in WORDS])
    loader = fp.make_dataloader(data, fp.load_tokenizer(tiny["bert"]), batch_size=1)
    driver = fp.get_driver(model, "cpu")
    optimizer = fp.AdamW(model.trainable_parameters(), lr=0.1)
    trainer = Trainer(
        model=model,
        driver=driver,
        device=None,
        train_dataloader=loader,
        optimizers=optimizer,
        n_epochs=1,
        accumulation_steps=3,
        progress_bar=None,
    )
    trainer.run(num_train_batch_per_epoch=6)
    tuned, total = model.count_parameters()
    assert tuned < total / 10
    assert [(name, tuple(x.shape)) for name, x in second_of_two] == [
        ("broadcast", (tuned,)),
        ("all_reduce", (tuned,)),
        ("all_reduce", (tuned,)),
    ]
    assert driver.bytes_reduced == 2 * 4 * tuned


def test_the_others_launcher_is_refused(tiny, monkeypatch):
    other = "paddle" if fp.backend() == "torch" else "torch"
    for name, value in zip(LAUNCHERS[other], ("1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"])
    with pytest.raises(BackendError, match=f"started this process, which runs on {fp.backend()}"):
        fp.get_driver(model)


def test_a_list_of_devices_is_refused_and_the_launcher_named(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"])
    with pytest.raises(BackendError, match=f"a process of its own.* start them with {launcher_of(fp.backend())}"):
        fp.get_driver(model, device=[0, 1])


def test_the_scheduler_that_names_a_rank_alone_starts_no_processes(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert world().size == 1


def shares(size, count, batch_size, **options):
    """Every process's batches."""
    lengths = [1 + (7 * i) % 13 for i in range(size)]
    made = []
    for rank in range(count):
        sampler = LengthGroupedBatchSampler(lengths, batch_size, **options)
        sampler.set_distributed(count, rank, pad=options["shuffle"])
        made.append(list(sampler))
        assert len(sampler) == len(made[-1])
    return made


@pytest.mark.parametrize("size", [1, 2, 3, 11, 12, 13, 50])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_an_evaluation_sees_every_example_once(size, count):
    found = shares(size, count, 4, shuffle=False, seed=0)
    assert sorted(index for batches in found for batch in batches for index in batch) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 3, 11, 12, 13, 50])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_in_training_the_shares_make_up_one_processs_batches(size, count):
    counts = [1 + i % 4 for i in range(size)]
    found = shares(size, count, 4, shuffle=True, seed=3, counts=counts)
    (whole,) = shares(size, 1, 4 * count, shuffle=True, seed=3, counts=counts)
    assert {len(batches) for batches in found} == {len(whole)}  # who has no example takes part too
    for batch, *parts in zip(whole, *found, strict=True):
        held = [part for part in parts if part.weight]
        assert sorted(index for part in held for index in part) == sorted(batch)
        labels = sum(counts[index] for index in batch)
        assert [part.weight for part in held] == pytest.approx([sum(counts[i] for i in p) / labels for p in held])
        assert {part.total for part in parts} == {len(batch)}


def test_the_mean_loss_does_not_depend_on_the_batches():
    ops = fp.framework.ops
    losses = numpy.array([1.0, 2.0, 4.0, 8.0], "float32")
    found = []
    for cut in ([[0, 1, 2, 3]], [[0], [1, 2, 3]], [[2, 3], [0], [1]]):
        metric = MeanLoss()
        for batch in cut:
            targets = numpy.array([[1, -100]] * len(batch))  # one label each, and a place where nothing counts
            metric.update(ops.tensor(losses[batch].mean()), ops.tensor(targets))
        found.append(metric.get_metric()["loss"])
    assert found == pytest.approx([3.75] * 3)
