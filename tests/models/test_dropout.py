"""Beside a frozen backbone nothing is dropped that was not asked for: it only adds noise to the prompt's gradient."""

from fastprompt.framework import ops

import pytest

from support.heads import batch, make

RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}  # of the tiny checkpoints


def draws(model):
    """Whether two passes in training differ."""
    model.train()
    one, other = (ops.to_numpy(model(**batch("classes")).logits) for _ in range(2))
    return bool((one != other).any())


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("method", ["p-tuning-v2", "prompt-tuning", "linear-probe"])
def test_a_frozen_backbone_drops_nothing(tiny, family, method, portable):
    assert not draws(make(tiny[family], "classes", method, portable=portable))


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_that_is_given_acts(tiny, rate):
    assert draws(make(tiny["bert"], "classes", "p-tuning-v2", **{rate: 0.5}))


def test_a_tuned_backbone_has_the_checkpoints_rates(tiny):
    for rate in RATES:
        assert draws(make(tiny["bert"], "classes", "fine-tuning", **{rate: 0.0}))
    assert not draws(make(tiny["bert"], "classes", "fine-tuning", **dict.fromkeys(RATES, 0.0)))
