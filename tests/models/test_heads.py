"""Heads of every task: training, evaluation, refusals."""

from itertools import product

import fastprompt as fp
from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import ops

import numpy
import pytest

from support.heads import CHOICES, HEADS, IDS, METHODS, batch, logits, make, number, target, texts


@pytest.mark.parametrize(
    ("head", "method"),
    [
        *product(["tokens"], METHODS),
        *product(["questions", "choices"], ["p-tuning-v2", "shallow-prefix", "fine-tuning"]),
        *product(["labels", "number"], ["p-tuning-v2"]),
    ],
)
def test_methods_train_heads(tiny, head, method):
    model = make(tiny["bert"], head, method)
    model.train()
    tuned = model.tuned_parameters()
    found = ops.gradients(model.train_step(**batch(head))["loss"], list(tuned.values()))
    reached = {name for name, gradient in zip(tuned, found, strict=True) if gradient.any()}
    unreached = {name for name in tuned if name.endswith("key.bias")}  # it shifts all scores alike, and so do these:
    unreached |= {"questions": {"qa_outputs.bias"}, "choices": {"classifier.bias"}}.get(head, set())
    assert set(tuned) - unreached <= reached


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        ("classes", (2,)),
        ("labels", (2, 3)),
        ("number", (2,)),
        ("numbers", (2, 2)),
        ("tokens", (2, 3)),  # labelled tokens only, packed to the front
        ("questions", (2, 2)),
        ("choices", (3,)),
    ],
)
def test_evaluation_answers_in_the_targets_shape(tiny, head, shape):
    model = make(tiny["bert"], head)
    model.eval()
    found = model.evaluate_step(**batch(head))
    pred, wanted = ops.to_numpy(found["pred"]), ops.to_numpy(found["target"])
    assert pred.shape == wanted.shape == shape
    assert (pred.dtype.kind == "i") == (head not in ("number", "numbers"))
    assert numpy.isfinite(number(found["loss"]))


def test_several_labels_are_those_above_one_half(tiny):
    model = make(tiny["bert"], "labels")
    scores = ops.tensor(numpy.array([[-0.1, 0.1, 3.0]], "float32"))
    assert ops.to_numpy(model.predictions(scores)).tolist() == [[0, 1, 1]]
    model = make(tiny["bert"], "number")
    assert ops.to_numpy(model.predictions(ops.tensor(numpy.array([[0.25]], "float32")))).tolist() == [0.25]


def test_one_number_may_be_given_in_a_column(tiny):
    model = make(tiny["bert"], "number")
    model.eval()
    flat, column = (model(**texts(IDS), labels=target(x)).loss for x in ([0.5, -1.0], [[0.5], [-1.0]]))
    assert number(flat) == number(column)


@pytest.mark.parametrize("method", ["p-tuning-v2", "shallow-prefix"])
@pytest.mark.parametrize("head", ["tokens", "questions"])
def test_tokens_answer_for_themselves_and_the_prompt_for_none(tiny, head, method):
    model = make(tiny["bert"], head, method)
    found = logits(model, head)
    inputs = model.backbone_inputs(**texts(IDS))
    last = model.backbone(**inputs)[-1]
    of_prompt = 3 if method == "shallow-prefix" else 0
    assert last.shape[1] == of_prompt + IDS.shape[1]
    numpy.testing.assert_allclose(ops.to_numpy(model.head(last))[:, of_prompt:], found, atol=1e-6)


def test_tokens_without_a_label_do_not_count(tiny):
    model = make(tiny["bert"], "tokens")
    model.eval()
    both = number(model(**texts(IDS), labels=target([[-100, 2, -100, 0, -100], [-100] * 5])).loss)
    scores = logits(model, "tokens")[0, [1, 3]].astype("float64")
    expected = numpy.log(numpy.exp(scores).sum(-1)) - scores[[0, 1], [2, 0]]
    assert both == pytest.approx(expected.mean(), abs=1e-5)


@pytest.mark.parametrize(("outside", "counted_as"), [(5, None), (99, None), (-1, 0)])
def test_answers_outside_the_input_count_as_in_transformers(tiny, outside, counted_as):
    model = make(tiny["bert"], "questions")
    model.eval()

    def loss(start, end):
        return number(model(**texts(IDS[:1]), start_positions=target([start]), end_positions=target([end])).loss)

    scores = logits(model, "questions")[0].astype("float64")  # (T, 2)
    cost = numpy.log(numpy.exp(scores).sum(0)) - scores
    first = 0 if counted_as is None else cost[counted_as, 0]
    assert loss(outside, 3) == pytest.approx((first + cost[3, 1]) / 2, abs=1e-5)


