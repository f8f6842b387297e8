"""Heads in prompt files, under predict, and inside fastNLP's Trainer."""

import json

import fastprompt as fp
from fastprompt.commands.predict import predict
from fastprompt.data.sampler import LengthGroupedBatchSampler
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import BACKENDS, loader, ops, optim
from fastprompt.metrics.loss import MeanLoss
from fastprompt.models.auto import MODELS
from fastprompt.options.train import TrainOptions

import numpy
import pytest
from fastNLP import Callback, Trainer

from support.heads import CHOICES, HEADS, IDS, batch, logits, make, number

# A line of input for `predict`.
ASKED = {
    "classes": "a fine film",
    "tokens": "a fine film",
    "questions": json.dumps({"question": "what ?", "context": "a fine film"}),
    "choices": json.dumps({"text": "it rained", "choices": ["wet", "dry"]}),
}


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
