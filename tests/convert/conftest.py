"""Fixtures of this package."""

import json
import pickle

from fastprompt.convert import paddlenlp

import numpy
import pytest


@pytest.fixture(scope="session")
def adapters(tmp_path_factory, run_python, tiny):
    """Folders of PEFT adapters with their own logits, made by `make_adapters.py`."""
    folder = tmp_path_factory.mktemp("adapters")
    checkpoints = next(iter(tiny.values())).parent
    run_python("torch", "tests/checkpoints/make_adapters.py", "make", folder, checkpoints)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def their_checkpoints(tmp_path_factory, run_python, tiny):
    """Checkpoints as P-Tuning v2's run.py leaves them, with the logits of a `past_key_values` reference."""
    folder = tmp_path_factory.mktemp("ptuning-v2")
    run_python("torch", "tests/checkpoints/make_ptuning_v2.py", folder, tiny["bert"])
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def prefix_model(tmp_path, tiny):
    """A folder as PaddleNLP's prefix model leaves it."""
    folder = tmp_path / "paddlenlp"
    folder.mkdir()
    rows = numpy.random.default_rng(0).standard_normal((5, 2 * 3 * 32)).astype("float32")
    (folder / paddlenlp.WEIGHTS).write_bytes(pickle.dumps({"0.weight": rows}, protocol=4))
    (folder / paddlenlp.CONFIG).write_text(json.dumps({"num_prefix_tokens": 5, "prefix_projection": False}))
    return folder, rows