def test_an_answer_is_looked_for_among_real_tokens(tiny):
    model = make(tiny["bert"], "questions")
    model.eval()
    inputs = batch("questions")
    model.head.forward = lambda states: (
        states[:, :, :2] * 0 + ops.tensor(numpy.array([[[0, 1], [4, 2], [1, 3], [9, 8], [8, 9]]] * 2, "float32"))
    )
    assert ops.to_numpy(model.evaluate_step(**inputs)["pred"]).tolist() == [[3, 4], [1, 2]]


def test_a_batch_whose_answers_all_lie_outside_moves_nothing(tiny):
    model = make(tiny["bert"], "questions")
    model.train()
    outside = texts(IDS) | {"start_positions": target([7, 9]), "end_positions": target([8, 9])}
    assert number(model.train_step(**outside)["loss"]) == 0
    found = ops.gradients(model.train_step(**outside)["loss"], model.trainable_parameters())
    assert not any(gradient.any() for gradient in found)
    assert number(model.train_step(**batch("questions"))["loss"]) > 0


def test_each_choice_is_scored_by_itself(tiny):
    model = make(tiny["bert"], "choices")
    together = logits(model, "choices")
    for row, choices in enumerate(CHOICES):
        for column, ids in enumerate(choices):
            length = (ids > 0).sum()
            alone = ops.to_numpy(model(**texts(ids[None, None, :length])).logits)
            assert alone == pytest.approx(together[row, column], abs=1e-5)


def test_choices_share_a_prompt_and_not_its_dropout(tiny):
    config = fp.PTuningV2Config(pre_seq_len=3, init_std=1.0)
    model = make(tiny["bert"], "choices", config, hidden_dropout_prob=0.5)
    twice = texts(numpy.stack([IDS[[0, 0]]]))
    model.eval()
    first, second = ops.to_numpy(model(**twice).logits)[0]
    assert first == pytest.approx(second, abs=1e-6)
    model.train()
    model.head.eval()
    model.backbone.eval()
    first, second = ops.to_numpy(model(**twice).logits)[0]
    assert abs(first - second) > 1e-4


@pytest.mark.parametrize("head", ["tokens", "questions"])
def test_pooling_is_refused_where_every_token_is_read(tiny, head):
    with pytest.raises(ConfigError, match="reads every token and pools none; leave pooling='mean' off"):
        make(tiny["bert"], head, fp.PTuningV2Config(pooling="mean"))


@pytest.mark.parametrize(
    ("head", "outputs", "message"),
    [
        ("classes", {"problem_type": "ranking"}, "problem_type is 'ranking'; it is one of"),
        ("classes", {"num_labels": 1, "problem_type": "single_label_classification"}, "distinguishes nothing"),
        ("classes", {"num_labels": 3, "label_names": ["a"]}, "num_labels is 3, but there are 1 label names"),
        ("tokens", {"problem_type": "regression"}, "leave it off for token_classification"),
        ("questions", {"num_labels": 3}, "outputs of question_answering are fixed"),
        ("choices", {"label_names": ["a", "b"]}, "outputs of multiple_choice are fixed"),
    ],
)
def test_outputs_that_a_head_cannot_have_are_refused(tiny, head, outputs, message):
    with pytest.raises(ConfigError, match=message):
        HEADS[head][0].from_pretrained(tiny["bert"], **outputs)


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        ("classes", [[1, 0, 1], [0, 0, 1]], r"shape \(2, 3\); this head takes \(2,\)"),
        ("classes", [0.5, 1.5], "labels are fractions"),
        ("labels", [1, 0], r"this head takes \(2, 3\)"),
        ("number", [[0.5, 1.0], [0.5, 1.0]], r"this head takes \(2, 1\) or \(2,\)"),
        ("tokens", [1, 0], r"this head takes \(2, 5\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tiny, head, labels, message):
    with pytest.raises(DataError, match=message):
        make(tiny["bert"], head)(**texts(IDS), labels=target(labels))


def test_choices_without_their_axis_are_refused(tiny):
    with pytest.raises(DataError, match=r"shape \(2, 5\); multiple choice takes \(examples, choices, tokens\)"):
        make(tiny["bert"], "choices")(**texts(IDS))
