"""A deep prefix that starts as a text: the backbone's own keys and values of it."""

import fastprompt as fp
from fastprompt.errors import ConfigError
from fastprompt.framework import backend, ops

import numpy
import pytest

TEXT = [7, 8, 9, 10]  # "w7 w8 w9 w10"
KINDS = [(name, True) for name in ("llama", "gpt2", "bloom")]
KINDS += [(name, False) for name, _ in KINDS] if backend() == "torch" else []


def config(**options):
    return fp.PTuningV2Config(init="text", init_text=" ".join(f"w{i}" for i in TEXT), **options)


def logits(folder, made, portable, ids):
    model = fp.PromptForCausalLM.from_pretrained(folder, made, portable=portable)
    model.eval()
    return ops.to_numpy(model(ops.tensor(numpy.array([ids]))).logits)


@pytest.mark.parametrize(("name", "portable"), KINDS)
def test_after_a_prefix_made_of_a_text_a_causal_model_reads_as_after_the_text(worded, name, portable):
    folder, ids = worded(name), [20, 31, 42, 53, 64]
    after_prefix = logits(folder, config(pre_seq_len=len(TEXT), shift_positions=True), portable, ids)
    whole = logits(folder, fp.FineTuningConfig(), portable, TEXT + ids)[:, len(TEXT) :]
    numpy.testing.assert_allclose(after_prefix, whole, atol=1e-5)


def test_a_text_is_repeated_and_cut_to_the_prefixs_length(worded):
    folder = worded("llama")
    after_prefix = logits(folder, config(pre_seq_len=6, shift_positions=True), True, [20, 31])
    whole = logits(folder, fp.FineTuningConfig(), True, [*TEXT, *TEXT[:2], 20, 31])[:, 6:]
    numpy.testing.assert_allclose(after_prefix, whole, atol=1e-5)


@pytest.mark.parametrize("portable", [False, True] if backend() == "torch" else [True])
@pytest.mark.parametrize("family", ["bert", "distilbert", "albert"])
def test_an_encoders_prefix_holds_its_own_keys_and_values_of_the_text(tiny, family, portable):
    made = fp.PTuningV2Config(init="text", init_text="a b", pre_seq_len=2)
    options = {"portable": portable, "attention_probs_dropout_prob": 0.0}
    model = fp.PromptForSequenceClassification.from_pretrained(tiny[family], made, **options)
    plain = fp.PromptForSequenceClassification.from_pretrained(tiny[family], fp.FineTuningConfig(), **options)
    plain.eval()
    ids = ops.tensor(numpy.array([fp.load_tokenizer(tiny[family]).plain_ids("a b")]))
    states = [ops.to_numpy(x)[0] for x in plain(ids, output_hidden_states=True).hidden_states]
    tensors = {name: ops.to_numpy(p) for name, p in plain.named_tensors().items()}
    for part, found in zip(("key", "value"), model.prompt(), strict=True):
        for layer, rows in enumerate(ops.to_numpy(found)):  # (heads, T, head_dim)
            name = {
                "bert": f"bert.encoder.layer.{layer}.attention.self.{part}",
                "distilbert": f"distilbert.transformer.layer.{layer}.attention.{part[0]}_lin",
                "albert": f"albert.encoder.albert_layer_groups.0.albert_layers.0.attention.{part}",
            }[family]
            wanted = states[layer] @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
            numpy.testing.assert_allclose(rows.transpose(1, 0, 2).reshape(2, -1), wanted, atol=1e-5)
    model.train()
    labels = ops.tensor(numpy.array([1]))
    assert ops.to_numpy(model.train_step(ids, ids * 0 + 1, labels)["loss"]) > 0  # its gradient was looked at


def test_modernberts_keys_of_the_text_are_turned_and_its_values_are_not(tiny):
    made = fp.PTuningV2Config(init="text", init_text="a b", pre_seq_len=2)
    options = {"portable": True, "attention_probs_dropout_prob": 0.0}
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["modernbert"], made, **options)
    plain = fp.PromptForSequenceClassification.from_pretrained(tiny["modernbert"], fp.FineTuningConfig(), **options)
    plain.eval()
    ids = ops.tensor(numpy.array([fp.load_tokenizer(tiny["modernbert"]).plain_ids("a b")]))
    states = [ops.to_numpy(x)[0] for x in plain(ids, output_hidden_states=True).hidden_states]
    tensors = {name: ops.to_numpy(p) for name, p in plain.named_tensors().items()}
    keys, values = (ops.to_numpy(x).transpose(0, 2, 1, 3).reshape(3, 2, -1) for x in model.prompt())  # (layers, T, C)
    for layer, inputs in enumerate(states[:3]):
        if layer > 0:  # the first layer has no norm
            centred = inputs - inputs.mean(axis=1, keepdims=True)
            spread = numpy.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
            inputs = centred / spread * tensors[f"model.layers.{layer}.attn_norm.weight"]
        fused = inputs @ tensors[f"model.layers.{layer}.attn.Wqkv.weight"].T
        numpy.testing.assert_allclose(values[layer], fused[:, 64:], atol=1e-5)
        numpy.testing.assert_allclose(keys[layer, 0], fused[0, 32:64], atol=1e-5)  # position 0 turns nothing
        assert numpy.abs(keys[layer, 1] - fused[1, 32:64]).max() > 1e-2


def test_what_cannot_start_as_a_text_is_refused(tiny):
    with pytest.raises(ConfigError, match="init_text goes with init='text'"):
        fp.PTuningV2Config(init_text="a b")
    with pytest.raises(ConfigError, match="leave prefix_projection off"):
        fp.PTuningV2Config(init="text", init_text="a", prefix_projection=True)
    with pytest.raises(ConfigError, match="has no token"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.PTuningV2Config(init="text", init_text=" "))
