"""DeBERTa's portable definitions: each layout that config.json can ask for is the stock model's, or refused by name."""

import itertools
import json
import shutil

import fastprompt as fp
from fastprompt.backbones.deberta import at_distances
from fastprompt.backbones.deberta_v2 import log_buckets
from fastprompt.backbones.loading import load_backbone
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import ops
from fastprompt.pretrained.checkpoint import Checkpoint

import numpy
import pytest

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
SIZES |= {"vocab_size": 50, "max_position_embeddings": 24, "pad_token_id": 0, "relative_attention": True}
TERMS = [["c2p", "p2c"], ["c2p"], "p2c", None]
LAYOUTS = {
    "plain": {},
    "buckets": {"share_att_key": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm"},
    "convolution": {"conv_kernel_size": 5, "position_buckets": 6},
    "few distances": {"max_relative_positions": 5},
    "no positions": {"position_biased_input": False, "relative_attention": False},
    "narrow embeddings": {"type_vocab_size": 3, "embedding_size": 8},
}


def edited(folder, copy, **settings):
    """A copy of a checkpoint with other settings in its config.json."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **settings}))
    return copy


@pytest.mark.skipif(fp.backend() != "torch", reason="transformers is torch; test_parity compares the others with it")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("family", "terms"), [*itertools.product(["deberta", "deberta-v2"], TERMS)], ids=str)
def test_states_and_gradients_are_the_stock_models_padding_and_all(tmp_path, family, terms, layout):
    import torch
    from transformers import AutoModel, DebertaConfig, DebertaV2Config

    kind = {"deberta": DebertaConfig, "deberta-v2": DebertaV2Config}[family]
    torch.manual_seed(0)
    stock = AutoModel.from_config(kind(**{**SIZES, **LAYOUTS[layout]}, pos_att_type=terms)).eval()
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    stock.save_pretrained(tmp_path)
    ours = load_backbone(Checkpoint(tmp_path), portable=True).eval()
    for length in (1, 9):
        mask = torch.ones(3, length, dtype=torch.long)
        mask[1, 6:], mask[2, : length - 2] = 0, 0
        inputs = {"input_ids": torch.randint(5, 50, (3, length)), "attention_mask": mask}
        inputs["token_type_ids"] = torch.randint(0, 2, (3, length))
        expected = stock(**inputs, output_hidden_states=True).hidden_states
        found = ours(**inputs, output_hidden_states=True)
        for state, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(state, wanted, atol=1e-5, rtol=1e-5)
        gradients = []
        for states, parameters in ((found, ours.stock_parameters()), (expected, dict(stock.named_parameters()))):
            loss = sum(state.square().sum() for state in states)
            taken = [parameters[name] for name in sorted(ours.stock_parameters())]
            gradients.append(torch.autograd.grad(loss, taken, allow_unused=True))
        assert set(ours.stock_parameters()) == {name for name, _ in stock.named_parameters()}
        for gradient, wanted in zip(*gradients, strict=True):
            if wanted is None:
                assert gradient is None
            else:  # a key's bias has none but rounding
                close = 1e-4 * wanted.abs().max().item() + 1e-4
                torch.testing.assert_close(gradient, wanted, atol=close, rtol=0)


@pytest.mark.skipif(fp.backend() != "torch", reason="transformers is torch")
@pytest.mark.parametrize(("buckets", "furthest"), [(4, 160), (32, 512), (256, 512), (256, 1024)])
def test_buckets_begin_where_the_stock_models_do(buckets, furthest):
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

    states, places = torch.zeros(1, 700, 1), numpy.arange(700)
    expected = build_relative_position(states, states, buckets, furthest)[0].numpy()
    found = log_buckets(buckets, furthest)(places[:, None] - places)
    numpy.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_products_with_distances_get_to_their_queries_and_keys(length):
    """Column d of row i belongs to what stands length - 1 - d places before it."""
    products = numpy.random.default_rng(0).standard_normal((2, 3, length, 2 * length - 1)).astype("float32")
    found = ops.to_numpy(at_distances(ops.tensor(products)))
    for i, j in itertools.product(range(length), repeat=2):
        numpy.testing.assert_array_equal(found[:, :, i, j], products[:, :, i, j - i + length - 1])


@pytest.mark.parametrize("family", ["deberta", "deberta-v2", "deberta-v3"])
def test_shifted_positions_are_refused_where_all_are_relative(tiny, family):
    config = fp.PTuningV2Config(pre_seq_len=4, shift_positions=True)
    model = fp.PromptForSequenceClassification.from_pretrained(tiny[family], config, portable=True)
    with pytest.raises(ConfigError, match=r"deberta\S* takes no position_ids"):
        model(ops.tensor(numpy.array([[5, 6, 7]])))


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("deberta", {"talking_head": True}, "talking heads"),
        ("deberta-v2", {"conv_groups": 2}, r"3 tokens \(conv_kernel_size\) in 2 groups"),
        ("deberta-v2", {"conv_kernel_size": 2}, r"2 tokens \(conv_kernel_size\) in 1 groups"),
    ],
)
def test_layouts_that_are_not_known_are_refused_by_name(tiny, tmp_path, family, settings, message):
    folder = edited(tiny[family], tmp_path / "copy", **settings)
    with pytest.raises(CheckpointError, match=message):
        load_backbone(Checkpoint(folder), portable=True)


def test_a_texts_own_keys_and_values_start_a_prefix(tiny):
    """Prefixes that start from a text are read as the text's own keys and values."""
    backbone = load_backbone(Checkpoint(tiny["deberta-v3"]), portable=True)
    backbone.eval()
    pairs = backbone.keys_and_values(ops.tensor(numpy.array([[5, 6, 7]])))
    assert len(pairs) == 3
    assert all(tuple(x.shape) == (1, 4, 3, 8) for pair in pairs for x in pair)
