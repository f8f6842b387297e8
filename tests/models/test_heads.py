"""Heads of every task under each framework: what they train on, answer, refuse, save, and learn inside a Trainer."""

import json
from itertools import product

import fastprompt as fp
from fastprompt.commands.predict import predict
from fastprompt.data.sampler import LengthGroupedBatchSampler
from fastprompt.errors import CheckpointError, ConfigError, DataError
from fastprompt.framework import BACKENDS, loader, ops, optim
from fastprompt.metrics.loss import MeanLoss
from fastprompt.models.auto import MODELS
from fastprompt.options.train import TrainOptions

import numpy
import pytest
from fastNLP import Callback, Trainer

IDS = numpy.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
CHOICES = numpy.stack([IDS, IDS[:, [0, 2, 1, 3, 4]], IDS])
# name -> the class, what it is told of its outputs, and what a batch has beside its texts
HEADS = {
    "classes": (fp.PromptForSequenceClassification, {"num_labels": 3}, {"labels": [2, 0]}),
    "labels": (
        fp.PromptForSequenceClassification,
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]},
    ),
    "number": (fp.PromptForSequenceClassification, {"problem_type": "regression"}, {"labels": [0.5, -1.0]}),
    "numbers": (
        fp.PromptForSequenceClassification,
        {"num_labels": 2, "problem_type": "regression"},
        {"labels": [[0.5, 2.0], [-1.0, 0.0]]},
    ),
    "tokens": (
        fp.PromptForTokenClassification,
        {"num_labels": 3},
        {"labels": [[-100, 2, 1, 0, -100], [-100, 1, -100, -100, -100]]},
    ),
    "questions": (fp.PromptForQuestionAnswering, {}, {"start_positions": [1, 9], "end_positions": [3, 1]}),
    "choices": (fp.PromptForMultipleChoice, {}, {"labels": [1, 0, 1]}),
}
# A line of input for `predict`.
ASKED = {
    "classes": "a fine film",
    "tokens": "a fine film",
    "questions": json.dumps({"question": "what ?", "context": "a fine film"}),
    "choices": json.dumps({"text": "it rained", "choices": ["wet", "dry"]}),
}
METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=3, init_std=0.5),
    "projection": fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, prefix_hidden_size=7, init_std=0.5),
    "shallow-prefix": fp.ShallowPrefixConfig(pre_seq_len=3),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=3),
    "fine-tuning": fp.FineTuningConfig(),
    "linear-probe": fp.LinearProbeConfig(),
    "bitfit": fp.BitFitConfig(),
}


def texts(ids):
    return {"input_ids": ops.tensor(ids), "attention_mask": ops.tensor((ids > 0).astype("int64"))}


def target(array):
    array = numpy.array(array)
    return ops.tensor(array.astype("float32") if array.dtype == "float64" else array)


def batch(head):
    ids = CHOICES if head == "choices" else IDS
    return texts(ids) | {name: target(value) for name, value in HEADS[head][2].items()}


def make(folder, head, method="p-tuning-v2", **options):
    kind, outputs, _ = HEADS[head]
    config = METHODS[method] if isinstance(method, str) else method
    return kind.from_pretrained(folder, config, **outputs, **options)


def logits(model, head):
    model.eval()
    ids = CHOICES if head == "choices" else IDS
    return ops.to_numpy(model(**texts(ids)).logits)


def number(loss):
    return float(ops.to_numpy(loss).reshape(()))


# --- training and evaluation ------------------------------------------------------------------------------------------


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


def test_each_choice_is_weighed_by_itself(tiny):
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


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["tokens", "questions"])
def test_pooling_is_refused_where_every_token_is_read(tiny, head):
    with pytest.raises(ConfigError, match="reads every token and pools none; leave pooling='mean' off"):
        make(tiny["bert"], head, fp.PTuningV2Config(pooling="mean"))


@pytest.mark.parametrize(
    ("head", "outputs", "message"),
    [
        ("classes", {"problem_type": "ranking"}, "problem_type is 'ranking'; it is one of"),
        ("classes", {"num_labels": 1, "problem_type": "single_label_classification"}, "tells nothing apart"),
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


# --- the prompt file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["p-tuning-v2", "shallow-prefix", "fine-tuning"])
@pytest.mark.parametrize("head", HEADS)
def test_a_saved_prompt_opens_as_what_it_is_with_the_same_logits(tiny, tmp_path, head, method):
    model = make(tiny["bert"], head, method, seed=3)
    model.save_pretrained(tmp_path)
    loaded = fp.load_prompt_model(tmp_path)
    assert type(loaded) is type(model)
    assert (loaded.label_names, loaded.problem_type) == (model.label_names, model.problem_type)
    assert (logits(loaded, head) == logits(model, head)).all()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "ernie", "albert", "modernbert"])
