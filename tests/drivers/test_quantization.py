"""Frozen backbones in 8 and 4 bits: what they compute, what they take, and where they are refused."""

import sys

import fastprompt as fp
from fastprompt.errors import BackendError, ConfigError
from fastprompt.framework import backend, ops, optim

import numpy
import pytest

TORCH = pytest.mark.skipif(backend() != "torch", reason="bitsandbytes is for torch")
CONFIG = fp.PTuningV2Config(pre_seq_len=4)


def load(folder, **options):
    return fp.PromptForSequenceClassification.from_pretrained(
        folder, CONFIG, seed=1, attention_probs_dropout_prob=0.0, **options
    )


@pytest.fixture(scope="module")
def batch():
    ids = numpy.random.default_rng(0).integers(5, 60, (4, 9))
    mask = (numpy.arange(9) < [[9], [7], [5], [3]]).astype("int64")
    arrays = {"input_ids": ids, "attention_mask": mask, "labels": numpy.array([0, 1, 1, 0])}
    return {name: ops.tensor(array) for name, array in arrays.items()}


def bytes_of(model):
    return sum(p.numel() * p.element_size() for p in model.backbone.parameters())


def loss_and_gradients(model, batch):
    model.train()
    loss = model.train_step(**batch)["loss"]
    return ops.to_numpy(loss), ops.gradients(loss, model.trainable_parameters())


@TORCH
def test_four_bits_compute_what_their_values_compute_in_float32(minilm, batch):
    import bitsandbytes
    import torch

    small, plain = load(minilm, load_in_4bit=True), load(minilm)
    assert small.count_parameters() == plain.count_parameters()
    assert bytes_of(small) < bytes_of(plain) - 3.4 * 10_616_832  # its 6 layers' matrices, of 4 bytes a weight
    layers = dict(small.backbone.named_modules())
    changed = 0
    for name, layer in plain.backbone.named_modules():
        if isinstance(layer, torch.nn.Linear):
            weight = layers[name].weight
            with torch.no_grad():
                layer.weight.copy_(bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state))
            changed += 1
    assert changed == 36
    (loss, found), (like, wanted) = (loss_and_gradients(model, batch) for model in (small, plain))
    assert loss == pytest.approx(like, abs=1e-5)
    for one, other in zip(found, wanted, strict=True):
        numpy.testing.assert_allclose(one, other, atol=1e-4 * numpy.abs(other).max())


@TORCH
def test_eight_bits_stay_near_float32(minilm, batch):
    small, plain = load(minilm, load_in_8bit=True), load(minilm)
    assert bytes_of(small) < bytes_of(plain) - 2.9 * 10_616_832
    (loss, found), (like, wanted) = (loss_and_gradients(model, batch) for model in (small, plain))
    assert 0 < abs(loss - like) < 1e-2
    for one, other in zip(found, wanted, strict=True):
        one, other = one.ravel(), other.ravel()
        assert one @ other / numpy.linalg.norm(one) / numpy.linalg.norm(other) > 0.98


@TORCH
@pytest.mark.parametrize("options", [{"load_in_8bit": True}, {"load_in_4bit": True, "portable": True}])
def test_a_prompt_trains_on_a_quantized_backbone_and_is_read_on_the_full_one(tiny, batch, tmp_path, options):
    model = load(tiny["bert"], **options)
    tuned = model.trainable_parameters()
    optimizer, losses = fp.AdamW(tuned, lr=5e-2, weight_decay=0.0), []
    for _ in range(12):
        loss = model.train_step(**batch)["loss"]
        losses.append(float(ops.to_numpy(loss)))
        optim.step_with(optimizer, tuned, ops.gradients(loss, tuned))
    assert losses[-1] < losses[0] / 2
    model.save_pretrained(tmp_path)
    assert fp.load_prompt_model(tmp_path).count_parameters() == model.count_parameters()


@TORCH
def test_it_is_an_option_of_the_command(tiny, tmp_path, train_here):
    metrics = train_here(
        *("--model_name_or_path", tiny["bert"], "--task_name", "reviews", "--max_train_samples", 8),
        *("--max_eval_samples", 4, "--load_in_8bit", "--bf16", "--output_dir", tmp_path),
    )
    assert metrics["steps"] == 1


@TORCH
def test_what_cannot_be_is_refused(tiny, causal, monkeypatch):
    with pytest.raises(ConfigError, match="exclude each other"):
        load(tiny["bert"], load_in_8bit=True, load_in_4bit=True)
    with pytest.raises(ConfigError, match="fine-tuning trains the backbone, which load_in_4bit keeps frozen"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.FineTuningConfig(), load_in_4bit=True)
    with pytest.raises(ConfigError, match="has no linear layers, as GPT-2 has none"):
        fp.PromptForCausalLM.from_pretrained(causal["gpt2"], CONFIG, load_in_8bit=True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(BackendError, match="load_in_8bit needs the package bitsandbytes"):
        load(tiny["bert"], load_in_8bit=True)


@pytest.mark.skipif(backend() == "torch", reason="torch has it")
def test_other_frameworks_name_torch(tiny):
    with pytest.raises(BackendError, match="load_in_8bit runs on torch"):
        load(tiny["bert"], load_in_8bit=True)
