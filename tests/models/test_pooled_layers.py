"""Where a head reads one position, the last layer of a portable backbone is computed for that one alone."""

import fastprompt as fp
from fastprompt.framework import ops

import numpy
import pytest

from support.heads import batch, make

FIRST = {"pre_seq_len": 3, "init_std": 1.0, "pooling": "first"}
CASES = {
    "deep": fp.PTuningV2Config(**FIRST),
    "last layer": fp.PTuningV2Config(**FIRST, prefix_layers="last:1"),
    "shallow": fp.PromptTuningConfig(num_virtual_tokens=3, pooling="first"),
    "prompt": fp.PromptTuningConfig(num_virtual_tokens=3, pooling="prompt"),
    "no prompt": fp.LinearProbeConfig(pooling="first"),
}


def outcome(model, **options):
    """The logits, and the gradients of what is tuned."""
    model.train()
    given = batch("classes")
    output = model(**given, **options)
    return ops.to_numpy(output.logits), ops.gradients(output.loss, model.trainable_parameters())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("family", "checkpointing"),
    [("bert", False), ("bert", True), *((name, False) for name in ("roberta", "distilbert", "albert", "modernbert"))],
)
def test_what_is_read_is_the_same_as_of_a_whole_layer(tiny, family, case, checkpointing):
    options = {"portable": True, "gradient_checkpointing": checkpointing}
    model = make(tiny[family], "classes", CASES[case], **options)
    logits, gradients = outcome(model)
    whole, of_whole = outcome(model, output_hidden_states=True)  # then every layer is computed for every token
    numpy.testing.assert_allclose(logits, whole, rtol=0, atol=1e-6)
    for found, expected in zip(gradients, of_whole, strict=True):
        numpy.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max() + 1e-9)


@pytest.mark.parametrize("family", ["bert", "distilbert", "albert"])
def test_the_last_layer_gives_one_position(tiny, family):
    model = make(tiny[family], "classes", CASES["deep"], portable=True)
    given = batch("classes")
    called = model.backbone_inputs(given["input_ids"], given["attention_mask"])
    rows = len(given["input_ids"])
    whole = ops.to_numpy(model.backbone(**called)[-1])
    states = ops.to_numpy(model.backbone(**called, read=2)[-1])
    assert states.shape == (rows, 1, whole.shape[2])
    numpy.testing.assert_allclose(states[:, 0], whole[:, 2], rtol=0, atol=2e-6)


@pytest.mark.parametrize("pooling", ["mean", None])
def test_a_head_that_reads_more_gets_every_position(tiny, pooling):
    config = fp.PTuningV2Config(pre_seq_len=3, pooling=pooling)
    model = make(tiny["bert"], "classes" if pooling else "tokens", config, portable=True)
    given = batch("classes")
    states = model.encode(given["input_ids"], given["attention_mask"])[1]
    assert states[-1].shape[1] == given["input_ids"].shape[1]
