"""A prefix in chosen layers: which they are, what stands before them, and what is saved."""

import json

import fastprompt as fp
from fastprompt.backbones.loading import load_backbone
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import backend, ops, runtime
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving.prompt_file import FORMAT_VERSION

import numpy
import pytest
from safetensors.numpy import load_file

CAUSAL = ["llama", "qwen3", "gpt2", "bloom", "mistral", "gemma", "phi3"]
PORTABLE = ["bert", "roberta", "distilbert", "electra", "ernie", "albert", "modernbert", "mpnet"]
PORTABLE += ["deberta", "deberta-v2", "deberta-v3", *CAUSAL]
KINDS = [*((name, True) for name in PORTABLE), *((name, False) for name in PORTABLE if backend() == "torch")]
LAYERS = 3
LENGTH = 4


def batch(rows=3, width=7):
    draw = numpy.random.default_rng(0)
    mask = (numpy.arange(width) < numpy.array([width, 4, 2])[:rows, None]).astype("int64")
    ids = numpy.where(mask, draw.integers(5, 60, (rows, width)), 1)
    return {"input_ids": ops.tensor(ids), "attention_mask": ops.tensor(mask)}


@pytest.fixture(scope="module")
def folders(tiny, causal):
    return {**tiny, **causal}


def model_of(folders, kind, layers, **options):
    name, portable = kind
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, prefix_layers=layers)
    options = {"attention_probs_dropout_prob": 0.0, **options}
    return fp.PromptForSequenceClassification.from_pretrained(folders[name], config, portable=portable, **options)


def states_of(model):
    model.eval()
    inputs = batch()
    real = ops.to_numpy(inputs["attention_mask"]).astype(bool)
    _, states = model.encode(**inputs, output_hidden_states=True)
    return [ops.to_numpy(state)[real] for state in states]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_layers_before_the_first_chosen_one_are_the_backbones_alone(folders, kind):
    checkpoint = Checkpoint(folders[kind[0]])
    bare = load_backbone(checkpoint, portable=kind[1], hidden_dropout_prob=0.0)
    bare.eval()
    model = model_of(folders, kind, [1])
    inputs = batch()
    real = ops.to_numpy(inputs["attention_mask"]).astype(bool)
    positions = {} if not checkpoint.family.causal or checkpoint.family.alibi else model.backbone_inputs(**inputs)
    given = {**inputs, **{name: positions[name] for name in ("position_ids",) if name in positions}}
    alone = [ops.to_numpy(state)[real] for state in bare(**given, output_hidden_states=True)]
    for layer, (ours, stock) in enumerate(zip(states_of(model), alone, strict=True)):
        if layer <= 1:  # what enters layer 1
            numpy.testing.assert_allclose(ours, stock, atol=1e-6)
        else:
            assert numpy.abs(ours - stock).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_chosen_layer_gets_a_gradient(folders, kind):
    model = model_of(folders, kind, [0, 2])
    assert model.prompt.collapse()["key"].shape[0] == 2
    loss = model(**batch(), labels=ops.tensor(numpy.array([0, 1, 0]))).loss
    (found,) = ops.gradients(loss, [model.tuned_parameters()["prompt.embedding.weight"]])
    assert (numpy.abs(found.reshape(LENGTH, 2, 2, -1)).max((0, 3)) > 0).all()  # (layers, key or value)


@pytest.mark.skipif(backend() != "torch", reason="stock transformers models run on torch")
@pytest.mark.parametrize("layers", [[0, 2], "last:1"])
@pytest.mark.parametrize("name", PORTABLE)
def test_the_portable_definition_agrees_with_the_stock_model(folders, name, layers):
    stock, portable = (states_of(model_of(folders, (name, on), layers)) for on in (False, True))
    numpy.testing.assert_allclose(portable[-1], stock[-1], atol=1e-5)


@pytest.mark.parametrize("kind", [("bert", True), ("gpt2", True)])
def test_all_layers_by_name_are_the_default(folders, kind):
    for layers in (range(LAYERS), f"last:{LAYERS}", "2 0 1"):
        model = model_of(folders, kind, layers)
        assert model.method_config.prefix_layers is None
        numpy.testing.assert_array_equal(states_of(model)[-1], states_of(model_of(folders, kind, None))[-1])


@pytest.mark.parametrize(
    "given", ["last:2", ["last:2"], "1 2", ["2", "1"], [1, 2], (2, 1), numpy.array([1, 2]), range(1, 3)]
)
def test_the_forms_in_which_layers_are_named(folders, given):
    assert model_of(folders, ("bert", True), given).method_config.prefix_layers == (1, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *((wrong, "it is last:N, or indices of layers") for wrong in ("", [], "last:0", "last:-1", "first:2", "1,2")),
        *((wrong, "it is last:N, or indices of layers") for wrong in ([1, 1], ["last:1", "2"], [-1], [1.0], [True], 2)),
        ([1, 3], r"prefix_layers is \(1, 3\), and .* has 3 layers, 0 to 2"),
        ("last:4", "prefix_layers is 'last:4', and .* has 3 layers, 0 to 2"),
    ],
)
def test_layers_that_there_are_not_are_refused(folders, given, message):
    with pytest.raises(ConfigError, match=message):
        model_of(folders, ("bert", True), given)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0] != "albert"], ids=str)
