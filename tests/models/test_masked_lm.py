"""Cloze prompts under each framework: logits at the blank, pseudo tokens in place, verbalizers, training, saving."""

import json
import shutil

import fastprompt as fp
from fastprompt.cloze.template import Template
from fastprompt.commands.evaluate import evaluate_prompt
from fastprompt.commands.predict import predict
from fastprompt.commands.train import train
from fastprompt.data.dataloader import PadBatch
from fastprompt.data.examples import ClozeTexts
from fastprompt.errors import CheckpointError, ConfigError, DataError
from fastprompt.framework import ops
from fastprompt.methods import shallow
from fastprompt.metrics.accuracy import Accuracy
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.tokenizer import load_tokenizer
from fastprompt.training.trainer import evaluate

import numpy
import pytest
from fastNLP import Trainer

FAMILIES = ["bert", "roberta", "distilbert", "electra", "ernie", "albert", "modernbert", "modernbert-biases", "mpnet"]
FAMILIES += ["deberta", "deberta-v2", "deberta-v3"]
PLAIN = "[X] a [MASK]"
PLACED = "[P] a [P] [X] [MASK] [P]"
WORDS = {"bad": ["b"], "good": ["g", "h"]}
METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=3, init_std=0.5, template=PLAIN, verbalizer=WORDS),
    "projection": fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, template=PLAIN, verbalizer=WORDS),
    "shifted": fp.PTuningV2Config(pre_seq_len=3, shift_positions=True, template=PLAIN, verbalizer=WORDS),
    "p-tuning": fp.PTuningConfig(template=PLACED, verbalizer=WORDS, encoder_hidden_size=8),
    "p-tuning-before": fp.PTuningConfig(num_virtual_tokens=3, template=PLAIN, verbalizer=WORDS, encoder="mlp"),
    "prompt-tuning": fp.PromptTuningConfig(template=PLACED, verbalizer=WORDS),
    "shallow-prefix": fp.ShallowPrefixConfig(template=PLACED, verbalizer=WORDS),
    "fine-tuning": fp.FineTuningConfig(template=PLAIN, verbalizer=WORDS),
    "linear-probe": fp.LinearProbeConfig(template=PLAIN, verbalizer=WORDS),
    "bitfit": fp.BitFitConfig(template=PLAIN, verbalizer=WORDS),
}


def make(folder, config, **options):
    return fp.PromptForMaskedLM.from_pretrained(folder, config, **options)


def batch(model, texts=("c d e", "f"), **others):
    tokenizer = load_tokenizer(model.checkpoint.directory)
    rows = Template(model.method_config.template).lay_out(texts, tokenizer, 99)
    arrays = PadBatch(tokenizer.pad_token_id)(rows)
    return {name: ops.tensor(numpy.array(array)) for name, array in {**arrays, **others}.items()}


def logits(model, **inputs):
    model.eval()
    return ops.to_numpy(model(**(inputs or batch(model))).logits)


# --- the head ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(fp.backend() != "torch", reason="transformers is torch; test_parity compares the others with it")
@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_blanks_logits_are_those_of_transformers(tiny, family, portable):
    import torch
    from transformers import AutoModelForMaskedLM

    folder = tiny[f"{family}-mlm"]
    model = make(folder, fp.ManualConfig(template=PLAIN), portable=portable)
    inputs = batch(model)
    stock = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = stock(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    expected = expected[torch.arange(2), inputs["mask_positions"]].numpy()
    assert numpy.abs(expected).max() > 0.1
    numpy.testing.assert_allclose(logits(model, **inputs), expected, atol=1e-5, rtol=0)


def test_a_head_is_read_in_the_layout_that_the_checkpoint_holds(tiny, tmp_path):
    """DeBERTa's as published lies in the newer one, and config.json says nothing of it."""
    folder = shutil.copytree(tiny["deberta-v3-mlm"], tmp_path / "published")
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("legacy") is False
    (folder / "config.json").write_text(json.dumps(config))
    model = make(folder, METHODS["p-tuning-v2"])
    assert model.fresh_tensors() == []
    assert {name for name in model.named_tensors() if name.startswith("lm_predictions.lm_head.")} == {
        "lm_predictions.lm_head.bias",
        *(f"lm_predictions.lm_head.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias")),
    }
    numpy.testing.assert_array_equal(logits(model), logits(make(tiny["deberta-v3-mlm"], METHODS["p-tuning-v2"])))


