"""Stock transformers encoders on torch: the prefix reaches their attention, and padding stays unseen."""

import itertools
import warnings

import fastprompt as fp
from fastprompt.backbones.loading import load_backbone
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.models.heads import make_head
from fastprompt.pretrained.checkpoint import Checkpoint

import pytest

if fp.backend() != "torch":
    pytest.skip("stock transformers models run on torch", allow_module_level=True)

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DynamicCache,
)

RELATIVE = ["deberta", "deberta-v2", "deberta-v3"]  # without absolute positions, which alone can be shifted
OWN_ATTENTION = ["mpnet", *RELATIVE]
FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "ernie", "albert", "modernbert"]
FAMILIES += ["modernbert-biases", *OWN_ATTENTION]
PORTABLE = [
    *("bert", "roberta", "xlm-roberta", "distilbert", "electra", "electra-one-width"),
    *("ernie", "ernie-no-task", "albert", "albert-groups", "modernbert", "modernbert-biases", "mpnet"),
    *RELATIVE,
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


def test_checkpointing_uses_no_name_that_transformers_warns_of(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        backbone = model_of(tiny["bert"], gradient_checkpointing=True).backbone
        assert backbone.gradient_checkpointing
        backbone.gradient_checkpointing = False
        assert not backbone.gradient_checkpointing


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
    _, states = model.encode(inputs["input_ids"], inputs["attention_mask"], output_hidden_states=True)
    torch.testing.assert_close(states[-1][0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states[-1][1, :4], expected[1, :4], atol=1e-5, rtol=1e-5)


TAGS = [[-100, 1, 2, 0, -100, 1, -100], [-100, 2, 1, -100, -100, -100, -100]]
SEQUENCE = (AutoModelForSequenceClassification, fp.PromptForSequenceClassification)
# task -> the stock class, ours, what both are given of their outputs, and what a labelled batch has
TASKS = {
    "classes": (*SEQUENCE, {"num_labels": 3}, {"labels": [0, 2]}),
    "labels": (
        *SEQUENCE,
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]},
    ),
    "number": (*SEQUENCE, {"num_labels": 1}, {"labels": [0.5, -1.0]}),
    "tokens": (AutoModelForTokenClassification, fp.PromptForTokenClassification, {"num_labels": 3}, {"labels": TAGS}),
    "questions": (
        AutoModelForQuestionAnswering,
        fp.PromptForQuestionAnswering,
        {},
        {"start_positions": [3, -1], "end_positions": [9, 2]},
    ),
    "choices": (AutoModelForMultipleChoice, fp.PromptForMultipleChoice, {}, {"labels": [1]}),
}
# The first DeBERTa has no multiple choice in transformers; ours is laid out as the second's.
CASES = [case for case in itertools.product(FAMILIES, TASKS) if case != ("deberta", "choices")]


def stock_model(folder, task, **settings):
    kind, _, outputs, _ = TASKS[task]
    torch.manual_seed(0)
    model = kind.from_config(AutoConfig.from_pretrained(folder, **outputs, **settings)).eval()
    with torch.no_grad():
        for tensor in model.parameters():  # fresh biases are 0 and norms 1: mistakes in them would hide
            tensor.add_(torch.randn_like(tensor) * 0.1)
    return model


@pytest.mark.parametrize(("family", "task"), CASES)
def test_heads_are_laid_out_as_transformers_lays_them_out(tiny, tmp_path, family, task):
    """A model of transformers, read as a fine-tuning model, gives its own logits, loss and tensor names."""
    stock = stock_model(tiny[family], task)
    stock.save_pretrained(tmp_path)
    _, ours, outputs, labels = TASKS[task]
    model = ours.from_pretrained(tmp_path, fp.FineTuningConfig(), **outputs).eval()
    assert model.fresh_tensors() == []
    inputs = batch(tiny[family])
    del inputs["labels"]
    if task == "choices":
        inputs = {name: array[None] for name, array in inputs.items()}
    inputs |= {name: torch.tensor(value) for name, value in labels.items()}
    expected, found = stock(**inputs), model(**inputs)
    for name in ("loss", "start_logits", "end_logits") if task == "questions" else ("loss", "logits"):
        value = getattr(found, name)
        wanted = getattr(expected, name).reshape(value.shape)  # DeBERTa makes a column of numbers a row
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)
    names = {name for name in stock.state_dict() if not name.endswith("position_ids")}
    assert set(model.tuned_parameters()) == names


def dropout_rates(modules):
    return {module.p for module in modules if isinstance(module, torch.nn.Dropout)}


@pytest.mark.parametrize(("family", "task"), CASES)
def test_heads_drop_out_at_transformers_rates(tiny, family, task):
    names = ["hidden_dropout_prob", "dropout", "classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout"]
    names += ["qa_dropout", "summary_last_dropout", "pooler_dropout", "cls_dropout"]
    config = Checkpoint(tiny[family]).config
    rates = {name: 0.11 + index / 100 for index, name in enumerate(names) if name in config}
    stock = stock_model(tiny[family], task, **rates)
    head = [m for name, part in stock.named_children() if name != stock.base_model_prefix for m in part.modules()]
    ours = make_head(TASKS[task][1].task, {**config, **rates}, 32, 3)
    assert dropout_rates(ours.modules()) == dropout_rates(head)


@pytest.mark.parametrize(
    ("family", "task"), [("distilbert", "questions"), ("electra", "choices"), ("albert", "tokens"), ("bert", "classes")]
)
def test_no_dropout_means_none_in_the_head_either(tiny, family, task):
    model = TASKS[task][1].from_pretrained(tiny[family], fp.FineTuningConfig(), hidden_dropout_prob=0.0)
    assert dropout_rates(model.head.modules()) == {0.0}
    model = TASKS[task][1].from_pretrained(tiny[family], fp.FineTuningConfig())
    assert dropout_rates(model.head.modules()) != {0.0}


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


@pytest.mark.parametrize("family", PORTABLE)
def test_portable_definitions_read_texts_that_are_padded_in_front(tiny, family):
    inputs = batch(tiny[family])
    flipped = {name: inputs[name].flip(1) for name in ("input_ids", "attention_mask")}
    ours, stock = (
        model_of(tiny[family], portable=portable).eval().encode(**flipped, output_hidden_states=True)[1][-1]
        for portable in (True, False)
    )
    torch.testing.assert_close(ours[0], stock[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[1, 3:], stock[1, 3:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "shift"),
    [case for case in itertools.product(PORTABLE, [False, True]) if case[0] not in RELATIVE or not case[1]],
)
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
