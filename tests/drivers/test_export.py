"""An exported model under onnxruntime: the model's own logits for every batch, its prompt a constant of the file."""

import errno
import json
import os
import sys

import fastprompt as fp
from fastprompt.errors import BackendError, CheckpointError, ConfigError
from fastprompt.framework import ops

import numpy
import pytest

on_torch = pytest.mark.skipif(fp.backend() != "torch", reason="export runs on torch")

DEEP = fp.PTuningV2Config(pre_seq_len=4, init_std=1.0)
SHIFTED = fp.PTuningV2Config(pre_seq_len=4, init_std=1.0, shift_positions=True, pooling="mean")
PROJECTED = fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, prefix_hidden_size=37, init_std=1.0)
CASES = {  # every family, and the kinds of prompts and poolings with one of them
    "bert": SHIFTED,
    "roberta": SHIFTED,
    "distilbert": DEEP,
    "electra": DEEP,
    "ernie": fp.FineTuningConfig(),
    "albert": DEEP,
    "modernbert": DEEP,
    "roberta shallow": fp.ShallowPrefixConfig(pre_seq_len=3, pooling="mean"),
}
SHAPES = [(1, 1), (1, 2), (4, 1), (1, 9), (5, 3), (3, 70)]  # (rows, length); the traced batch is none of them


def made(folder, config, **options):
    return fp.PromptForSequenceClassification.from_pretrained(folder, config, **options)


