"""Prompts of other tools give their own logits, in and out."""

import json
import pickle
import shutil

import fastprompt as fp
from fastprompt.convert import paddlenlp
from fastprompt.errors import CheckpointError
from fastprompt.framework import ops
from fastprompt.methods.layout import from_chunks, from_halves, to_chunks, to_halves
from fastprompt.saving.prompt_file import read_prompt

import ml_dtypes
import numpy
import pytest
from safetensors.numpy import load_file

torch_only = pytest.mark.skipif(fp.backend() != "torch", reason="PEFT runs on torch")


ADAPTERS = [
    *("bert-prefix-0.3", "roberta-prefix-0.3", "bert-prompt-0.3", "roberta-prompt-0.3", "bert-ptuning-0.3"),
    *("bert-prefix-1.5", "electra-prefix-0.3"),
]


def family_of(name):
    return name.split("-")[0]


def logits_of(prompt, batch, backbone=None):
    model = fp.PromptForSequenceClassification.from_pretrained(prompt, backbone=backbone).eval()
    return ops.to_numpy(model(**{name: ops.tensor(x) for name, x in batch.items()}).logits)


def close(found, expected, name):
    tolerance = 1e-4 if name.endswith("1.5") else 1e-5
    assert numpy.abs(found - expected).max() <= tolerance
    assert numpy.ptp(expected) > 0.1  # logits that say something


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_imported_adapter_gives_pefts_logits(adapters, tiny, tmp_path, name):
    source = adapters[name]
    fp.import_prompt("peft", source, tmp_path / "prompt", tiny[family_of(name)])
    found = logits_of(tmp_path / "prompt", numpy.load(source / "batch.npz"))
    close(found, numpy.load(source / "logits.npy"), name)


@pytest.mark.once
def test_an_adapter_in_a_pickle_gives_the_same_prompt(adapters, tiny, tmp_path):
    import torch

    source = adapters["bert-prefix-0.3"]
    fp.import_prompt("peft", source, tmp_path / "prompt", tiny["bert"])
    old = shutil.copytree(source, tmp_path / "old")
    tensors = {name: torch.from_numpy(array) for name, array in load_file(old / "adapter_model.safetensors").items()}
    (old / "adapter_model.safetensors").unlink()
    torch.save(tensors, old / "adapter_model.bin")
    fp.import_prompt("peft", old, tmp_path / "again", tiny["bert"])
    found = [(tmp_path / name / "prompt.safetensors").read_bytes() for name in ("prompt", "again")]
    assert found[0] == found[1]


@torch_only
@pytest.mark.parametrize("name", ADAPTERS)
def test_peft_loads_what_is_exported_and_gives_the_same_logits(adapters, tiny, tmp_path, run_python, name):
    source, backbone = adapters[name], tiny[family_of(name)]
    fp.import_prompt("peft", source, tmp_path / "prompt", backbone)
    fp.export_prompt("peft", tmp_path / "prompt", tmp_path / "adapter")
    arguments = ("logits", tmp_path / "adapter", backbone, 3, source / "batch.npz", tmp_path / "logits.npy")
    run_python("torch", "tests/checkpoints/make_adapters.py", *arguments)
    close(numpy.load(tmp_path / "logits.npy"), numpy.load(source / "logits.npy"), name)


@torch_only
def test_a_prompt_tuned_here_gives_its_logits_in_peft(tiny, tmp_path, run_python):
    config = fp.PTuningV2Config(pre_seq_len=4, init_std=0.4, shift_positions=True, prefix_projection=True)
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config, num_labels=3, seed=2)
    model.save_pretrained(tmp_path / "prompt")
    fp.export_prompt("peft", tmp_path / "prompt", tmp_path / "adapter")
    ids = numpy.array([[2, 8, 9, 3], [2, 7, 3, 0]])
    batch = {"input_ids": ids, "attention_mask": (ids > 0).astype("int64")}
    numpy.savez(tmp_path / "batch.npz", **batch)
    arguments = ("logits", tmp_path / "adapter", tiny["bert"], 3, tmp_path / "batch.npz", tmp_path / "logits.npy")
    run_python("torch", "tests/checkpoints/make_adapters.py", *arguments)
    assert numpy.abs(logits_of(tmp_path / "prompt", batch) - numpy.load(tmp_path / "logits.npy")).max() <= 1e-5


