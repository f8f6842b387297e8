"""Prompt models under each framework: what trains, what is frozen, what is refused."""

import fastprompt as fp
from fastprompt.errors import ConfigError, TrainingError
from fastprompt.framework import nn, ops, optim, runtime

import numpy
import pytest

IDS = numpy.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
CONFIGS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=3, prefix_dropout=0.1),
    "projection": fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True),
    "p-tuning-lstm": fp.PTuningConfig(num_virtual_tokens=3, encoder_dropout=0.1),
    "p-tuning-mlp": fp.PTuningConfig(num_virtual_tokens=3, encoder="mlp", encoder_hidden_size=7),
    "shallow-prefix": fp.ShallowPrefixConfig(pre_seq_len=3),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=3),
    "p-tuning-v2-finetune": fp.PTuningV2Config(pre_seq_len=3, prefix_layers="last:1", use_lm_finetune=True),
    "prompt-tuning-finetune": fp.PromptTuningConfig(num_virtual_tokens=3, use_lm_finetune=True),
    "fine-tuning": fp.FineTuningConfig(),
    "linear-probe": fp.LinearProbeConfig(),
    "bitfit": fp.BitFitConfig(),
}


def batch():
    arrays = {"input_ids": IDS, "attention_mask": (IDS > 0).astype("int64"), "labels": numpy.array([0, 1])}
    return {name: ops.tensor(array) for name, array in arrays.items()}


def values(model):
    return {name: ops.to_numpy(p) for name, p in model.named_tensors().items()}


@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "modernbert"])
def test_training_changes_what_is_tuned_and_nothing_else(tiny, family, method):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny[family], CONFIGS[method])
    before, tuned = values(model), model.tuned_parameters()
    model.train()
    optimizer = optim.AdamW(model.trainable_parameters(), lr=1e-2)
    gradients = ops.gradients(model.train_step(**batch())["loss"], model.trainable_parameters())
    optim.step_with(optimizer, model.trainable_parameters(), gradients)
    changed = {name for name, value in values(model).items() if (value != before[name]).any()}
    reached = {name for name, gradient in zip(tuned, gradients, strict=True) if gradient.any()}
    assert reached <= changed <= set(tuned)
    assert any(name.startswith(("prompt", "classifier", "pre_classifier")) for name in changed)


def test_evaluation_and_training_alternate(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], CONFIGS["p-tuning-v2"])
    parameters = model.trainable_parameters()
    for _ in range(2):
        model.eval()
        first, second = (ops.to_numpy(model(**batch()).logits) for _ in range(2))
        assert (first == second).all()
        model.train()
        assert all(g.any() for g in ops.gradients(model(**batch()).loss, parameters))
    assert set(model.tuned_parameters()) == {"prompt.embedding.weight", "classifier.weight", "classifier.bias"}


def test_steps_keep_fastnlps_contract(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], CONFIGS["p-tuning-v2"])
    model.train()
    assert tuple(model.train_step(**batch())["loss"].shape) in ((), (1,))
    model.eval()
    found = model.evaluate_step(**batch())
    assert ops.to_numpy(found["pred"]).shape == (2,)
    assert ops.to_numpy(found["target"]).tolist() == [0, 1]


def test_a_fresh_pooler_is_trained_and_a_pretrained_one_is_not(tiny, tmp_path):
    from fastprompt.pretrained.checkpoint import Checkpoint

    from safetensors.numpy import save_file

    config = fp.PTuningV2Config(pre_seq_len=3)
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config)
    assert "bert.pooler.dense.weight" not in model.tuned_parameters()
    tensors = {name: array for name, array in Checkpoint(tiny["bert"]).tensors().items() if "pooler" not in name}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((tiny["bert"] / "config.json").read_bytes())
    model = fp.PromptForSequenceClassification.from_pretrained(tmp_path, config)
    assert {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} <= set(model.tuned_parameters())


def test_a_prompt_without_gradient_is_an_error(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], CONFIGS["p-tuning-v2"])
    model.train()
    for parameter in nn.named_parameters(model.prompt).values():
        nn.freeze(parameter)
    with pytest.raises(TrainingError, match="gets no gradient"):
        model.train_step(**batch())


def test_a_method_that_trains_nothing_is_an_error(tiny):
    with pytest.raises(TrainingError, match="trains nothing"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.LinearProbeConfig(train_head=False))