def batches(model):
    """Batches of all shapes, with rows of unequal lengths and with full ones, as arrays."""
    random = numpy.random.default_rng(0)
    pad = model.backbone.config.get("pad_token_id", 0)
    for rows, length in SHAPES:
        for lengths in (random.integers(1, length + 1, rows), numpy.full(rows, length)):
            mask = (numpy.arange(length) < lengths[:, None]).astype("int64")
            ids = numpy.where(mask, random.integers(5, 60, mask.shape), pad)
            batch = {"input_ids": ids, "attention_mask": mask}
            if model.backbone.takes_token_types:
                batch["token_type_ids"] = mask * (numpy.arange(length) >= length // 2)
            if model.task == "multiple_choice":
                yield {name: array[None] for name, array in batch.items()}  # one question of so many choices
                batch = {name: array[:, None] for name, array in batch.items()}
            yield batch


def session_of(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check(model, path):
    """The file's logits against the model's, batch by batch."""
    session = session_of(path)
    model.eval()
    for batch in batches(model):
        assert {entry.name for entry in session.get_inputs()} == set(batch)
        (logits,) = session.run(["logits"], batch)
        with ops.no_grad():
            expected = model(**{name: ops.tensor(array) for name, array in batch.items()}).logits
        shape = batch["input_ids"].shape
        numpy.testing.assert_allclose(logits, ops.to_numpy(expected), atol=1e-4, rtol=0, err_msg=str(shape))


@on_torch
@pytest.mark.parametrize("case", CASES)
def test_an_exported_model_gives_the_models_logits(tiny, tmp_path, case):
    model = made(tiny[case.split()[0]], CASES[case])
    model.export(tmp_path / "model.onnx")
    check(model, tmp_path / "model.onnx")


@on_torch
@pytest.mark.parametrize(
    "kind", [fp.PromptForTokenClassification, fp.PromptForQuestionAnswering, fp.PromptForMultipleChoice]
)
def test_every_task_gives_the_models_logits(tiny, tmp_path, kind):
    model = kind.from_pretrained(tiny["bert"], fp.ShallowPrefixConfig(pre_seq_len=3))
    model.export(tmp_path / "model.onnx")
    check(model, tmp_path / "model.onnx")


@on_torch
def test_a_portable_model_gives_its_logits(tiny, tmp_path):
    model = made(tiny["distilbert"], DEEP, portable=True)
    model.export(tmp_path / "model.onnx")
    check(model, tmp_path / "model.onnx")


@on_torch
def test_a_real_encoder_gives_the_models_logits(minilm, tmp_path):
    model = made(minilm, fp.PTuningV2Config(pre_seq_len=20))
    model.export(tmp_path / "model.onnx")
    check(model, tmp_path / "model.onnx")


@pytest.fixture(scope="module", params=["projected", "prompt-tuning"])
def exported(request, tiny, tmp_path_factory):
    """(model, file) of prompts that are made anew at every call of the model."""
    config = {
        "projected": PROJECTED,
        "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=3, pooling="prompt"),
    }[request.param]
    model, path = (
        made(tiny["bert"], config, label_names=["差评", "好评"]),
        tmp_path_factory.mktemp("onnx") / "model.onnx",
    )
    model.train()
    model.head.eval()
    model.export(path)
    return model, path


@on_torch
def test_the_prompt_is_a_constant_of_the_file(exported):
    import onnx

    model, path = exported
    held = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    for values in model.prompt.collapse().values():
        for part in values if values.ndim == 4 else [values]:  # keys and values are used layer by layer
            assert any(array.size == part.size and (array.ravel() == part.ravel()).all() for array in held)
    assert not any(37 in array.shape for array in held)  # nothing of the projection


@on_torch
def test_the_file_says_whose_it_is_and_not_where_it_was_made(exported):
    model, path = exported
    found = session_of(path).get_modelmeta().custom_metadata_map
    assert json.loads(found["labels"]) == ["差评", "好评"]
    assert found["task"] == "sequence_classification"
    assert json.loads(found["problem_type"]) == "single_label_classification"
    assert found["method"] == model.method_config.method
    assert found["max_length"] == str(model.max_length)
    assert found["backbone"] == model.checkpoint.name
    assert found["backbone_fingerprint"] == model.checkpoint.fingerprint
    assert b"site-packages" not in path.read_bytes()


@on_torch
def test_export_leaves_the_model_as_it_was(exported):
    model, path = exported
    assert model.training
    assert model.backbone.training
    assert not model.head.training
    inputs = {"input_ids": ops.tensor(numpy.array([[7, 8]])), "attention_mask": ops.tensor(numpy.array([[1, 1]]))}
    loss = model(**inputs, labels=ops.tensor(numpy.array([1]))).loss
    assert all(gradient.any() for gradient in ops.gradients(loss, model.trainable_parameters()))
    modes = {module: module.training for module in model.modules()}
    check(model, path)
    for module, training in modes.items():
        module.training = training


@on_torch
def test_an_existing_file_is_not_overwritten_unasked(tiny, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"model.onnx exists; export\(..., overwrite=True\) replaces it"):
        made(tiny["bert"], DEEP).export(path)
    assert path.read_text() == "mine"


@on_torch
def test_weights_beyond_one_file_lie_beside_it(tiny, tmp_path, monkeypatch):
    from fastprompt.drivers.torch import export

    monkeypatch.setattr(export, "ONE_FILE_BYTES", 100_000)
    model, path = made(tiny["bert"], DEEP), tmp_path / "model.onnx"
    path.write_text("old")
    model.export(path, overwrite=True)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert path.stat().st_size < (tmp_path / "model.onnx.data").stat().st_size
    check(model, path)
    path.unlink()
    with pytest.raises(ConfigError, match=r"model.onnx.data exists"):
        model.export(path)


@on_torch
def test_a_full_disk_leaves_the_old_file(tiny, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "model.onnx"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\)"):
        made(tiny["bert"], DEEP).export(path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_text() == "old"


@on_torch
def test_what_cannot_be_written_is_refused(tiny, tmp_path):
    model = made(tiny["bert"], DEEP)
    with pytest.raises(ConfigError, match=r"there is no folder .*gone"):
        model.export(tmp_path / "gone" / "model.onnx")
    with pytest.raises(ConfigError, match="is a folder; name a file"):
        model.export(tmp_path)
    with pytest.raises(CheckpointError, match=r"/proc/model.onnx cannot be written"):
        model.export("/proc/model.onnx")
    with pytest.raises(ConfigError, match="load the prompt without bf16"):
        made(tiny["bert"], DEEP, bf16=True).export(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@on_torch
def test_a_model_without_an_onnx_form_is_refused_in_a_line(tiny, tmp_path):
    model = made(tiny["bert"], DEEP)
    logits = model.head.forward
    model.head.forward = lambda pooled: logits(pooled) if pooled.sum() > 0 else logits(-pooled)  # depends on values
    with pytest.raises(CheckpointError, match="This bert model has no ONNX form") as caught:
        model.export(tmp_path / "model.onnx")
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@on_torch
@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_its_fix(tiny, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # how Python marks what cannot be imported
    with pytest.raises(BackendError, match=rf"needs {package} .*pip install 'fastprompt\[export\]'"):
        made(tiny["bert"], DEEP).export(tmp_path / "model.onnx")


def test_other_frameworks_say_where_export_runs(tiny, tmp_path):
    if fp.backend() == "torch":
        pytest.skip("here it runs")
    with pytest.raises(BackendError, match=f"this process on {fp.backend()}: .* FASTNLP_BACKEND=torch"):
        made(tiny["bert"], DEEP).export(tmp_path / "model.onnx")
