"""ModernBERT, portable: windows, prefixes beyond them, rotations, and the names of its published config.json."""

import json
import shutil

import fastprompt as fp
from fastprompt.backbones.loading import load_backbone
from fastprompt.backbones.modernbert import GLOBAL, LOCAL, layer_types
from fastprompt.backbones.prefix import Prefix
from fastprompt.backbones.rotary import rope_frequencies, rotate, rotation_at
from fastprompt.errors import CheckpointError
from fastprompt.framework import ops
from fastprompt.pretrained.checkpoint import Checkpoint

import numpy
import pytest

IDS = numpy.arange(5, 25).reshape(1, 20)


@pytest.fixture
def folder_with(tiny, tmp_path):
    """folder_with(setting=...): the folder of a small ModernBERT whose config.json says so; None leaves a key out."""

    def make(**settings):
        folder = shutil.copytree(tiny["modernbert"], tmp_path / "modernbert", dirs_exist_ok=True)
        config = {**json.loads((folder / "config.json").read_text()), **settings}
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        return folder

    return make


def states(folder, ids=IDS, prefix=None, portable=True, mask=None):
    backbone = load_backbone(Checkpoint(folder), portable=portable)
    backbone.eval()
    mask = None if mask is None else ops.tensor(mask)
    return ops.to_numpy(backbone(ops.tensor(ids), mask, prefix=prefix)[-1])


def some_prefix(seed):
    draw = numpy.random.default_rng(seed)
    return Prefix(*(ops.tensor(draw.standard_normal((3, 1, 4, 2, 8)).astype("float32")) for _ in range(2)))


@pytest.mark.parametrize("padded", [False, True])
def test_a_token_reaches_as_far_as_the_windows_of_all_layers(folder_with, padded):
    folder = folder_with(layer_types=[LOCAL] * 3, local_attention=4)  # 2 places to each side, three times
    mask = (numpy.arange(20) < 18).astype("int64")[None] if padded else None
    other = IDS.copy()
    other[0, 0] = 99
    changed = numpy.abs(states(folder, other, mask=mask) - states(folder, mask=mask))[0].max(axis=1) > 1e-7
    assert changed.tolist() == [True] * 7 + [False] * 13
    folder = folder_with(layer_types=[LOCAL, LOCAL, GLOBAL])
    assert (numpy.abs(states(folder, other) - states(folder))[0].max(axis=1) > 1e-7).all()


def test_every_token_sees_the_prefix_in_local_layers_too(folder_with):
    folder = folder_with(layer_types=[LOCAL] * 3, local_attention=2)
    first, second = (states(folder, prefix=some_prefix(seed)) for seed in (0, 1))
    assert (numpy.abs(first - second)[0].max(axis=1) > 1e-4).all()


@pytest.mark.skipif(fp.backend() != "torch", reason="the stock model is torch; test_parity compares the others with it")
@pytest.mark.parametrize("length", [4, 5, 6, 20])  # a window of 4 places to each side holds 5 tokens whole
@pytest.mark.parametrize("with_prefix", [False, True])
def test_texts_around_the_windows_width_equal_the_stock_model(tiny, length, with_prefix):
    mask = (numpy.arange(length) < [[length], [length - 2]]).astype("int64")
    ids = numpy.repeat(IDS[:, :length], 2, axis=0) * mask
    prefix = some_prefix(0) if with_prefix else None
    ours, stock = (states(tiny["modernbert"], ids, prefix, portable, mask) for portable in (True, False))
    numpy.testing.assert_allclose(ours[0], stock[0], atol=1e-5)
    numpy.testing.assert_allclose(ours[1, :-2], stock[1, :-2], atol=1e-5)


@pytest.mark.skipif(fp.backend() != "torch", reason="the stock model is torch")
@pytest.mark.parametrize(
    "settings",
    [
        {"global_attn_every_n_layers": 2, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0},
        {"global_attn_every_n_layers": 3, "global_rope_theta": 100.0, "local_rope_theta": 20.0},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {},
    ],
)
def test_the_names_of_published_files_are_read_as_transformers_reads_them(folder_with, settings):
    folder = folder_with(layer_types=None, rope_parameters=None, **settings)
    ours, stock = (states(folder, portable=portable) for portable in (True, False))
    numpy.testing.assert_allclose(ours, stock, atol=1e-5)


def test_layers_of_a_kind_that_is_unknown_are_refused():
    assert layer_types({"num_hidden_layers": 4}) == [GLOBAL, LOCAL, LOCAL, GLOBAL]
    with pytest.raises(CheckpointError, match="layers of 'chunked_attention'; known are full_attention and sliding"):
        layer_types({"num_hidden_layers": 1, "layer_types": ["chunked_attention"]})
    with pytest.raises(CheckpointError, match="rope_type 'yarn', which the portable definition lacks; use torch"):
        rope_frequencies({"rope_type": "yarn"}, 8, 10000.0)


def test_scores_of_rotated_queries_and_keys_depend_on_the_distance_alone():
    draw = numpy.random.default_rng(0)
    query, key = (ops.tensor(draw.standard_normal((1, 1, 1, 8)).astype("float32")) for _ in range(2))
    frequencies = rope_frequencies({}, 8, 10000.0)

    def score(at, of):
        turned = [
            ops.to_numpy(rotate(x, rotation_at(ops.tensor(numpy.array([[place]])), frequencies, like=x)))
            for x, place in ((query, at), (key, of))
        ]
        return float((turned[0] * turned[1]).sum())

    assert score(7, 3) == pytest.approx(score(104, 100), abs=1e-4)
    assert abs(score(7, 3) - score(7, 4)) > 1e-3


@pytest.mark.skipif(fp.backend() == "jittor", reason="jittor has no bfloat16")
def test_positions_beyond_256_are_distinguished_in_bfloat16():
    like = ops.cast(ops.tensor(numpy.zeros((1, 2, 8), "float32")), "bfloat16")
    cos, _ = rotation_at(ops.tensor(numpy.array([[1000, 1001]])), rope_frequencies({}, 8, 10000.0), like)
    found = ops.to_numpy(ops.cast(cos, "float32"))[0, 0, :, 0]
    numpy.testing.assert_allclose(found, numpy.cos([1000, 1001]), atol=1e-2)
