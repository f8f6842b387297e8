"""The prompt file: one for all frameworks, refused where it does not fit, never half-written."""

import errno
import json
import os
import shutil

import fastprompt as fp
from fastprompt.errors import CheckpointError
from fastprompt.framework import BACKENDS, ops
from fastprompt.saving import prompt_file

import numpy
import pytest
from safetensors.numpy import load_file, save_file

CONFIGS = {
    "deep": lambda: fp.PTuningV2Config(pre_seq_len=3, init_std=0.5),
    "projection": lambda: fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, prefix_hidden_size=7, init_std=0.5),
    "shallow": lambda: fp.ShallowPrefixConfig(pre_seq_len=3),
    "e2": lambda: fp.ShallowPrefixConfig(pre_seq_len=3, pooling="prompt", train_head=False),
    "prompt-tuning": lambda: fp.PromptTuningConfig(num_virtual_tokens=3),
    "p-tuning-lstm": lambda: fp.PTuningConfig(num_virtual_tokens=3, encoder_hidden_size=7),
    "p-tuning-mlp": lambda: fp.PTuningConfig(num_virtual_tokens=3, encoder="mlp"),
    "deep-finetune": lambda: fp.PTuningV2Config(pre_seq_len=3, init_std=0.5, use_lm_finetune=True),
    "mlp-finetune": lambda: fp.PTuningConfig(num_virtual_tokens=3, encoder="mlp", use_lm_finetune=True),
    "fine-tuning": lambda: fp.FineTuningConfig(),
    "bitfit": lambda: fp.BitFitConfig(),
    "linear-probe": lambda: fp.LinearProbeConfig(),
}
IDS = numpy.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])


def logits(model):
    model.eval()
    ids = ops.tensor(IDS)
    return ops.to_numpy(model(input_ids=ids, attention_mask=ops.tensor((IDS > 0).astype("int64"))).logits)


def made(folder, config, **options):
    return fp.PromptForSequenceClassification.from_pretrained(folder, config, **options)


@pytest.fixture
def saved(tiny, tmp_path):
    made(tiny["bert"], CONFIGS["deep"](), seed=3).save_pretrained(tmp_path / "prompt")
    return tmp_path / "prompt"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "ernie", "albert"])
def test_a_saved_prompt_gives_the_same_logits(tiny, tmp_path, name, family):
    model = made(tiny[family], CONFIGS[name](), seed=3, label_names=["bad", "good"])
    model.save_pretrained(tmp_path)
    loaded = fp.PromptForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.label_names == ["bad", "good"]
    assert (logits(loaded) == logits(model)).all()


def test_a_deep_prompt_file_has_the_promised_layout(saved, tiny):
    tensors = load_file(saved / "prompt.safetensors")
    assert tensors["key"].shape == tensors["value"].shape == (3, 4, 3, 8)
    assert set(tensors) == {"key", "value", "classifier.weight", "classifier.bias"}
    content = json.loads((saved / "prompt_config.json").read_text())
    assert content["method"] == "p-tuning-v2"
    assert content["pooling"] == "first"
    assert content["labels"] == ["LABEL_0", "LABEL_1"]
    assert content["backbone"]["fingerprint"].startswith("sha256:")


@pytest.mark.parametrize("portable", [False, True])
def test_layers_that_are_called_many_times_are_saved_once(tiny, tmp_path, portable):
    model = made(tiny["albert-groups"], CONFIGS["fine-tuning"](), portable=portable)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "prompt.safetensors")
    stock = load_file(tiny["albert-groups"] / "model.safetensors")
    assert set(stored) == {f"albert.{name}" for name in stock} | {"classifier.weight", "classifier.bias"}
    assert sum(array.size for array in stored.values()) == model.count_parameters()[0]
    assert all((stored[f"albert.{name}"] == array).all() for name, array in stock.items())


@pytest.mark.once
@pytest.mark.parametrize("name", CONFIGS)
def test_a_prompt_travels_through_all_frameworks_byte_for_byte(tiny, tmp_path, run_python, name):
    made(tiny["bert"], CONFIGS[name](), seed=3).save_pretrained(tmp_path / "start")
    code = (
        "import sys, fastprompt as fp\n"
        "fp.PromptForSequenceClassification.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])\n"
    )
    last = tmp_path / "start"
    for backend in BACKENDS:
        run_python(backend, "-c", code, last, tmp_path / backend)
        last = tmp_path / backend
        assert (last / "prompt.safetensors").read_bytes() == (tmp_path / "start/prompt.safetensors").read_bytes()
        assert (last / "prompt_config.json").read_text() == (tmp_path / "start/prompt_config.json").read_text()


