"""Clozes of causal models, whose blank is last: what is read, LAMA, classes by a verbalizer, and what is refused."""

import json

import fastprompt as fp
from fastprompt.cloze.template import written
from fastprompt.commands import lama
from fastprompt.data.dataloader import PadBatch
from fastprompt.data.encoding import encode
from fastprompt.data.examples import ClozeTexts
from fastprompt.errors import ConfigError
from fastprompt.framework import ops
from fastprompt.options.train import TrainOptions

import numpy
import pytest

TEXTS = ["w20 w21", "w30 w31 w32"]


def batch(folder, template):
    rows = encode(ClozeTexts(TEXTS, [0, 1], template, causal=True), fp.load_tokenizer(folder), 32)
    return {name: ops.tensor(x) for name, x in PadBatch(0)(rows).items() if name not in ("token_type_ids", "labels")}


def next_logits(folder, ids, config=None):
    """The logits of what follows, by the language model itself."""
    model = fp.PromptForCausalLM.from_pretrained(folder, config or fp.FineTuningConfig(), seed=3)
    model.eval()
    return ops.to_numpy(model(ops.tensor(numpy.array([ids]))).logits)[0, -1]


def test_three_numbers_and_full_stops_are_written_for_a_causal_model():
    assert written("(3, 2, 1)", causal=True) == "[P][P][P] [X] [P][P][P] [MASK]"
    assert written("(0, 2, 0)", causal=True) == "[X] [P][P] [MASK]"
    assert written("[X] is in [MASK] .", causal=True) == "[X] is in [MASK]"
    assert written("[X] is in [MASK] !", causal=True) == "[X] is in [MASK] !"


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "gemma"])
def test_a_blank_is_scored_as_what_follows_the_text(worded, name):
    folder, template = worded(name), "[X] w5 [MASK]"
    model = fp.PromptForMaskedLM.from_pretrained(folder, fp.ManualConfig(template=template))
    model.eval()
    found = ops.to_numpy(model(**batch(folder, template)).logits)
    for row, ids in zip(found, ([20, 21, 5], [30, 31, 32, 5]), strict=True):
        numpy.testing.assert_allclose(row, next_logits(folder, ids), atol=1e-5)


def test_pseudo_tokens_before_a_text_are_the_prompt_that_stands_before_it(worded):
    folder, template = worded("llama"), "[P][P] [X] [MASK]"
    model = fp.PromptForMaskedLM.from_pretrained(folder, fp.PromptTuningConfig(template=template), seed=3)
    model.eval()
    found = ops.to_numpy(model(**batch(folder, template)).logits)
    before = fp.PromptTuningConfig(num_virtual_tokens=2)
    for row, ids in zip(found, ([20, 21], [30, 31, 32]), strict=True):
        numpy.testing.assert_allclose(row, next_logits(folder, ids, before), atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma"])  # a vocabulary head of its own, and two tied ones
def test_labels_are_scored_by_the_mean_of_their_words(worded, name):
    folder, template = worded(name), "[X] w5 [MASK]"
    config = fp.ManualConfig(template=template, verbalizer={"bad": ["w7", "w8"], "good": "w9"})
    model = fp.PromptForMaskedLM.from_pretrained(folder, config)
    model.eval()
    found = ops.to_numpy(model(**batch(folder, template)).logits)
    whole = next_logits(folder, [20, 21, 5])
    numpy.testing.assert_allclose(found[0], [whole[[7, 8]].mean(), whole[9]], atol=1e-5)


def test_lama_runs_on_a_causal_model(worded, tmp_path):
    folder, data, draw = worded("gpt2"), tmp_path / "data", numpy.random.default_rng(0)
    (data / "P1").mkdir(parents=True)
    (data / "relations.jsonl").write_text(json.dumps({"relation": "P1", "template": "[X] w5 [Y] ."}) + "\n")
    facts = {}
    for split, count in {"train": 48, "dev": 12, "test": 24}.items():
        facts[split] = [(list(draw.integers(10, 60, 2)), int(draw.choice([77, 78]))) for _ in range(count)]
        rows = [{"sub_label": " ".join(f"w{i}" for i in ids), "obj_label": f"w{word}"} for ids, word in facts[split]]
        (data / "P1" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(method, output, **given):
        given = {"model_name_or_path": str(folder), "data_dir": str(data), "device": "cpu", **given}
        return lama.run(TrainOptions(task_name="lama", method=method, output_dir=str(tmp_path / output), **given))

    (row,), _ = run("manual", "manual")
    words, ranks = fp.load_tokenizer(folder).whole_words, []
    assert (words[0], words[-1], len(words)) == (1, 98, 98)
    for ids, word in facts["test"]:
        scores = next_logits(folder, [*ids, 5])[words]
        ranks.append(int((scores >= scores[words.index(word)]).sum()))
    assert row["template"] == "[X] w5 [MASK]"
    assert row["mrr"] == pytest.approx(numpy.mean(1 / numpy.array(ranks)), abs=1e-6)
    settings = {"learning_rate": 3e-2, "num_train_epochs": 6, "per_device_train_batch_size": 8}
    (tuned,), _ = run("p-tuning", "p-tuning", encoder_hidden_size=8, **settings)
    assert tuned["template"] == "[P][P][P] [X] [P][P][P][P][P][P] [MASK]"
    assert tuned["mrr"] > row["mrr"] + 0.2
    (deep,), _ = run("p-tuning-v2", "deep", pre_seq_len=3, **settings)
    assert deep["template"] == "[X] w5 [MASK]"
    assert deep["mrr"] > row["mrr"]


def test_words_after_the_blank_are_refused(worded):
    folder = worded("llama")
    config = fp.ManualConfig(template="[MASK] w5 [X]", verbalizer={"bad": "w7", "good": "w9"})
    with pytest.raises(ConfigError, match=r"goes on behind its blank, which a causal model does not read; end it with"):
        fp.PromptForMaskedLM.from_pretrained(folder, config)
    with pytest.raises(ConfigError, match="end it with"):
        ClozeTexts(TEXTS, [0, 1], "[X] [MASK] w5", causal=True)
