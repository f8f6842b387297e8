"""A text without tokens, where a tokenizer adds none around it (GPT-2, BLOOM, Qwen): one token stands for it."""

import json

import fastprompt as fp
from fastprompt.cloze.template import Template
from fastprompt.commands.predict import predict
from fastprompt.data.dataloader import PadBatch
from fastprompt.data.encoding import IGNORE_INDEX, encode
from fastprompt.data.examples import ClozeTexts, LabelledTexts, MultipleChoices, TaggedTokens, TextToText
from fastprompt.errors import CheckpointError
from fastprompt.framework import ops
from fastprompt.options.train import TrainOptions

import numpy
import pytest

BOS = 1  # of the small causal checkpoints, by their config.json
EMPTY = ["", " ", "\u3000", "\t"]


def logits(model, *texts):
    batch = PadBatch(0)(fp.load_tokenizer(model.checkpoint.directory)(texts))
    names = ("input_ids", "attention_mask")
    return ops.to_numpy(model(**{name: ops.tensor(batch[name]) for name in names}).logits)


@pytest.mark.parametrize("family", ["gpt2", "bloom", "qwen2"])
def test_a_classifier_trains_on_empty_texts_and_answers_them(worded, tmp_path, family):
    model = fp.PromptForSequenceClassification.from_pretrained(worded(family), fp.PTuningV2Config(pre_seq_len=2))
    model.train()
    tokenizer = fp.load_tokenizer(model.checkpoint.directory)
    rows = encode(LabelledTexts(["", "w3 w4", ""], [0, 1, 0]), tokenizer, 8)
    batch = PadBatch(0)([{name: row[name] for name in ("input_ids", "labels")} for row in rows])
    loss = model.train_step(**{name: ops.tensor(array) for name, array in batch.items()})["loss"]
    gradients = ops.gradients(loss, model.trainable_parameters())
    assert numpy.isfinite(ops.to_numpy(loss))
    assert all(numpy.isfinite(gradient).all() and gradient.any() for gradient in gradients)
    model.eval()
    alone = numpy.concatenate([logits(model, text) for text in ("w3 w4 w5", "")])
    numpy.testing.assert_allclose(logits(model, "w3 w4 w5", ""), alone, atol=1e-5)
    model.save_pretrained(tmp_path / "prompt")
    options = TrainOptions(model_name_or_path=str(tmp_path / "prompt"))
    found = list(predict(options, [("line 1", ""), ("line 2", "w3 w4 w5")]))
    assert [answer["text"] for answer in found] == ["", "w3 w4 w5"]
    weights = numpy.exp(alone[1] - alone[1].max())
    numpy.testing.assert_allclose(list(found[0]["probabilities"].values()), weights / weights.sum(), atol=1e-5)


def test_a_causal_cloze_answers_empty_texts(worded, tmp_path):
    words = {"no": ["w5"], "yes": ["w6"]}
    config = fp.PTuningV2Config(pre_seq_len=2, template="[X] [MASK]", verbalizer=words)
    model = fp.PromptForMaskedLM.from_pretrained(worded("gpt2"), config, label_names=list(words))
    model.save_pretrained(tmp_path / "prompt")
    options = TrainOptions(model_name_or_path=str(tmp_path / "prompt"))
    lines = [(f"line {place}", text) for place, text in enumerate(("", "w3 w4", " "))]
    first, full, last = predict(options, lines)
    assert (first["label"], first["probabilities"]) == (last["label"], pytest.approx(last["probabilities"], abs=1e-5))
    assert full["probabilities"] != first["probabilities"]
    assert all(numpy.isfinite(list(answer["probabilities"].values())).all() for answer in (first, full, last))


@pytest.mark.once
def test_every_kind_of_examples_has_a_token_in_each_row(worded):
    tokenizer = fp.load_tokenizer(worded("gpt2"))
    rows = encode(LabelledTexts(EMPTY, [0] * 4), tokenizer, 8)
    assert [(row["input_ids"], row["token_type_ids"]) for row in rows] == [([BOS], [0])] * 4
    (pair, half) = encode(LabelledTexts(["", ""], [0, 0], pairs=["", "w3"]), tokenizer, 8)
    assert (pair["input_ids"], half["input_ids"]) == ([BOS], [3])
    (choices,) = encode(MultipleChoices([[("", ""), ("", "w3")]], [0]), tokenizer, 8)
    assert choices["input_ids"] == [[BOS], [3]]
    (blank,) = tokenizer.words([["\u2003"]], None, 9)
    assert (blank["input_ids"], blank["word_ids"]) == ([BOS], [None])  # the token is no word's
    (tags, some) = encode(TaggedTokens([["\u2003"], ["w3", "\u2003"]], [[0], [1, 0]], ["O", "B-A"]), tokenizer, 8)
    assert (tags["input_ids"], tags["labels"], tags["unread_tags"]) == ([BOS], [IGNORE_INDEX], [0])
    assert (some["input_ids"], some["labels"]) == ([3], [1])
    (written,) = encode(TextToText([""], ["w3"]), tokenizer, 8)
    assert (written["input_ids"], written["labels"]) == ([BOS], [3, 2])
    (blank, full) = encode(ClozeTexts(["", "w3"], [0, 0], "[X] [MASK]", causal=True), tokenizer, 8)
    assert (blank["input_ids"], blank["mask_positions"]) == ([BOS], 0)
    assert (full["input_ids"], full["mask_positions"]) == ([3], 0)
    (row,) = Template("[P] [X] [MASK]").lay_out([""], tokenizer, 8, causal=True)
    assert (len(row["input_ids"]), row["pseudo_tokens"]) == (1, [1])  # a pseudo token is one


@pytest.mark.once
@pytest.mark.parametrize(
    ("settings", "config", "expected"),
    [
        ({"bos_token": "w5", "eos_token": "w6", "pad_token": "w7"}, {"bos_token_id": 8}, 5),
        ({"eos_token": "w6", "pad_token": "w7"}, {"bos_token_id": 8}, 8),
        ({"bos_token": None, "eos_token": "w6", "pad_token": "w7"}, {"bos_token_id": None}, 6),
        ({"pad_token": "w7"}, {"eos_token_id": [9, 8]}, 9),
        ({"pad_token": {"content": "w7"}}, {}, 7),
        ({}, {"pad_token_id": 4}, 4),
    ],
)
def test_it_is_the_token_that_begins_a_text_or_else_ends_it_or_pads(worded, settings, config, expected):
    folder = described(worded("gpt2"), settings, config)
    assert fp.load_tokenizer(folder)([""])[0]["input_ids"] == [expected]


@pytest.mark.once
def test_a_folder_that_names_no_such_token_says_so_where_a_text_is_empty(worded):
    tokenizer = fp.load_tokenizer(described(worded("gpt2"), {}, {}))
    assert tokenizer(["w3"])[0]["input_ids"] == [3]
    with pytest.raises(CheckpointError, match=r"A text has no tokens, and .*gpt2 names no token to stand for it"):
        tokenizer(["w3", ""])


def described(folder, settings, config):
    """The folder with other special tokens."""
    path = folder / "config.json"
    content = {name: value for name, value in json.loads(path.read_text()).items() if not name.endswith("token_id")}
    path.write_text(json.dumps({**content, **config}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
