"""What converters refuse, by name."""

import json
import os
import pickle
import shutil

import fastprompt as fp
from fastprompt.convert import paddlenlp
from fastprompt.errors import CheckpointError, ConfigError

import numpy
import pytest
from safetensors.numpy import load_file, save_file


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(kind, source, output, backbone):
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        fp.import_prompt(kind, source, output, backbone)
    assert len(str(caught.value).splitlines()) == 1
    assert not output.exists()
    return str(caught.value)


def test_an_adapter_that_is_no_prompt_is_refused_by_its_kind(adapters, tiny, tmp_path):
    assert "of the kind LORA" in refused("peft", adapters["bert-lora-1.0"], tmp_path / "out", tiny["bert"])


@pytest.mark.once
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_not_run(their_checkpoints, tiny, tmp_path):
    import torch

    shutil.copytree(their_checkpoints["plain-bin"], tmp_path / "theirs")
    torch.save({"classifier.weight": Malicious(tmp_path / "ran")}, tmp_path / "theirs/pytorch_model.bin")
    message = refused("p-tuning-v2", tmp_path / "theirs", tmp_path / "out", tiny["bert"])
    assert "holds more than tensors" in message
    assert not (tmp_path / "ran").exists()


def test_a_paddle_file_with_code_in_it_is_refused_and_the_code_not_run(prefix_model, tiny, tmp_path):
    folder, _ = prefix_model
    (folder / paddlenlp.WEIGHTS).write_bytes(pickle.dumps({"0.weight": Malicious(tmp_path / "ran")}))
    message = refused("paddlenlp", folder, tmp_path / "out", tiny["bert"])
    assert "holds more than arrays and is not read: it calls for posix.mkdir" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("peft", "adapter_model.safetensors"),
        ("peft", "adapter_config.json"),
        ("p-tuning-v2", "model.safetensors"),
        ("p-tuning-v2", "pytorch_model.bin"),
        ("paddlenlp", paddlenlp.WEIGHTS),
    ],
)
def test_a_truncated_file_is_refused(adapters, their_checkpoints, prefix_model, tiny, tmp_path, kind, file):
    sources = {
        "adapter": adapters["bert-prefix-0.3"],
        "model": their_checkpoints["plain-safetensors"],
        "pytorch": their_checkpoints["plain-bin"],
        "prefix": prefix_model[0],
    }
    shutil.copytree(sources[file.split("_")[0].split(".")[0]], tmp_path / "cut")
    whole = (tmp_path / "cut" / file).read_bytes()
    (tmp_path / "cut" / file).write_bytes(whole[: len(whole) // 2])
    message = refused(kind, tmp_path / "cut", tmp_path / "out", tiny["bert"])
    assert file in message


def test_another_backbone_is_refused(adapters, their_checkpoints, tiny, tmp_path):
    message = refused("peft", adapters["roberta-prefix-0.3"], tmp_path / "out", tiny["bert"])
    assert "another backbone" in message
    message = refused("p-tuning-v2", their_checkpoints["plain-bin"], tmp_path / "out", tiny["bert-sharded"].parent)
    assert "has no config.json" in message
    tensors = load_file(tiny["bert"] / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"] += 1
    shutil.copytree(tiny["bert"], tmp_path / "other")
    save_file(tensors, tmp_path / "other/model.safetensors")
    message = refused("p-tuning-v2", their_checkpoints["plain-bin"], tmp_path / "out", tmp_path / "other")
    assert "bert.encoder.layer.1.output.dense.bias is not that of" in message


def edited(folder, target, **changes):
    """A copy of a folder whose config.json, adapter_config.json or prefix_config.json has other values."""
    shutil.copytree(folder, target)
    path = next(path for path in target.iterdir() if path.name.endswith("config.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return target


def test_an_adapter_of_another_backbone_of_the_same_sizes_is_refused(adapters, tiny, tmp_path):
    tensors = load_file(tiny["bert"] / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"] += 1
    shutil.copytree(tiny["bert"], tmp_path / "other")
    save_file(tensors, tmp_path / "other/model.safetensors")
    message = refused("peft", adapters["bert-prefix-0.3"], tmp_path / "out", tmp_path / "other")
    assert f"is for {tiny['bert']}, whose weights are not {tmp_path / 'other'}'s" in message


def test_a_prefix_of_another_number_of_heads_is_refused(adapters, prefix_model, tiny, tmp_path):
    adapter = edited(adapters["bert-prefix-0.3"], tmp_path / "adapter", num_attention_heads=8)
    assert "num_attention_heads=8" in refused("peft", adapter, tmp_path / "out", tiny["bert"])
    prefix = edited(prefix_model[0], tmp_path / "prefix", num_attention_heads=8)
    assert "num_attention_heads=8" in refused("paddlenlp", prefix, tmp_path / "out", tiny["bert"])


def test_a_checkpoint_without_all_of_its_backbone_is_refused(their_checkpoints, tiny, tmp_path):
    shutil.copytree(their_checkpoints["plain-safetensors"], tmp_path / "less")
    tensors = load_file(tmp_path / "less/model.safetensors")
    del tensors["bert.encoder.layer.0.output.dense.bias"]
    save_file(tensors, tmp_path / "less/model.safetensors")
    message = refused("p-tuning-v2", tmp_path / "less", tmp_path / "out", tiny["bert"])
    assert "lacks bert.encoder.layer.0.output.dense.bias" in message


@pytest.mark.once
def test_a_pickle_of_old_torch_is_refused_wherever_it_is_cut(their_checkpoints, tiny, tmp_path):
    import torch

    folder = shutil.copytree(their_checkpoints["plain-bin"], tmp_path / "old")
    path = folder / "pytorch_model.bin"
    torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for share in (0, 0.01, 0.02, 0.05, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "is cut short" in refused("p-tuning-v2", folder, tmp_path / "out", tiny["bert"])


def test_values_that_no_prompt_can_have_are_refused_with_their_file(
    adapters, their_checkpoints, prefix_model, tiny, tmp_path
):
    for kind, folder, changes in (
        ("peft", adapters["bert-prefix-0.3"], {"num_virtual_tokens": "x"}),
        ("peft", adapters["bert-ptuning-0.3"], {"encoder_dropout": "x"}),
        ("p-tuning-v2", their_checkpoints["plain-safetensors"], {"hidden_dropout_prob": "x"}),
        ("paddlenlp", prefix_model[0], {"num_prefix_tokens": "x"}),
    ):
        target = edited(folder, tmp_path / str(len(list(tmp_path.iterdir()))), **changes)
        assert "config.json holds what no prompt can have" in refused(kind, target, tmp_path / "out", tiny["bert"])


def test_what_stands_beside_a_paddlenlp_prefix_is_not_passed_over(prefix_model, tiny, tmp_path):
    folder, rows = prefix_model
    beside = {"classifier.weight": numpy.ones((32, 2), "float32")}
    (folder / paddlenlp.WEIGHTS).write_bytes(pickle.dumps({"0.weight": rows, **beside}, protocol=4))
    assert "a tensor classifier.weight" in refused("paddlenlp", folder, tmp_path / "out", tiny["bert"])
    (folder / paddlenlp.WEIGHTS).write_bytes(pickle.dumps({"0.weight": rows, "note": "x"}, protocol=4))
    assert "more than tensors" in refused("paddlenlp", folder, tmp_path / "out", tiny["bert"])


def test_the_backbones_own_folder_is_never_written(their_checkpoints, tiny, tmp_path):
    shutil.copytree(tiny["bert"], tmp_path / "backbone")
    fp.import_prompt("p-tuning-v2", their_checkpoints["plain-safetensors"], tmp_path / "prompt", tmp_path / "backbone")
    with pytest.raises(ConfigError, match="the backbone's own folder"):
        fp.export_prompt("p-tuning-v2", tmp_path / "prompt", tmp_path / "backbone", overwrite=True)
    for path in tiny["bert"].iterdir():
        assert (tmp_path / "backbone" / path.name).read_bytes() == path.read_bytes()


def test_a_frozen_head_of_the_backbones_own_goes_along(their_checkpoints, tiny, tmp_path):
    backbone = shutil.copytree(tiny["bert"], tmp_path / "classifier")
    stock = {f"bert.{name}": array for name, array in load_file(backbone / "model.safetensors").items()}
    head = {"classifier.weight": numpy.ones((2, 32), "float32"), "classifier.bias": numpy.ones(2, "float32")}
    save_file({**stock, **head}, backbone / "model.safetensors", {"format": "pt"})
    config = fp.PTuningV2Config(pre_seq_len=2, shift_positions=True, train_head=False)
    model = fp.PromptForSequenceClassification.from_pretrained(backbone, config, num_labels=2)
    model.save_pretrained(tmp_path / "prompt")
    for kind, file in (("peft", "adapter_model.safetensors"), ("p-tuning-v2", "model.safetensors")):
        fp.export_prompt(kind, tmp_path / "prompt", tmp_path / kind)
        found = {name.removeprefix("base_model."): array for name, array in load_file(tmp_path / kind / file).items()}
        for name, array in head.items():
            assert numpy.array_equal(found[name], array)


def test_a_pooler_that_peft_left_random_is_refused(adapters, tiny, tmp_path):
    tensors = {n: x for n, x in load_file(tiny["bert"] / "model.safetensors").items() if "pooler" not in n}
    bare = shutil.copytree(tiny["bert"], tmp_path / "bare")
    save_file(tensors, bare / "model.safetensors")
    adapter = edited(adapters["bert-prefix-0.3"], tmp_path / "adapter", base_model_name_or_path=str(bare))
    assert "has no pooler" in refused("peft", adapter, tmp_path / "out", bare)


EXPORTS = {
    "positions from 0 to peft": ("peft", lambda: fp.PTuningV2Config(pre_seq_len=2), "shift_positions=False"),
    "a mean to peft": (
        "peft",
        lambda: fp.PTuningV2Config(pre_seq_len=2, shift_positions=True, pooling="mean"),
        "no pooling 'mean'",
    ),
    "a real first token to peft": ("peft", lambda: fp.PromptTuningConfig(num_virtual_tokens=2), "pooling 'first'"),
    "tutorial E2's prompt to peft": (
        "peft",
        lambda: fp.ShallowPrefixConfig(pre_seq_len=2, pooling="prompt"),
        "has no prompt for shallow-prefix",
    ),
    "a trained backbone to peft": (
        "peft",
        lambda: fp.PTuningV2Config(pre_seq_len=2, shift_positions=True, use_lm_finetune=True),
        "no backbone of its own, which p-tuning-v2 with use_lm_finetune trains",
    ),
    "bitfit to peft": ("peft", lambda: fp.BitFitConfig(), "no prompt for bitfit"),
    "a shallow prompt to p-tuning-v2": ("p-tuning-v2", lambda: fp.ShallowPrefixConfig(), "deep prefix to make"),
    "a head to paddlenlp": ("paddlenlp", lambda: fp.PTuningV2Config(shift_positions=True), "place for the head"),
}


@pytest.mark.parametrize("case", EXPORTS)
def test_what_the_other_side_cannot_express_is_refused_and_named(tiny, tmp_path, case):
    kind, config, message = EXPORTS[case]
    fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config()).save_pretrained(tmp_path / "prompt")
    with pytest.raises(CheckpointError, match=message):
        fp.export_prompt(kind, tmp_path / "prompt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.once
def test_the_command_converts_and_keeps_what_is_there(adapters, tiny, tmp_path, run_python):
    def convert(*arguments, check=True):
        return run_python(None, "-m", "fastprompt.cli", "convert", *arguments, check=check)

    there = ("--from", "peft", "--input", adapters["bert-prefix-0.3"], "--output", tmp_path / "prompt")
    done = convert(*there, "--model_name_or_path", tiny["bert"])
    assert done.stdout == f"{tmp_path / 'prompt'}\n"
    before = (tmp_path / "prompt/prompt.safetensors").read_bytes()
    again = convert(*there, "--model_name_or_path", tiny["bert"], check=False)
    assert (again.returncode, "add --overwrite_output_dir" in again.stderr) == (1, True)
    assert (tmp_path / "prompt/prompt.safetensors").read_bytes() == before
    convert("--to", "p-tuning-v2", "--input", tmp_path / "prompt", "--output", tmp_path / "theirs")
    assert (tmp_path / "theirs/model.safetensors").exists()
    bare = convert(*there, check=False)
    assert "--model_name_or_path is missing" in bare.stderr
