"""Stock transformers encoders on torch: the prefix reaches their attention, and padding stays unseen."""

import fastprompt as fp
from fastprompt.backbones.checkpoint import Checkpoint
from fastprompt.backbones.loading import load_backbone
from fastprompt.errors import CheckpointError, ConfigError

import pytest

if fp.backend() != "torch":
    pytest.skip("stock transformers models run on torch", allow_module_level=True)

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, DynamicCache

OWN_ATTENTION = ["mpnet", "deberta", "deberta-v2", "deberta-v3"]
FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "ernie", "albert", "modernbert", *OWN_ATTENTION]
PORTABLE = [
    *("bert", "roberta", "xlm-roberta", "distilbert", "electra", "electra-one-width"),
    *("ernie", "ernie-no-task", "albert", "albert-groups"),
]
IDS = torch.tensor([[2, 7, 9, 11, 40, 50, 3], [2, 8, 21, 3, 0, 0, 0]])
MASK = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0]])


def batch(folder):
    pad = Checkpoint(folder).config.get("pad_token_id", 0)
    return {
        "input_ids": torch.where(MASK.bool(), IDS + 3, torch.tensor(pad)),
        "attention_mask": MASK,
        "labels": torch.tensor([0, 1]),
    }


def model_of(folder, **options):
    config = fp.PTuningV2Config(pre_seq_len=4, init_std=1.0, shift_positions=options.pop("shift", False))
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **options}
    return fp.PromptForSequenceClassification.from_pretrained(folder, config, **options)


def gradients(model, inputs):
    tuned = model.tuned_parameters()
    model.train()
    return dict(zip(tuned, torch.autograd.grad(model(**inputs).loss, list(tuned.values())), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layers_prefix_gets_a_gradient(tiny, family):
    found = gradients(model_of(tiny[family]), batch(tiny[family]))["prompt.embedding.weight"]
    per_layer = found.reshape(4, 3, 2, -1).abs().amax(dim=(0, 3))  # (layers, key or value)
    assert (per_layer > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_not_attended_to(tiny, family):
    model = model_of(tiny[family]).eval()
    inputs = batch(tiny[family])
    padded = model(inputs["input_ids"], inputs["attention_mask"]).logits[1]
    alone = model(inputs["input_ids"][1:, :4], inputs["attention_mask"][1:, :4]).logits[0]
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "albert"])
def test_gradient_checkpointing_changes_no_gradient(tiny, family):
    plain = gradients(model_of(tiny[family]), batch(tiny[family]))
    saving = gradients(model_of(tiny[family], gradient_checkpointing=True), batch(tiny[family]))
    for name in plain:
        torch.testing.assert_close(saving[name], plain[name], atol=0, rtol=0)


def test_albert_refuses_gradient_checkpointing(tiny):
    with pytest.raises(ConfigError, match="albert shares one layer"):
        model_of(tiny["albert"], gradient_checkpointing=True)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "electra", "ernie"])