def test_dropout_acts_from_the_first_chosen_layer_on(folders, kind):
    rates = {"hidden_dropout_prob": 0.5} | ({} if kind[0] == "bloom" else {"attention_probs_dropout_prob": 0.5})
    model = model_of(folders, kind, [1, 2], **rates)
    alone = states_of(model_of(folders, kind, [1, 2]))
    model.train()
    inputs = batch()
    real = ops.to_numpy(inputs["attention_mask"]).astype(bool)
    seen = []
    for seed in (1, 2):
        runtime.seed(seed)
        _, states = model.encode(**inputs, output_hidden_states=True)
        seen.append([ops.to_numpy(state)[real] for state in states])
    for layer in (0, 1):
        numpy.testing.assert_allclose(seen[0][layer], alone[layer], atol=1e-6)
        numpy.testing.assert_array_equal(seen[0][layer], seen[1][layer])
    assert numpy.abs(seen[0][2] - seen[1][2]).max() > 1e-3


@pytest.mark.parametrize("portable", [True, False] if backend() == "torch" else [True])
def test_one_layer_called_many_times_has_no_dropout_to_leave_out(folders, portable):
    with pytest.raises(ConfigError, match=r"albert calls one layer many times.*set hidden_dropout_prob=0"):
        model_of(folders, ("albert", portable), [1, 2], hidden_dropout_prob=0.1)
    model_of(folders, ("albert", portable), [1, 2])


@pytest.mark.parametrize("kind", [("bert", False), ("gpt2", False)], ids=str)
def test_gradient_checkpointing_gives_the_same_gradients(folders, kind):
    found = []
    for on in (False, True):
        model = model_of(folders, kind, "last:2", gradient_checkpointing=on)
        model.train()
        loss = model(**batch(), labels=ops.tensor(numpy.array([0, 1, 0]))).loss
        (gradient,) = ops.gradients(loss, [model.tuned_parameters()["prompt.embedding.weight"]])
        found.append(gradient)
    numpy.testing.assert_allclose(*found, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"prefix_projection": True, "prefix_hidden_size": 8}])
def test_a_saved_prompt_names_its_layers_and_gives_the_same_logits(folders, tmp_path, options):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, prefix_layers="last:2", **options)
    model = fp.PromptForSequenceClassification.from_pretrained(folders["roberta"], config)
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "prompt_config.json").read_text())
    assert (content["format_version"], content["prefix_layers"]) == (FORMAT_VERSION, [1, 2])
    assert load_file(tmp_path / "prompt.safetensors")["key"].shape == (2, 4, LENGTH, 8)
    again = fp.load_prompt_model(tmp_path)
    assert again.method_config.prefix_layers == (1, 2)
    numpy.testing.assert_allclose(states_of(again)[-1], states_of(model)[-1], atol=1e-6)


def test_keys_and_values_of_a_text_are_those_of_the_chosen_layers(minilm):
    texts = {"init": "text", "init_text": "a sentence of some words"}
    made = []
    for layers in (None, [1, 4]):
        config = fp.PTuningV2Config(pre_seq_len=3, prefix_layers=layers, **texts)
        made.append(fp.PromptForSequenceClassification.from_pretrained(minilm, config).prompt.collapse())
    for name in ("key", "value"):
        numpy.testing.assert_array_equal(made[1][name], made[0][name][[1, 4]])


@pytest.mark.parametrize("tool", ["peft", "p-tuning-v2", "paddlenlp"])
def test_a_prompt_in_chosen_layers_is_not_written_for_tools_that_know_none(folders, tmp_path, tool):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, prefix_layers="last:1", shift_positions=True, pooling="first")
    fp.PromptForSequenceClassification.from_pretrained(folders["bert"], config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(CheckpointError, match=r"cannot be written for .*, which has no prefix in chosen layers \(2,\)"):
        fp.export_prompt(tool, tmp_path / "prompt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_causal_model_generates_with_cached_keys_and_values_as_it_does_without(folders):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, prefix_layers=[0, 2])
    model = fp.PromptForCausalLM.from_pretrained(folders["qwen3"], config)
    model.eval()
    ids = numpy.array([[5, 6, 7, 8]])
    written = ids
    for _ in range(4):  # each token by a pass over all before it
        logits = ops.to_numpy(model(ops.tensor(written)).logits)
        written = numpy.concatenate([written, logits[:, -1:].argmax(2)], axis=1)
    numpy.testing.assert_array_equal(model.generate(ids, max_new_tokens=4, eos_token_id=98), written)