@pytest.mark.parametrize("head", ["classes", "tokens", "questions", "choices"])
def test_a_head_of_every_family_trains_evaluates_saves_reloads_and_answers(tiny, tmp_path, head, family):
    """Without dropout, whose draws depend on the machine, the loss falls by the same amount everywhere."""
    model = make(tiny[family], head, seed=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    optimizer = fp.AdamW(model.trainable_parameters(), lr=1e-2)
    model.train()
    before = number(model.train_step(**batch(head))["loss"])
    tuned = model.trainable_parameters()
    for _ in range(8):
        optim.step_with(optimizer, tuned, ops.gradients(model.train_step(**batch(head))["loss"], tuned))
    model.eval()
    assert number(model.evaluate_step(**batch(head))["loss"]) < before - 5e-3
    model.save_pretrained(tmp_path)
    loaded = HEADS[head][0].from_pretrained(tmp_path)
    assert (logits(loaded, head) == logits(model, head)).all()
    (found,) = predict(TrainOptions(model_name_or_path=str(tmp_path)), [("line 1", ASKED[head])])
    assert {"classes": "label", "tokens": "tags", "questions": "answer", "choices": "label"}[head] in found


@pytest.mark.once
def test_heads_travel_through_all_frameworks(tiny, tmp_path, run_python):
    """The same bytes written again, and the same logits."""
    for head in HEADS:
        make(tiny["bert"], head, seed=3).save_pretrained(tmp_path / "start" / head)
    numpy.savez(tmp_path / "ids.npz", texts=IDS, choices=CHOICES)
    code = (
        "import sys, pathlib, numpy, fastprompt as fp\n"
        "from fastprompt.framework import ops\n"
        "ids, target = numpy.load(sys.argv[1]), pathlib.Path(sys.argv[3])\n"
        "for folder in pathlib.Path(sys.argv[2]).iterdir():\n"
        "    model = fp.load_prompt_model(folder)\n"
        "    model.eval()\n"
        "    x = ids['choices' if folder.name == 'choices' else 'texts']\n"
        "    logits = model(ops.tensor(x), ops.tensor((x > 0).astype('int64'))).logits\n"
        "    model.save_pretrained(target / folder.name)\n"
        "    numpy.save(target / folder.name / 'logits.npy', ops.to_numpy(logits))\n"
    )
    last = tmp_path / "start"
    for backend in BACKENDS:
        run_python(backend, "-c", code, tmp_path / "ids.npz", last, tmp_path / backend)
        last = tmp_path / backend
        for head in HEADS:
            for name in ("prompt.safetensors", "prompt_config.json"):
                assert (last / head / name).read_bytes() == (tmp_path / "start" / head / name).read_bytes()
            found, expected = (numpy.load(tmp_path / x / head / "logits.npy") for x in (backend, "torch"))
            numpy.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_a_prompt_of_another_task_is_refused_by_name(tiny, tmp_path):
    make(tiny["bert"], "tokens").save_pretrained(tmp_path)
    for head in ("classes", "questions", "choices"):
        with pytest.raises(CheckpointError, match="was tuned for token_classification, not for"):
            HEADS[head][0].from_pretrained(tmp_path)
        with pytest.raises(CheckpointError, match="was tuned for token_classification, not for"):
            make(tiny["bert"], head).load_prompt(tmp_path)


def test_a_prompt_of_an_unknown_task_is_refused_by_name(tiny, tmp_path):
    make(tiny["bert"], "tokens").save_pretrained(tmp_path)
    content = json.loads((tmp_path / "prompt_config.json").read_text())
    (tmp_path / "prompt_config.json").write_text(json.dumps({**content, "task": "chess"}))
    with pytest.raises(ConfigError, match="no model for the task 'chess'; there are sequence_classification"):
        fp.load_prompt_model(tmp_path)
    del content["task"]
    (tmp_path / "prompt_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="lacks the key 'task'"):
        fp.load_prompt_model(tmp_path)
    with pytest.raises(CheckpointError, match="holds no prompt"):
        fp.load_prompt_model(tiny["bert"])


def test_a_prompt_file_from_before_problem_types_holds_a_classifier(tiny, tmp_path):
    make(tiny["bert"], "classes").save_pretrained(tmp_path)
    content = json.loads((tmp_path / "prompt_config.json").read_text())
    del content["problem_type"]
    (tmp_path / "prompt_config.json").write_text(json.dumps(content))
    assert fp.load_prompt_model(tmp_path).problem_type == "single_label_classification"


@pytest.mark.parametrize(("head", "answer"), [("labels", "labels"), ("number", "value"), ("numbers", "values")])
def test_predict_gives_what_the_head_says(tiny, tmp_path, head, answer):
    make(tiny["bert"], head, seed=1).save_pretrained(tmp_path)
    (found,) = predict(TrainOptions(model_name_or_path=str(tmp_path)), [("line 1", "a text")])
    assert found["text"] == "a text"
    if head == "labels":
        likely = {name for name, probability in found["probabilities"].items() if probability > 0.5}
        assert set(found["labels"]) == likely
    else:
        values = [found[answer]] if head == "number" else list(found[answer].values())
        assert len(values) == HEADS[head][1].get("num_labels", 1)
        assert numpy.isfinite(values).all()


def test_every_task_has_its_class():
    elsewhere = {"masked_lm", "causal_lm", "seq2seq_lm"}  # test_masked_lm.py, test_causal_lm.py, test_seq2seq.py
    assert {kind.task for kind, _, _ in HEADS.values()} == set(MODELS) - elsewhere


# --- inside fastNLP's Trainer -----------------------------------------------------------------------------------------


class Losses(Callback):
    def __init__(self):
        super().__init__()
        self.values = []

    def on_before_backward(self, trainer, outputs):
        self.values.append(number(outputs["loss"]))

    def on_evaluate_end(self, trainer, results):
        self.evaluated = results["loss#mean"]


def examples(head):
    """64 texts of 8 tokens. One may be a 9: the first for heads of texts, any for the others; they have to find it."""
    generator = numpy.random.default_rng(0)
    ids = generator.integers(20, 40, (64, 8))
    where = generator.integers(0, 8, 64)
    marked = numpy.where(numpy.arange(8) == where[:, None], 9, ids)
    odd = generator.integers(0, 2, 64)
    some = numpy.where((numpy.arange(8) == 0) & (odd[:, None] == 1), 9, ids)
    if head == "choices":
        both = numpy.stack([ids, marked], axis=1)
        made = {"input_ids": numpy.where(odd[:, None, None], both, both[:, ::-1]), "labels": odd}
    else:
        made = {
            "classes": {"input_ids": some, "labels": odd},
            "labels": {"input_ids": some, "labels": numpy.stack([odd, 1 - odd, odd], axis=1).astype("float32")},
            "number": {"input_ids": some, "labels": odd.astype("float32")},
            "tokens": {"input_ids": marked, "labels": numpy.where(ids % 5 == 0, -100, marked == 9)},
            "questions": {"input_ids": marked, "start_positions": where, "end_positions": where},
        }[head]
    made["attention_mask"] = numpy.ones_like(made["input_ids"])
    return [{name: array[row] for name, array in made.items()} for row in range(64)]


def collate(rows):
    return {name: numpy.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("head", [head for head in HEADS if head != "numbers"])
def test_every_head_learns_inside_a_trainer(tiny, head):
    model, losses = make(tiny["bert"], head, fp.PTuningV2Config(pre_seq_len=4)), Losses()
    data = examples(head)
    sampler = LengthGroupedBatchSampler([8] * len(data), 16, shuffle=True, seed=0)
    made = loader.make_dataloader(data, sampler, collate)
    Trainer(
        model=model,
        driver=fp.backend(),
        device="cpu",
        n_epochs=4,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e-1),
        train_dataloader=made,
        evaluate_dataloaders=made,
        evaluate_every=-4,
        metrics={"mean": MeanLoss()},
        callbacks=[losses],
        progress_bar=None,
    ).run()
    assert len(losses.values) == 16
    start, end = numpy.mean(losses.values[:4]), numpy.mean(losses.values[-4:])
    assert end < 0.8 * start
    assert losses.evaluated < 0.8 * start
