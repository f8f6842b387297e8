"""Jittor's start and modules."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy
import pytest

if os.environ.get("FASTNLP_BACKEND") != "jittor":
    pytest.skip("set FASTNLP_BACKEND=jittor", allow_module_level=True)

import fastprompt  # noqa: F401  its import hook prepares jittor and patches fastNLP
from fastprompt.drivers.jittor import driver, nn, ops, runtime
from fastprompt.errors import BackendError, CheckpointError

import jittor

from support.jittor_models import RNG, Classifier, batch, gradients, normal


def relative(found: numpy.ndarray, expected: numpy.ndarray) -> float:
    return float(numpy.abs(found - expected).max() / numpy.abs(expected).max())


def python(code: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=600
    )


def test_starts_without_a_gpu_whatever_the_environment_says(tmp_path):
    """fastNLP turns any CUDA_VISIBLE_DEVICES into use_cuda=1, at which jittor alone aborts the process."""
    code = "from fastprompt.drivers.jittor import runtime; runtime.prepare(); runtime.prepare(); import jittor"
    ran = python(code, tmp_path, CUDA_VISIBLE_DEVICES="0", use_cuda="1")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""  # standard output is for results
    assert list(tmp_path.iterdir()) == []  # and the working directory is the user's


def test_uses_onednn():
    assert jittor.mkl_ops is not None


def test_ctrl_c_and_killed_children_stay_python_s(tmp_path):
    """jittor's own handlers end the process at once, past any `finally`, also when a child dies of a signal."""
    code = (
        "from fastprompt.drivers.jittor import runtime; runtime.prepare()\n"
        "import os, signal, subprocess, time\n"
        "subprocess.run('kill -9 $$', shell=True)\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "except KeyboardInterrupt:\n    print('caught')"
    )
    assert python(code, tmp_path).stdout == "caught\n"


def test_certificates_are_still_checked(tmp_path):
    code = (
        "from fastprompt.drivers.jittor import runtime; runtime.prepare()\n"
        "import ssl; print(ssl._create_default_https_context().verify_mode.name)"
    )
    assert python(code, tmp_path).stdout == "CERT_REQUIRED\n"


def test_links_to_a_virtual_environment_that_is_gone_are_made_again(tmp_path):
    runtime._link_onednn(tmp_path)
    library = next(tmp_path.glob("dnnl_*/lib/libmkldnn.so"))
    library.unlink()
    library.symlink_to(tmp_path / "gone")
    runtime._link_onednn(tmp_path)
    assert library.is_file()
    assert next(tmp_path.glob("dnnl_*/include/oneapi/dnnl/dnnl.hpp")).is_file()


def test_missing_wheels_are_one_line_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "WHEELS", ("onednn-of-nobody",))
    with pytest.raises(BackendError, match=r"onednn-of-nobody.*pip install 'fastprompt\[jittor\]'"):
        runtime._link_onednn(tmp_path)


def test_numpy_2_is_refused(monkeypatch):
    monkeypatch.setattr(numpy, "__version__", "2.1.0")
    with pytest.raises(BackendError, match="numpy<2"):
        runtime._set_environment()


def test_a_python_outside_usr_is_asked_for_its_own_config(monkeypatch):
    monkeypatch.delenv("python_config_path", raising=False)
    monkeypatch.setattr(runtime.sysconfig, "get_python_version", lambda: "3.99")
    runtime._find_python_config()
    assert os.environ.pop("python_config_path") == f"{sysconfig.get_config_var('BINDIR')}/python3.99-config"


def test_parameters_have_torch_s_names_and_buffers_have_none():
    block = [f"{part}.{name}" for part in ("self", "norm") for name in ("weight", "bias")]
    expected = ["table.weight"] + [f"layer.{i}.{name}" for i in range(3) for name in block]
    assert list(nn.named_parameters(Classifier())) == [*expected, "head.weight", "head.bias"]


def test_a_shared_parameter_is_listed_once():
    model = Classifier()
    model.tied = nn.Linear(8, 20)
    model.tied.weight = model.table.weight
    names = list(nn.named_parameters(model))
    assert "table.weight" in names
    assert "tied.weight" not in names


def test_frozen_and_tuned_survive_evaluation():
    """jittor's own eval() stops every parameter's gradient."""
    model, data = Classifier(), batch()
    for parameter in nn.named_parameters(model.layer).values():
        nn.freeze(parameter)
    before = gradients(model, data)
    assert set(before) == {"table.weight", "head.weight", "head.bias"}
    model.eval()
    assert not model.layer[0].is_training()
    with ops.no_grad():
        model.evaluate_step(**data)["pred"].sync()
    model.train()
    assert model.layer[0].is_training()
    after = gradients(model, data)
    for name, grad in before.items():
        assert numpy.abs(grad).max() > 0, name
        assert numpy.array_equal(grad, after[name])
    nn.unfreeze(model.layer[1].norm.bias)
    assert set(gradients(model, data)) == {*before, "layer.1.norm.bias"}


def test_a_module_without_gradients_passes_on_those_of_its_input():
    """jittor's own requires_grad_(False) runs a module under no_grad, and what comes before it gets none."""
    model, data = Classifier(), batch()
    before = gradients(model, data)["table.weight"]
    model.layer.requires_grad_(False)
    assert numpy.array_equal(gradients(model, data)["table.weight"], before)