def test_initial_values_depend_on_the_seed_alone(tiny):
    made = [
        values(fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], CONFIGS["p-tuning-v2"], seed=seed))
        for seed in (1, 1, 2)
    ]
    name = "prompt.embedding.weight"
    assert (made[0][name] == made[1][name]).all()
    assert (made[0][name] != made[2][name]).any()


def test_a_deep_prefix_has_the_papers_number_of_parameters(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.PTuningV2Config(pre_seq_len=7))
    head = 32 * 2 + 2
    assert model.count_parameters()[0] == 7 * 2 * 3 * 32 + head


def test_prompt_tuning_can_start_from_a_text(tiny):
    config = fp.PromptTuningConfig(num_virtual_tokens=4, init="text", init_text="a b")
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config)
    rows = values(model)["prompt.embedding.weight"]
    ids = fp.load_tokenizer(tiny["bert"]).plain_ids("a b")
    assert (rows == values(model)["bert.embeddings.word_embeddings.weight"][ids * 2]).all()


@pytest.mark.parametrize("config", [fp.PTuningV2Config(pre_seq_len=3), fp.FineTuningConfig()])
@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_gradient_checkpointing_changes_no_gradient(tiny, family, config):
    found = []
    for saving in (False, True):
        model = fp.PromptForSequenceClassification.from_pretrained(
            tiny[family],
            config,
            gradient_checkpointing=saving,
            portable=True,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model.train()
        found.append(ops.gradients(model(**batch()).loss, model.trainable_parameters()))
    for plain, saved in zip(*found, strict=True):
        # Of the largest entry: a small one is a sum of larger ones, whose last bits depend on the machine.
        numpy.testing.assert_allclose(saved, plain, rtol=0, atol=1e-5 * numpy.abs(plain).max() + 1e-8)


def test_inputs_longer_than_the_backbones_positions_are_refused(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], CONFIGS["shallow-prefix"])
    assert model.max_length == 160 - 3
    ids = ops.tensor(numpy.full((1, 158), 7))
    with pytest.raises(ConfigError, match="leave room for 157; lower max_length"):
        model(input_ids=ids)


def test_shifted_positions_leave_less_room_for_the_input(tiny):
    config = fp.PTuningV2Config(pre_seq_len=10, shift_positions=True)
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config)
    model(input_ids=ops.tensor(numpy.full((1, 150), 7)))
    with pytest.raises(ConfigError, match="leave room for 150"):
        model(input_ids=ops.tensor(numpy.full((1, 151), 7)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fp.PTuningV2Config(pre_seq_len=0), "pre_seq_len is 0"),
        (lambda: fp.PTuningV2Config(pre_seq_len=-1), "pre_seq_len is -1"),
        (lambda: fp.PTuningV2Config(pre_seq_len=2.5), "whole number"),
        (lambda: fp.PTuningV2Config(prefix_dropout=1.0), "prefix_dropout is 1.0"),
        (lambda: fp.PTuningV2Config(pooling="prompt"), "needs a shallow prompt"),
        (lambda: fp.ShallowPrefixConfig(pooling="middle"), "one of first, last, mean, prompt"),
        (lambda: fp.PromptTuningConfig(init="text"), "init='text' needs it"),
        (lambda: fp.PTuningV2Config(init_std=0), "init_std is 0"),
        (lambda: fp.PTuningConfig(encoder="gru"), "one of lstm, mlp"),
        (lambda: fp.PTuningConfig(encoder_hidden_size=0), "encoder_hidden_size is 0"),
        (lambda: fp.PTuningConfig(encoder_num_layers=0), "encoder_num_layers is 0"),
        (lambda: fp.PTuningConfig(encoder_dropout=1), "encoder_dropout is 1"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_prompt_that_leaves_no_positions_is_refused(tiny):
    config = fp.PTuningV2Config(pre_seq_len=159, shift_positions=True)
    with pytest.raises(ConfigError, match="leaves no room in the backbone's 160 positions"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config)
    fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.PTuningV2Config(pre_seq_len=159))


def test_a_trained_backbone_is_not_held_in_bf16(tiny):
    if not runtime.supports_bf16("cpu"):
        pytest.skip("no bfloat16 on this framework's CPU")
    with pytest.raises(ConfigError, match="leave bf16 off"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.FineTuningConfig(), bf16=True)