def test_a_pretrained_head_is_frozen_with_the_backbone(tiny):
    model = make(tiny["bert-mlm"], METHODS["p-tuning-v2"])
    assert list(model.tuned_parameters()) == ["prompt.embedding.weight"]
    assert model.fresh_tensors() == []
    heads = {name for name in model.named_tensors() if name.startswith("cls.")}
    assert heads == {
        "cls.predictions.bias",
        *(f"cls.predictions.transform.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias")),
    }
    assert heads <= set(make(tiny["bert-mlm"], METHODS["fine-tuning"]).tuned_parameters())
    assert heads == set(make(tiny["bert-mlm"], METHODS["linear-probe"]).tuned_parameters())


def test_a_fresh_head_is_trained_along_and_warned_of(tiny, tmp_path):
    with pytest.warns(UserWarning, match="has no masked-LM head of its own; a fresh one is trained along"):
        model = make(tiny["bert"], METHODS["p-tuning-v2"])
    values = {name: ops.to_numpy(p) for name, p in model.tuned_parameters().items() if name.startswith("cls.")}
    assert len(values) == 5
    assert (values["cls.predictions.transform.LayerNorm.weight"] == 1).all()
    assert not values["cls.predictions.bias"].any()
    assert values["cls.predictions.transform.dense.weight"].std() > 0.01
    model.save_pretrained(tmp_path)
    assert (logits(fp.load_prompt_model(tmp_path)) == logits(model)).all()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_only_the_words_that_are_asked_for_are_computed(tiny, family):
    """ "bad" is b's logit, "good" the mean of g's and h's."""
    folder = tiny[f"{family}-mlm"]
    every = logits(make(folder, fp.ManualConfig(template=PLAIN)))
    found = logits(make(folder, fp.ManualConfig(template=PLAIN, verbalizer=WORDS)))
    b, g, h = (load_tokenizer(folder).id_of_word(word) for word in "bgh")
    assert every.shape == (2, 200)
    numpy.testing.assert_allclose(found, numpy.stack([every[:, b], every[:, [g, h]].mean(1)], 1), atol=1e-5, rtol=0)


def test_labels_stand_in_the_order_of_the_data(tiny):
    config = METHODS["p-tuning-v2"]
    turned = make(tiny["bert-mlm"], config, label_names=["good", "bad"])
    assert turned.label_names == ["good", "bad"]
    numpy.testing.assert_allclose(logits(turned)[:, ::-1], logits(make(tiny["bert-mlm"], config)), atol=1e-6)


# --- pseudo tokens ----------------------------------------------------------------------------------------------------


def test_the_prompt_stands_at_its_places_among_the_words(tiny):
    model = make(tiny["bert-mlm"], METHODS["prompt-tuning"], seed=3)
    inputs = batch(model)
    found = ops.to_numpy(
        model.backbone_inputs(**{n: x for n, x in inputs.items() if n != "mask_positions"})["inputs_embeds"]
    )
    words = ops.to_numpy(model.backbone.word_embeddings().weight)
    prompt = ops.to_numpy(model.prompt())
    ids, pseudo = (ops.to_numpy(inputs[name]) for name in ("input_ids", "pseudo_tokens"))
    assert sorted(pseudo[0].tolist()) == sorted([0] * (pseudo.shape[1] - 3) + [1, 2, 3])
    for row in range(len(ids)):
        for place, number in enumerate(pseudo[row]):
            expected = prompt[number - 1] if number else words[ids[row, place]]
            assert (found[row, place] == expected).all()


def test_each_place_hands_its_gradient_to_its_pseudo_token():
    draw = numpy.random.default_rng(0)
    words, prompt, weight = (draw.standard_normal(shape).astype("float32") for shape in ((2, 4, 3), (2, 3), (2, 4, 3)))
    pseudo = numpy.array([[1, 0, 2, 0], [0, 2, 0, 1]])
    tuned = [ops.tensor(array) for array in (words, prompt)]
    for x in tuned:
        x.stop_gradient = False  # paddle's
        if hasattr(x, "requires_grad_"):
            x.requires_grad_(True)
        if hasattr(x, "start_grad"):  # jittor's
            x.start_grad()
    filled = shallow.fill_in(*tuned, ops.tensor(pseudo))
    loss = ops.sum(ops.reshape(filled * ops.tensor(weight), (-1,)), 0)
    of_words, of_prompt = ops.gradients(loss, tuned)
    assert (of_words == weight * (pseudo == 0)[..., None]).all()
    for number in (1, 2):
        numpy.testing.assert_allclose(of_prompt[number - 1], weight[pseudo == number].sum(0), rtol=1e-6)


def test_a_prompt_in_a_template_leaves_the_positions_to_the_input(tiny):
    inside, before = (make(tiny["bert-mlm"], METHODS[name]) for name in ("p-tuning", "p-tuning-before"))
    assert (inside.max_length, before.max_length) == (160, 157)