def test_the_prompt_file_says_what_peft_pools_and_where_positions_start(adapters, tiny, tmp_path):
    found = {}
    for name in ("bert-prefix-0.3", "bert-prompt-0.3", "bert-ptuning-0.3"):
        fp.import_prompt("peft", adapters[name], tmp_path / name, tiny["bert"])
        content = json.loads((tmp_path / name / "prompt_config.json").read_text())
        found[content["method"]] = (content["pooling"], content.get("shift_positions"))
    assert found == {"p-tuning-v2": ("first", True), "prompt-tuning": ("prompt", None), "p-tuning": ("prompt", None)}


CHECKPOINTS = ["plain-safetensors", "plain-bin", "projection-safetensors", "projection-bin"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_p_tuning_v2_checkpoint_gives_its_past_key_values_logits(their_checkpoints, tiny, tmp_path, name):
    source = their_checkpoints[name]
    fp.import_prompt("p-tuning-v2", source, tmp_path, tiny["bert"])
    found = logits_of(tmp_path, numpy.load(source / "batch.npz"))
    close(found, numpy.load(source / "logits.npy"), name)
    saved = read_prompt(tmp_path)
    assert saved.label_names == ["no", "yes"]
    assert saved.config.prefix_projection is name.startswith("projection")
    assert not saved.collapsed  # the projection can be trained on


@pytest.mark.parametrize("name", ["plain-bin", "projection-safetensors"])
def test_what_is_exported_to_p_tuning_v2_is_what_was_imported(their_checkpoints, tiny, tmp_path, name):
    source = their_checkpoints[name]
    fp.import_prompt("p-tuning-v2", source, tmp_path / "prompt", tiny["bert"])
    fp.export_prompt("p-tuning-v2", tmp_path / "prompt", tmp_path / "back")
    ours = load_file(tmp_path / "back/model.safetensors")
    theirs = load_file(their_checkpoints[name.replace("bin", "safetensors")] / "model.safetensors")
    assert set(ours) == set(theirs)
    for tensor, array in theirs.items():
        assert numpy.array_equal(ours[tensor], array), tensor
    settings = json.loads((tmp_path / "back/config.json").read_text())
    original = json.loads((source / "config.json").read_text())
    for key in ("architectures", "pre_seq_len", "prefix_projection", "prefix_hidden_size", "id2label"):
        assert settings[key] == original[key]


def test_halves_and_chunks_hold_the_same_prefix():
    """Against the definitions: torch.split(2) of the axis of 2 * layers, and paddle.split(2) of it."""
    layers, heads, length, width = 3, 2, 4, 5
    generator = numpy.random.default_rng(0)
    key, value = (generator.standard_normal((layers, heads, length, width)).astype("float32") for _ in range(2))

    def axis_of_layers(rows):  # (2 * layers, heads, P, head_dim), as both tools permute it
        return rows.reshape(length, layers * 2, heads, width).transpose(1, 2, 0, 3)

    chunks = numpy.split(axis_of_layers(to_chunks(key, value)), layers)
    halves = numpy.split(axis_of_layers(to_halves(key, value)), 2)
    for layer in range(layers):
        assert numpy.array_equal(chunks[layer][0], key[layer])
        assert numpy.array_equal(chunks[layer][1], value[layer])
    assert numpy.array_equal(halves[0], key)
    assert numpy.array_equal(halves[1], value)
    for back in (from_chunks(to_chunks(key, value), 3, 2, 5), from_halves(to_halves(key, value), 3, 2, 5)):
        assert numpy.array_equal(back["key"], key)
        assert numpy.array_equal(back["value"], value)


def test_a_paddlenlp_prefix_goes_through_the_prompt_file_and_back(prefix_model, tiny, tmp_path):
    folder, rows = prefix_model
    fp.import_prompt("paddlenlp", folder, tmp_path / "prompt", tiny["bert"])
    saved = read_prompt(tmp_path / "prompt")
    assert saved.task == "causal_lm"
    assert numpy.array_equal(to_halves(saved.tensors["key"], saved.tensors["value"]), rows)
    fp.export_prompt("paddlenlp", tmp_path / "prompt", tmp_path / "back")
    assert (tmp_path / "back" / paddlenlp.WEIGHTS).read_bytes() == (folder / paddlenlp.WEIGHTS).read_bytes()
    settings = json.loads((tmp_path / "back" / paddlenlp.CONFIG).read_text())
    assert (settings["num_prefix_tokens"], settings["num_hidden_layers"], settings["hidden_size"]) == (5, 3, 32)
    with pytest.raises(CheckpointError, match="tuned for causal_lm"):
        fp.PromptForSequenceClassification.from_pretrained(tmp_path / "prompt")


def test_a_paddlenlp_projection_is_replaced_by_what_it_made(prefix_model, tiny, tmp_path):
    folder, _ = prefix_model
    generator = numpy.random.default_rng(1)
    shapes = {"0.weight": (5, 32), "1.weight": (32, 7), "1.bias": (7,), "3.weight": (7, 192), "3.bias": (192,)}
    arrays = {name: generator.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    (folder / paddlenlp.WEIGHTS).write_bytes(pickle.dumps(arrays, protocol=2))
    settings = {"num_prefix_tokens": 5, "prefix_projection": True, "prefix_projection_hidden_size": 7}
    (folder / paddlenlp.CONFIG).write_text(json.dumps(settings))
    fp.import_prompt("paddlenlp", folder, tmp_path / "prompt", tiny["bert"])
    tensors = read_prompt(tmp_path / "prompt").tensors
    inner = numpy.tanh(arrays["0.weight"] @ arrays["1.weight"] + arrays["1.bias"])
    expected = inner @ arrays["3.weight"] + arrays["3.bias"]
    numpy.testing.assert_allclose(to_halves(tensors["key"], tensors["value"]), expected, atol=1e-5)


def test_a_bfloat16_prefix_of_paddle_is_read_as_the_numbers_it_stands_for(prefix_model, tiny, tmp_path):
    folder, rows = prefix_model
    rough = rows.astype(ml_dtypes.bfloat16)
    (folder / paddlenlp.WEIGHTS).write_bytes(pickle.dumps({"0.weight": rough.view("uint16")}, protocol=4))
    fp.import_prompt("paddlenlp", folder, tmp_path / "prompt", tiny["bert"])
    tensors = read_prompt(tmp_path / "prompt").tensors
    assert numpy.array_equal(to_halves(tensors["key"], tensors["value"]), rough.astype("float32"))


@pytest.mark.skipif(fp.backend() != "paddle", reason="paddle reads and writes its own files")
def test_paddle_reads_what_is_written_and_the_other_way_round(prefix_model, tiny, tmp_path):
    import paddle

    folder, rows = prefix_model
    encoder = paddle.nn.Sequential(paddle.nn.Embedding(5, 192), paddle.nn.Dropout(0.0))
    encoder[0].weight.set_value(rows)
    paddle.save(encoder.state_dict(), str(folder / paddlenlp.WEIGHTS))
    fp.import_prompt("paddlenlp", folder, tmp_path / "prompt", tiny["bert"])
    fp.export_prompt("paddlenlp", tmp_path / "prompt", tmp_path / "back")
    found = paddle.load(str(tmp_path / "back" / paddlenlp.WEIGHTS), return_numpy=True)
    assert numpy.array_equal(found["0.weight"], rows)
