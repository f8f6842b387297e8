"""Chinese encoders in the layouts they are published in, under each framework: hidden states and token ids are those
of transformers, and a prompt on them trains and is read back."""

import json

import fastprompt as fp
from fastprompt.backbones.loading import load_backbone
from fastprompt.framework import ops
from fastprompt.pretrained.checkpoint import Checkpoint

import numpy
import pytest
from safetensors.numpy import load_file

LAYOUTS = ["bert-base-chinese", "vocabulary-alone", "chinese-roberta-wwm-ext", "ernie-1.0-base-zh", "ernie-3.0-base-zh"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_python, request):
    folder = tmp_path_factory.mktemp("chinese")
    run_python("torch", request.path.parents[1] / "checkpoints" / "make_chinese_checkpoints.py", folder)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("portable", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hidden_states_are_those_of_transformers(made, layout, portable):
    expected = load_file(made[layout] / "expected.safetensors")
    backbone = load_backbone(Checkpoint(made[layout]), portable=portable)
    backbone.eval()
    names = ("input_ids", "attention_mask", "token_type_ids")
    states = ops.to_numpy(backbone(**{name: ops.tensor(expected[name]) for name in names})[-1])
    real = expected["attention_mask"] > 0
    assert expected["token_type_ids"].any()
    numpy.testing.assert_allclose(states[real], expected["states"][real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_token_ids_are_those_of_transformers(made, layout):
    expected = json.loads((made[layout] / "expected.json").read_text())
    tokenizer = fp.load_tokenizer(made[layout])
    rows = tokenizer(expected["texts"], max_length=32)
    rows += tokenizer(expected["texts"], pairs=expected["pairs"], max_length=32)
    for text, ours, theirs in zip(expected["texts"] * 2, rows, expected["rows"], strict=True):
        assert ours == theirs, text
    assert tokenizer.pad_token_id == expected["pad_token_id"]


@pytest.mark.parametrize("layout", ["chinese-roberta-wwm-ext", "ernie-3.0-base-zh"])
def test_a_prompt_trains_and_is_read_back(made, tmp_path, layout):
    model = fp.PromptForSequenceClassification.from_pretrained(made[layout], fp.PTuningV2Config(pre_seq_len=4))
    assert model.fresh_tensors() == ["classifier.bias", "classifier.weight"]  # the pooler came with the checkpoint
    expected = load_file(made[layout] / "expected.safetensors")
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {name: ops.tensor(expected[name]) for name in names}
    model.train()
    loss = model.train_step(**inputs, labels=ops.tensor(numpy.array([0, 1, 0, 1])))["loss"]
    assert all(gradient.any() for gradient in ops.gradients(loss, model.trainable_parameters()))
    model.save_pretrained(tmp_path)
    model.eval()
    again = fp.PromptForSequenceClassification.from_pretrained(tmp_path)
    again.eval()
    assert (ops.to_numpy(again(**inputs).logits) == ops.to_numpy(model(**inputs).logits)).all()
