"""Hugging Face checkpoints are read without executing them, and refused in a line where they cannot be read."""

import json
import shutil
import weakref
from collections import Counter

import fastprompt as fp
from fastprompt.backbones.loading import load_backbone
from fastprompt.errors import CheckpointError
from fastprompt.framework import ops
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.tensor_files import SafetensorsFile

import numpy
import pytest
from safetensors.numpy import load_file, save_file


def hidden(folder, **options):
    backbone = load_backbone(Checkpoint(folder), **options)
    backbone.eval()
    ids = ops.tensor(numpy.array([[2, 7, 9, 11, 3]]))
    return ops.to_numpy(backbone(input_ids=ids, attention_mask=ids * 0 + 1)[-1])


@pytest.fixture
def copy(tiny, tmp_path):
    shutil.copytree(tiny["bert"], tmp_path / "copy")
    return tmp_path / "copy"


def test_sharded_and_single_files_give_the_same_model_and_fingerprint(tiny):
    single, sharded = tiny["bert"], tiny["bert-sharded"]
    assert (sharded / "model.safetensors.index.json").exists()
    assert Checkpoint(single).fingerprint == Checkpoint(sharded).fingerprint
    assert (hidden(single) == hidden(sharded)).all()


def test_weights_are_read_once_and_a_tensor_at_a_time(tiny, monkeypatch):
    read, counts, arrays, held = SafetensorsFile.read, Counter(), [], []

    def counting(self, name):
        counts[name] += 1
        held.append(sum(array() is not None for array in arrays))  # of those that were read before
        made = read(self, name)
        arrays.append(weakref.ref(made))
        return made

    monkeypatch.setattr(SafetensorsFile, "read", counting)
    load_backbone(Checkpoint(tiny["bert"]), portable=True)
    assert len(counts) > 30
    assert set(counts.values()) == {1}
    assert max(held) <= 1


def test_a_task_head_changes_neither_weights_nor_fingerprint(copy):
    before, fingerprint = hidden(copy), Checkpoint(copy).fingerprint
    weights = {f"bert.{name}": array for name, array in load_file(copy / "model.safetensors").items()}
    weights["classifier.weight"] = numpy.ones((2, 32), "float32")
    save_file(weights, copy / "model.safetensors")
    assert Checkpoint(copy).fingerprint == fingerprint
    assert (hidden(copy) == before).all()


def test_the_first_berts_names_are_understood(copy):
    before = hidden(copy, portable=True)
    weights = load_file(copy / "model.safetensors")
    renamed = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in weights.items()
    }
    save_file(renamed, copy / "model.safetensors")
    assert (hidden(copy, portable=True) == before).all()


def test_other_weights_have_another_fingerprint(copy):
    before = Checkpoint(copy).fingerprint
    weights = load_file(copy / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(weights, copy / "model.safetensors")
    assert Checkpoint(copy).fingerprint != before


def refused(folder):
    with pytest.raises(CheckpointError) as caught:
        fp.PromptForSequenceClassification.from_pretrained(folder)
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def test_a_folder_without_weights_names_what_it_needs(copy):
    (copy / "model.safetensors").unlink()
    assert "it needs model.safetensors or pytorch_model.bin" in refused(copy)


def test_a_safetensors_file_under_a_pickles_name_is_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "pytorch_model.bin is cut short or no torch file" in refused(copy)


def test_a_cut_file_is_refused(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-500])
    assert "cut short" in refused(copy)


def test_a_missing_shard_is_named(tiny, tmp_path):
    shutil.copytree(tiny["bert-sharded"], tmp_path / "copy")
    shard = sorted((tmp_path / "copy").glob("*-of-*"))[-1]
    shard.unlink()
    assert shard.name in refused(tmp_path / "copy")


@pytest.mark.parametrize("portable", [True, False])
def test_weights_of_another_shape_are_refused(copy, portable):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(CheckpointError, match=r"intermediate\.dense.* the shape \(48.* asks for \(64"):
        load_backbone(Checkpoint(copy), portable=portable)


@pytest.mark.parametrize("portable", [True, False])
def test_a_missing_tensor_is_named(copy, portable):
    weights = load_file(copy / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks the tensor encoder\.layer\.1\.output\.dense\.bias"):
        load_backbone(Checkpoint(copy), portable=portable)


def test_a_missing_size_is_named(copy):
    config = json.loads((copy / "config.json").read_text())
    del config["type_vocab_size"]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="lacks 'type_vocab_size'"):
        load_backbone(Checkpoint(copy), portable=True)


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "has no config.json" in refused(tmp_path)


def test_a_path_that_is_not_there_is_refused(tmp_path):
    assert "There is no folder" in refused(tmp_path / "nothing")


def test_a_hub_id_without_network_says_so(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "hub cannot be reached" in refused("no-one/no-such-model")


def test_broken_json_is_refused(copy):
    (copy / "config.json").write_text("{")
    assert "not valid JSON" in refused(copy)


def test_a_family_without_portable_definition_names_those_that_have_one(tiny):
    with pytest.raises(
        CheckpointError,
        match=r"roformer .*albert, bart, bert, .*, deberta, deberta-v2, .*llama, mistral, modernbert, mpnet, .*phi3, "
        r"qwen2, qwen3, roberta, .*xlm-roberta",
    ):
        load_backbone(Checkpoint(tiny["roformer"]), portable=True)
