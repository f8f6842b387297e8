"""The import hook: any order of imports, one framework, an untouched environment, one-line errors."""

import os
import shutil

import fastprompt
from fastprompt.drivers import compat

import pytest

BACKEND = fastprompt.backend()
OTHERS = [name for name in ("torch", "paddle", "jittor") if name != BACKEND]

MODEL = {
    "torch": """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
    def train_step(self, x):
        return {"loss": self.linear(x.float()).mean()}
def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
""",
    "paddle": """
import paddle
class Model(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = paddle.nn.Linear(2, 1)
    def train_step(self, x):
        return {"loss": self.linear(x.astype("float32")).mean()}
def optimizer(model):
    return paddle.optimizer.SGD(parameters=model.parameters(), learning_rate=0.1)
""",
    "jittor": """
import jittor
class Model(jittor.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = jittor.nn.Linear(2, 1)
    def train_step(self, x):
        return {"loss": self.linear(x.float32()).mean()}
def optimizer(model):
    return jittor.optim.SGD(model.parameters(), lr=0.1)
""",
}[BACKEND]

FASTNLP = "from fastNLP import DataSet, Trainer, prepare_dataloader\n"

TRAIN = f"""
model = Model()
loader = prepare_dataloader(DataSet({{"x": [[1, 2]] * 8}}), batch_size=4)
trainer = Trainer(model=model, driver={BACKEND!r}, device="cpu", n_epochs=1, optimizers=optimizer(model),
                  train_dataloader=loader, progress_bar=None)
trainer.run()
assert trainer.global_forward_batches == 2
"""


HIDDEN = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''\n"  # on its own it makes jittor abort, without a GPU
UNPREPARED = "import os; os.environ['nvcc_path'] = ''\n"  # jittor before fastprompt: the user's own affair


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param(HIDDEN + "import fastprompt\n" + FASTNLP + MODEL, id="fastNLP, then the framework"),
        pytest.param(HIDDEN + "import fastprompt\n" + MODEL + FASTNLP, id="the framework, then fastNLP"),
        pytest.param(HIDDEN + "from fastprompt.framework import nn\n" + FASTNLP + MODEL, id="our nn, then fastNLP"),
        pytest.param(UNPREPARED + MODEL + "import fastprompt\n" + FASTNLP, id="the framework first of all"),
    ],
)
def test_every_order_of_imports_trains(imports, run_python):
    run_python(BACKEND, "-c", imports + TRAIN)


@pytest.mark.skipif(BACKEND == "paddle", reason="fastNLP cannot be imported on paddle 3 without fastprompt")
def test_fastnlp_loaded_before_fastprompt_is_patched_in_place(run_python):
    run_python(BACKEND, "-c", UNPREPARED + "import fastNLP, fastprompt\n" + FASTNLP + MODEL + TRAIN)


def test_fastnlp_follows_the_framework_that_is_imported_and_loads_no_other(run_python):
    code = f"import fastprompt, {BACKEND}, fastNLP, os, sys\n"
    code += f"print(os.environ['FASTNLP_BACKEND'], [name for name in {OTHERS} if name in sys.modules])"
    done = run_python(None, "-c", code)
    assert done.stdout.strip().splitlines()[-1] == f"{BACKEND} []"
    assert "pkg_resources" not in done.stderr


@pytest.mark.once
def test_looking_for_a_module_decides_nothing(run_python):
    code = """
import os, sys, importlib.util
import fastprompt
before = dict(os.environ)
for name in ("fastNLP", "torch", "paddle", "jittor"):
    assert importlib.util.find_spec(name) is not None
    assert name not in sys.modules, name
assert dict(os.environ) == before
"""
    run_python(None, "-c", code)


def test_apply_may_be_called_twice():
    import sys

    import fastNLP  # noqa: F401

    compat.apply()
    compat.apply()
    assert sum(type(finder).__name__ == "_FastNLPFinder" for finder in sys.meta_path) == 1
    patched = sys.modules["fastNLP.envs.set_backend"]._set_backend
    assert not hasattr(patched.__wrapped__, "__wrapped__")


@pytest.mark.once
@pytest.mark.parametrize(
    "late",
    [
        pytest.param("os.environ['FASTNLP_BACKEND'] = 'paddle'; import fastprompt", id="by the variable"),
        pytest.param(
            """
import fastprompt; from fastprompt.drivers import compat; fastprompt.set_backend('paddle')
try:
    compat.apply()
except fastprompt.FastpromptError:
    import paddle""",
            id="by set_backend",
        ),
    ],
)
def test_fastnlp_loaded_for_another_framework_is_one_line_with_the_fix(late, run_python):
    done = run_python("torch", "-c", f"import os, fastNLP\n{late}", check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and last.startswith("fastprompt.errors.BackendError: fastNLP is already loaded for torch")
    assert "import fastprompt before fastNLP" in last and "FASTNLP_BACKEND=paddle" in last


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="with a GPU fastNLP's choice stands")
@pytest.mark.parametrize("visible", [None, "", "0"])
def test_without_a_gpu_the_environment_is_left_alone(visible, monkeypatch):
    from fastNLP.envs import set_backend

    for name in ("CUDA_VISIBLE_DEVICES", "USER_CUDA_VISIBLE_DEVICES", "use_cuda"):
        monkeypatch.delenv(name, raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    set_backend._set_backend()
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    assert "use_cuda" not in os.environ


def test_a_patch_names_a_module_that_exists():
    """A misspelt module name would never be patched, silently."""
    import importlib.util

    for name in compat._PATCHES:
        assert importlib.util.find_spec(name) is not None, name
    assert os.environ["FASTNLP_BACKEND"] == BACKEND


def test_fastnlp_needs_no_pkg_resources_and_leaves_none(run_python):
    """setuptools 82 dropped it."""
    code = (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'pkg_resources':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "import fastprompt, fastNLP\n"
        "from fastNLP.io.pipe import utils\n"
        "from fastNLP.envs.utils import _compare_version\n"
        "import operator\n"
        "assert _compare_version('fastNLP', operator.ge, '1.0')\n"
        "assert not _compare_version('fastNLP', operator.lt, '1.0')\n"
        "assert 'pkg_resources' not in sys.modules\n"
    )
    run_python(BACKEND, "-W", "error:pkg_resources", "-c", code)