def test_shifted_positions_equal_past_key_values(tiny, family, portable):
    folder = tiny[family]
    model = model_of(folder, shift=True, portable=portable).eval()
    inputs = batch(folder)
    key, value = model.prompt()
    cache = DynamicCache()
    for layer in range(3):
        cache.update(key[layer].expand(2, -1, -1, -1), value[layer].expand(2, -1, -1, -1), layer)
    config = AutoConfig.from_pretrained(folder, is_decoder=False)
    stock = AutoModel.from_pretrained(folder, config=config, attn_implementation="eager").eval()
    wide = torch.cat([torch.ones(2, 4, dtype=torch.long), inputs["attention_mask"]], dim=1)
    expected = stock(input_ids=inputs["input_ids"], attention_mask=wide, past_key_values=cache).last_hidden_state
    _, states = model.encode(inputs["input_ids"], inputs["attention_mask"])
    torch.testing.assert_close(states[-1][0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states[-1][1, :4], expected[1, :4], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_are_laid_out_as_transformers_lays_them_out(tiny, tmp_path, family):
    """A sequence classifier of transformers, read as a fine-tuning model, gives its own logits."""
    config = AutoConfig.from_pretrained(tiny[family], num_labels=2)
    torch.manual_seed(0)
    stock = AutoModelForSequenceClassification.from_config(config).eval()
    stock.save_pretrained(tmp_path)
    model = fp.PromptForSequenceClassification.from_pretrained(tmp_path, fp.FineTuningConfig()).eval()
    assert model.fresh_tensors() == []
    inputs = batch(tiny[family])
    expected = stock(input_ids=inputs["input_ids"], attention_mask=MASK).logits
    torch.testing.assert_close(model(inputs["input_ids"], MASK).logits, expected, atol=1e-5, rtol=1e-5)
    names = set(stock.state_dict()) - {name for name in stock.state_dict() if name.endswith("position_ids")}
    assert set(model.tuned_parameters()) == names


def test_a_family_with_attention_of_its_own_is_refused_for_deep_prefixes(tiny):
    with pytest.raises(CheckpointError, match=r"roformer computes attention by itself and .* use prompt-tuning"):
        model_of(tiny["roformer"])


def test_padding_is_not_attended_to_by_an_attention_of_its_own(tiny):
    """It adds its mask to the scores, which our attention's mask of True and False is no good for."""
    inputs = batch(tiny["roformer"])
    model = fp.PromptForSequenceClassification.from_pretrained(
        tiny["roformer"], fp.PromptTuningConfig(num_virtual_tokens=3)
    ).eval()
    _, padded = model.encode(inputs["input_ids"], inputs["attention_mask"])
    _, alone = model.encode(inputs["input_ids"][1:, :4], inputs["attention_mask"][1:, :4])
    torch.testing.assert_close(padded[-1][1:, :7], alone[-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "mpnet", "deberta-v3"])
def test_two_models_do_not_share_a_prefix(tiny, family):
    first, second = model_of(tiny[family]).eval(), model_of(tiny[family], seed=5).eval()
    inputs = batch(tiny[family])
    before = first(**inputs).logits
    second(**inputs)
    assert (first(**inputs).logits == before).all()
    assert (second(**inputs).logits != before).any()


@pytest.mark.parametrize("family", ["bert", *OWN_ATTENTION])
def test_a_bf16_backbone_stays_near_float32(tiny, family):
    inputs = batch(tiny[family])
    exact = gradients(model_of(tiny[family]), inputs)
    rough = gradients(model_of(tiny[family], bf16=True), inputs)
    assert rough["prompt.embedding.weight"].dtype is torch.float32
    for name in exact:
        assert (rough[name] - exact[name]).abs().max() < 0.15 * exact[name].abs().max()


@pytest.mark.parametrize("family", PORTABLE)
def test_portable_definitions_equal_stock_hidden_states(tiny, family):
    inputs = batch(tiny[family])
    del inputs["labels"]
    found = [
        load_backbone(Checkpoint(tiny[family]), portable=portable).eval()(**inputs, output_hidden_states=True)
        for portable in (True, False)
    ]
    for ours, stock in zip(*found, strict=True):
        torch.testing.assert_close(ours[0], stock[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("family", PORTABLE)
def test_portable_definitions_take_the_stock_models_prefix(tiny, family, shift):
    """The same number of layers, called in the same order, with token types where the family has them."""
    inputs = batch(tiny[family])
    del inputs["labels"]
    inputs["token_type_ids"] = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]])
    states = []
    for portable in (True, False):
        model = model_of(tiny[family], shift=shift, portable=portable).eval()
        states.append(model.encode(**inputs, output_hidden_states=True)[1])
    for ours, stock in zip(*states, strict=True):
        torch.testing.assert_close(ours[0], stock[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours[1, :4], stock[1, :4], atol=1e-5, rtol=1e-5)