@pytest.mark.parametrize("name", ["projection", "p-tuning-lstm", "p-tuning-mlp"])
def test_a_prompt_without_its_encoder_works_trains_and_is_saved_as_it_came(tiny, tmp_path, name):
    model = made(tiny["bert"], CONFIGS[name](), seed=3)
    model.save_pretrained(tmp_path / "whole")
    names = drop_encoder(tmp_path / "whole", tmp_path / "collapsed")
    loaded = made(tmp_path / "collapsed", None)
    assert set(loaded.tuned_parameters()) == {"prompt.embedding.weight", "classifier.weight", "classifier.bias"}
    numpy.testing.assert_allclose(logits(loaded), logits(model), atol=2e-6)
    loaded.train()
    batch = {"input_ids": ops.tensor(IDS), "attention_mask": ops.tensor((IDS > 0).astype("int64"))}
    loss = loaded.train_step(**batch, labels=ops.tensor(numpy.array([0, 1])))["loss"]
    assert ops.gradients(loss, [loaded.tuned_parameters()["prompt.embedding.weight"]])[0].any()
    loaded.save_pretrained(tmp_path / "again")
    for file in names:
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "collapsed" / file).read_bytes()
    with pytest.raises(CheckpointError, match="without the encoder that this model makes its own with"):
        model.load_prompt(tmp_path / "collapsed")


def drop_encoder(whole, collapsed):
    """Copy a saved prompt without its encoder's weights, as other tools give prompts away; its files' names."""
    tensors = load_file(whole / "prompt.safetensors")
    content = json.loads((whole / "prompt_config.json").read_text())
    without_encoder = {name: array for name, array in tensors.items() if not name.startswith("prompt.")}
    assert len(without_encoder) < len(tensors)
    content["tensors"] = {name: list(array.shape) for name, array in without_encoder.items()}
    collapsed.mkdir()
    (collapsed / "prompt_config.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    save_file(without_encoder, collapsed / "prompt.safetensors")
    return [path.name for path in collapsed.iterdir()]


def refused(folder, **options):
    with pytest.raises(CheckpointError) as caught:
        fp.PromptForSequenceClassification.from_pretrained(folder, **options)
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def test_another_backbone_is_refused_by_name(saved, tiny):
    assert str(tiny["roberta"]) in refused(saved, backbone=tiny["roberta"])


def test_a_moved_backbone_is_found_by_the_callers_word(saved, tiny, tmp_path):
    shutil.copytree(tiny["bert"], tmp_path / "moved")
    content = json.loads((saved / "prompt_config.json").read_text())
    content["backbone"]["name_or_path"] = str(tmp_path / "gone")
    (saved / "prompt_config.json").write_text(json.dumps(content))
    assert "There is no folder" in refused(saved)
    fp.PromptForSequenceClassification.from_pretrained(saved, backbone=tmp_path / "moved")


def test_a_cut_file_is_refused(saved):
    path = saved / "prompt.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert "cut short" in refused(saved)


def test_wrong_shapes_are_refused(saved):
    tensors = load_file(saved / "prompt.safetensors")
    tensors["key"] = tensors["key"][:, :, :2].copy()
    save_file(tensors, saved / "prompt.safetensors")
    assert "key has the shape [3, 4, 2, 8]" in refused(saved)


def test_a_missing_tensor_is_refused(saved):
    tensors = load_file(saved / "prompt.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, saved / "prompt.safetensors")
    assert "classifier.bias" in refused(saved)


@pytest.mark.parametrize("key", ["method", "pre_seq_len", "task", "backbone", "tensors", "labels"])
def test_a_missing_key_is_named(saved, key):
    content = json.loads((saved / "prompt_config.json").read_text())
    del content[key]
    (saved / "prompt_config.json").write_text(json.dumps(content))
    assert f"lacks the key '{key}'" in refused(saved)


def test_a_full_disk_leaves_the_old_prompt(saved, tiny, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        made(tiny["bert"], CONFIGS["deep"](), seed=4).save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_saved_prompt_brings_its_own_configuration(saved):
    with pytest.raises(fp.FastpromptError, match="brings its own configuration"):
        made(saved, CONFIGS["deep"]())


def test_a_folder_without_a_prompt_is_not_taken_for_one(tiny, tmp_path):
    with pytest.raises(fp.FastpromptError, match="holds none"):
        fp.PromptForSequenceClassification.from_pretrained(tmp_path, backbone=tiny["bert"])


def test_load_prompt_replaces_what_was_tuned(saved, tiny):
    model = made(tiny["bert"], CONFIGS["deep"](), seed=9)
    other = fp.PromptForSequenceClassification.from_pretrained(saved)
    assert (logits(model) != logits(other)).any()
    model.load_prompt(saved)
    assert (logits(model) == logits(other)).all()


def test_the_format_of_a_later_version_is_refused(saved):
    content = json.loads((saved / "prompt_config.json").read_text())
    content["format_version"] = prompt_file.FORMAT_VERSION + 1
    (saved / "prompt_config.json").write_text(json.dumps(content))
    assert "update fastprompt" in refused(saved)