def test_a_batch_without_its_places_is_refused(tiny):
    model = make(tiny["bert-mlm"], METHODS["p-tuning"])
    inputs = batch(model)
    with pytest.raises(DataError, match="pseudo_tokens are missing"):
        model(**{name: x for name, x in inputs.items() if name != "pseudo_tokens"})
    with pytest.raises(DataError, match="mask_positions are missing"):
        model(**{name: x for name, x in inputs.items() if name != "mask_positions"})


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_cloze(tiny, method):
    model = make(tiny["bert-mlm"], METHODS[method])
    model.train()
    tuned = model.tuned_parameters()
    inputs = batch(model, labels=[1, 0])
    found = ops.gradients(model.train_step(**inputs)["loss"], list(tuned.values()))
    reached = {name for name, gradient in zip(tuned, found, strict=True) if gradient.any()}
    assert {name for name in tuned if not name.endswith("key.bias")} <= reached
    model.eval()
    answered = model.evaluate_step(**inputs)
    assert ops.to_numpy(answered["pred"]).shape == ops.to_numpy(answered["target"]).shape == (2,)


@pytest.mark.parametrize("method", ["p-tuning", "p-tuning-v2"])
def test_a_cloze_learns_inside_a_trainer(tiny, method):
    """A deep prefix that texts with an x are good; a shallow one, which moves these frozen layers little, that all
    are bad."""
    model = make(tiny["bert-mlm"], METHODS[method])
    draw = numpy.random.default_rng(0)
    labels = (draw.integers(0, 2, 64) * (method == "p-tuning-v2")).tolist()
    texts = [" ".join(["x" if label else "e", *draw.choice(list("cdf"), 2)]) for label in labels]
    tokenizer = fp.load_tokenizer(tiny["bert-mlm"])
    data = ClozeTexts(texts, labels, model.method_config.template)
    loader = fp.make_dataloader(data, tokenizer, batch_size=16, shuffle=True)
    before = evaluate(model, loader, "cpu", {"accuracy": Accuracy()})
    Trainer(
        model=model,
        driver=fp.backend(),
        device="cpu",
        n_epochs=20 if method == "p-tuning-v2" else 5,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e-1 if method == "p-tuning-v2" else 3e-2),
        train_dataloader=loader,
        progress_bar=None,
    ).run()
    after = evaluate(model, loader, "cpu", {"accuracy": Accuracy()})
    assert after["loss"] < 0.7 * before["loss"]


# --- saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_cloze_opens_with_template_and_verbalizer(tiny, tmp_path, method):
    model = make(tiny["bert-mlm"], METHODS[method], seed=3)
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "prompt_config.json").read_text())
    assert content["template"] == METHODS[method].template
    assert content["verbalizer"] == WORDS
    loaded = fp.load_prompt_model(tmp_path)
    assert type(loaded) is fp.PromptForMaskedLM
    assert loaded.method_config == model.method_config
    assert (logits(loaded) == logits(model)).all()


def test_a_prompt_without_its_encoder_fills_blanks_alike(tiny, tmp_path):
    from safetensors.numpy import load_file, save_file

    model = make(tiny["bert-mlm"], METHODS["p-tuning"], seed=3)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "prompt.safetensors")
    without_encoder = {name: array for name, array in tensors.items() if not name.startswith("prompt.")}
    assert set(without_encoder) == {"embedding"} != set(tensors)
    save_file(without_encoder, tmp_path / "prompt.safetensors")
    content = json.loads((tmp_path / "prompt_config.json").read_text())
    content["tensors"] = {"embedding": content["tensors"]["embedding"]}
    (tmp_path / "prompt_config.json").write_text(json.dumps(content))
    numpy.testing.assert_allclose(logits(fp.load_prompt_model(tmp_path)), logits(model), atol=1e-6)


def test_predict_names_a_label_or_the_likeliest_words(tiny, tmp_path):
    for folder, config in {"labels": METHODS["p-tuning"], "words": fp.PTuningConfig(template=PLACED)}.items():
        make(tiny["bert-mlm"], config, seed=3).save_pretrained(tmp_path / folder)
    lines = [("line 1", "c d e"), ("line 2", "f")]
    found = list(predict(TrainOptions(model_name_or_path=str(tmp_path / "labels")), lines))
    assert [set(answer["probabilities"]) for answer in found] == [{"bad", "good"}] * 2
    (first, second) = predict(TrainOptions(model_name_or_path=str(tmp_path / "words")), lines)
    model = fp.load_prompt_model(tmp_path / "words")
    best = logits(model)[:, 5:31].argmax(1)  # among the letters; all other ids are no words
    expected = [chr(ord("a") + place) for place in best]
    assert [first["label"], second["label"]] == expected
    assert len(first["probabilities"]) == 10