def test_set_value_keeps_what_is_trained_and_refuses_other_shapes():
    weight = nn.Linear(3, 2).weight
    with ops.no_grad():
        nn.set_value(weight, numpy.ones((2, 3)))
    assert nn.is_trainable(weight)
    assert ops.to_numpy(weight).tolist() == [[1, 1, 1], [1, 1, 1]]
    nn.freeze(weight)
    nn.set_value(weight, numpy.zeros((2, 3)))
    assert not nn.is_trainable(weight)
    with pytest.raises(CheckpointError, match=r"\(2, 3\).*\(3, 2\)"):
        nn.set_value(weight, numpy.ones((3, 2)))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_checkpointed_gradients_are_the_plain_ones(frozen, dropout):
    class Checkpointed(Classifier):
        def forward(self, input_ids):
            x = self.table(input_ids)
            for block in self.layer:
                x = nn.checkpoint(lambda x, block=block: self.dropout(block(x)), x)
            return self.head(ops.sum(x, 1))

    class Plain(Classifier):
        def forward(self, input_ids):
            x = self.table(input_ids)
            for block in self.layer:
                x = self.dropout(block(x))
            return self.head(ops.sum(x, 1))

    plain, checkpointed, data = Plain(dropout=dropout), Checkpointed(dropout=dropout), batch()
    copies = nn.named_parameters(checkpointed)
    for name, parameter in nn.named_parameters(plain).items():
        nn.set_value(copies[name], ops.to_numpy(parameter))
    for model in (plain, checkpointed):
        for parameter in nn.named_parameters(model.layer).values() if frozen else ():
            nn.freeze(parameter)
    runtime.seed(5)
    expected = gradients(plain, data)
    runtime.seed(5)
    found = gradients(checkpointed, data)
    assert set(found) == set(expected)
    for name, grad in expected.items():
        # to the last bit or two: which operators jittor fuses into one kernel depends on the graph around them
        numpy.testing.assert_allclose(found[name], grad, rtol=1e-6, atol=1e-7, err_msg=name)


def test_layer_norm_is_exact_far_from_zero_and_with_frozen_weights():
    """jittor's own computes E[x^2] - E[x]^2, which is noise here."""
    torch = pytest.importorskip("torch")
    x, g, norm = normal(6, 40) + 30, normal(6, 40), nn.LayerNorm(40, eps=1e-12)
    reference = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.layer_norm(reference, (40,), eps=1e-12)
    expected.backward(torch.tensor(g, dtype=torch.float64))
    for freeze in (False, True):
        for parameter in nn.named_parameters(norm).values() if freeze else ():
            nn.freeze(parameter)
        found = ops.tensor(x).start_grad()
        y = norm(found)
        assert relative(ops.to_numpy(y), expected.detach().numpy()) < 1e-6
        assert relative(ops.gradients((y * ops.tensor(g)).sum(), [found])[0], reference.grad.numpy()) < 1e-6


@pytest.mark.parametrize("mask_shape", [None, (2, 1, 1, 90), (2, 1, 70, 90), (2, 3, 70, 90)])
def test_attention_and_its_gradients_are_exact(mask_shape):
    torch = pytest.importorskip("torch")
    arrays = [normal(2, 3, 70, 8), normal(2, 3, 90, 8), normal(2, 3, 90, 8)]
    g = normal(2, 3, 70, 8)
    mask = None if mask_shape is None else numpy.where(RNG.random(mask_shape) < 0.3, -3.4e38, 0).astype("float32")
    found = [ops.tensor(x).start_grad() for x in arrays]
    exact = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    y = ops.attention(*found, None if mask is None else ops.tensor(mask))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *exact, None if mask is None else torch.tensor(mask).double()
    )
    expected.backward(torch.tensor(g).double())
    assert relative(ops.to_numpy(y), expected.detach().numpy()) < 1e-6
    for grad, reference in zip(ops.gradients((y * ops.tensor(g)).sum(), found), exact, strict=True):
        assert relative(grad, reference.grad.numpy()) < 1e-6


def test_dropout_in_attention_has_the_gradient_of_what_it_dropped():
    arrays, g = [normal(1, 2, 5, 4), normal(1, 2, 7, 4), normal(1, 2, 7, 4)], normal(1, 2, 5, 4)

    def loss(arrays):
        runtime.seed(3)  # so every call drops the same
        inputs = [ops.tensor(x).start_grad() for x in arrays]
        return (ops.attention(*inputs, None, 0.5, True) * ops.tensor(g)).sum(), inputs

    value, inputs = loss(arrays)
    grads = ops.gradients(value, inputs)
    for i, array in enumerate(arrays):
        direction = normal(*array.shape)
        forward, backward = ([*arrays[:i], array + s * 1e-2 * direction, *arrays[i + 1 :]] for s in (1, -1))
        slope = (loss(forward)[0].item() - loss(backward)[0].item()) / 2e-2
        assert slope == pytest.approx(float((grads[i] * direction).sum()), rel=1e-2, abs=1e-3)


def test_dropout_drops_its_share_and_keeps_the_mean():
    runtime.seed(1)
    x = ops.to_numpy(ops.dropout(ops.tensor(numpy.ones((500, 400), "float32")), 0.1, True))
    assert (x == 0).mean() == pytest.approx(0.1, abs=0.005)
    assert set(numpy.unique(x)) == {0, numpy.float32(1 / 0.9)}
    runtime.seed(1)
    assert numpy.array_equal(x, ops.to_numpy(ops.dropout(ops.tensor(numpy.ones((500, 400), "float32")), 0.1, True)))


def test_bf16_is_refused_with_a_fix():
    assert not runtime.supports_bf16("cpu")
    with pytest.raises(BackendError, match="bf16 runs on torch and paddle"):
        nn.to_bf16(Classifier())


def test_a_device_that_is_not_there_is_one_line():
    for device in ("cuda:1", "tpu") if runtime.has_gpu() else ("cuda", "gpu", "cuda:1"):
        with pytest.raises(BackendError):
            driver.get_driver(Classifier(), device)