def test_the_command_trains_a_cloze_on_texts_with_classes(tiny, tmp_path):
    """From a file with words for the labels to metrics, and back from the saved prompt."""
    (tmp_path / "words.json").write_text('{"negative": ["b"], "positive": ["g", "h"]}')
    given = {
        "model_name_or_path": str(tiny["bert-mlm"]),
        "task_name": "reviews",
        "method": "p-tuning",
        "encoder_hidden_size": 8,
        "template": "[P] [X] [P] [MASK] .",
        "verbalizer": str(tmp_path / "words.json"),
        "max_train_samples": 32,
        "max_eval_samples": 16,
        "max_seq_length": 24,
        "output_dir": str(tmp_path / "out"),
        "device": "cpu",
    }
    metrics = train(TrainOptions(**given))
    assert metrics["eval_samples"] == 16
    model = fp.load_prompt_model(tmp_path / "out")
    assert (model.task, model.label_names) == ("masked_lm", ["negative", "positive"])
    assert (model.method_config.num_virtual_tokens, model.method_config.template) == (2, given["template"])
    names = ("task_name", "max_eval_samples", "max_seq_length", "device")
    saved = TrainOptions(model_name_or_path=str(tmp_path / "out"), **{name: given[name] for name in names})
    assert evaluate_prompt(saved)["accuracy"] == metrics["accuracy"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"verbalizer": '{"negative": "b", "positive": "g"}'}, "A cloze needs both: --template"),
        ({"template": "[X] [MASK]"}, "A cloze needs both: --template"),
        ({"template": "[X] [MASK]", "verbalizer": '{"bad": "b", "good": "g"}'}, "has words for bad, good; the labels"),
        ({"method": "manual", "template": "[X] [MASK]"}, "manual trains nothing; it is there for --task_name lama"),
    ],
)
def test_a_command_without_what_a_cloze_needs_is_refused(tiny, tmp_path, given, message):
    folders = {"model_name_or_path": str(tiny["bert-mlm"]), "output_dir": str(tmp_path)}
    with pytest.raises(ConfigError, match=message):
        train(TrainOptions(**folders, task_name="reviews", max_train_samples=8, device="cpu", **given))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_prompt_longer_than_the_positions_is_refused(tiny):
    with pytest.raises(ConfigError, match="A prompt of 159 leaves no room in the backbone's 160 positions"):
        make(tiny["bert-mlm"], fp.PTuningConfig(template="(53, 53, 53)"))


def test_a_family_whose_head_is_unknown_is_refused_by_name(tiny):
    with pytest.raises(CheckpointError, match=r"whose masked-LM head fastprompt does not know|runs on torch only"):
        make(tiny["roformer"], METHODS["p-tuning-v2"])


def test_a_decoder_of_its_own_is_refused(tiny, tmp_path):
    for file in tiny["bert-mlm"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "tie_word_embeddings": False}))
    with pytest.raises(CheckpointError, match="not tied to its word embeddings"):
        make(tmp_path, METHODS["p-tuning-v2"])


def test_an_untrained_head_fills_no_blank_by_itself(tiny):
    with pytest.raises(CheckpointError, match="has no masked-LM head of its own"):
        make(tiny["bert"], fp.ManualConfig(template=PLAIN))
    with pytest.raises(ConfigError, match="manual trains nothing, and sequence_classification has a head to train"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.ManualConfig())


def test_a_model_without_a_template_is_refused(tiny):
    with pytest.raises(ConfigError, match="needs a template"):
        make(tiny["bert-mlm"], fp.PTuningV2Config())


def test_templates_are_refused_where_no_blank_is_filled(tiny):
    with pytest.raises(ConfigError, match="leave them off for sequence_classification"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert-mlm"], METHODS["p-tuning"])


def test_labels_that_the_verbalizer_has_no_words_for_are_refused(tiny):
    with pytest.raises(ConfigError, match="has words for bad, good; the labels are bad, fair"):
        make(tiny["bert-mlm"], METHODS["p-tuning"], label_names=["bad", "fair"])


def test_a_cloze_has_no_exported_form(tiny, tmp_path):
    if fp.backend() != "torch":
        pytest.skip("export runs on torch")
    with pytest.raises(ConfigError, match="masked_lm has no exported form"):
        make(tiny["bert-mlm"], METHODS["p-tuning"]).export(tmp_path / "model.onnx")
