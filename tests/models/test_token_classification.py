"""A tagger that is never wrong: its tags come back to their words, and every metric says so."""

import json

import fastprompt as fp
from fastprompt.commands.serving import predict_split
from fastprompt.data.examples import TaggedTokens
from fastprompt.framework import ops
from fastprompt.inference.reading import Reading
from fastprompt.inference.tasks import answer, read_lines
from fastprompt.metrics.entity_f1 import EntityF1
from fastprompt.metrics.loss import MeanLoss
from fastprompt.models.losses import class_loss
from fastprompt.models.outputs import ModelOutput
from fastprompt.options.groups import DataOptions, EvaluationOptions

import fastNLP
import numpy
import pytest

TAGS = ["O", "B-LOC", "B-PER", "I-PER"]
FIRST_LETTERS = {"p": "B-LOC", "j": "B-PER", "s": "I-PER"}  # of a word; any other's tag is O
UNSEEN = ["\u200b", "\ufeff", "\u00ad", "\u3000", "\x07"]  # BERT's normalizer leaves nothing of them


class Perfect(fp.PromptForTokenClassification):
    """Tags a word by its first letter; the tiny tokenizer's tokens are letters."""

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, output_hidden_states=False):
        ids = ops.to_numpy(input_ids)
        tokenizer = fp.load_tokenizer(self.checkpoint.directory)
        logits = numpy.zeros((*ids.shape, len(TAGS)), "float32")
        logits[..., 0] = 1
        for letter, tag in FIRST_LETTERS.items():
            logits[ids == tokenizer.plain_ids(letter)[0], TAGS.index(tag)] = 2
        logits = ops.tensor(logits, like=input_ids)
        return ModelOutput(None if labels is None else class_loss(logits, labels), logits)


@pytest.fixture
def perfect(tiny):
    model = Perfect.from_pretrained(tiny["bert"], label_names=TAGS)
    model.eval()
    return model


def reading(model, max_length=40):
    return Reading(model, DataOptions(max_seq_length=max_length), EvaluationOptions())


def tags_of(words):
    return [FIRST_LETTERS.get(word[0], "O") for word in words]


def tagged(*sentences, gold=tags_of):
    return TaggedTokens(list(sentences), [[TAGS.index(tag) for tag in gold(words)] for words in sentences], TAGS)


def scores(model, data, metrics, max_length=30, batch_size=2):
    loader = fp.make_dataloader(
        data, fp.load_tokenizer(model.checkpoint.directory), max_length=max_length, batch_size=batch_size
    )
    settings = {"dataloaders": loader, "metrics": metrics, "progress_bar": None, "verbose": 0}
    return fastNLP.Evaluator(model=model, driver=fp.get_driver(model), **settings).run()


@pytest.mark.parametrize("unseen", UNSEEN)
def test_tags_come_back_to_their_words_past_those_that_leave_no_token(perfect, unseen):
    lines = [
        ("line 1", json.dumps({"tokens": [unseen, "john", "went", "to", "paris", "today"]})),
        ("line 2", json.dumps({"tokens": ["john", unseen, unseen, "paris", unseen]})),
        ("line 3", json.dumps({"tokens": [unseen]})),
    ]
    by = reading(perfect)
    answers = answer(read_lines(lines, by, structured=True), by)
    assert [found["tags"] for found in answers] == [
        [None, "B-PER", "O", "O", "B-LOC", "O"],
        ["B-PER", None, None, "B-LOC", None],
        [None],
    ]
    assert by.notes[0].startswith("5 words of 3 in 3 sentences are not read (5 have no token of this vocabulary)")


def test_bare_lines_and_splits_and_cut_sentences_are_answered_alike(perfect, tmp_path):
    data = read_lines([("line 1", "\u200b john to \u00ad paris today")], reading(perfect))
    (found,) = answer(data, reading(perfect, 12))  # [CLS] j o h n t o p a r i [SEP]
    assert found["tags"] == [None, "B-PER", "O", None, "B-LOC", None]
    data = tagged(["\u200b", "john", "so"], ["in", "\ufeff", "paris"])
    predict_split(reading(perfect), data, "cpu", tmp_path / "answers.jsonl")
    found = [json.loads(line)["tags"] for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert found == [[None, "B-PER", "I-PER"], ["O", None, "B-LOC"]]


def test_a_predicate_does_not_shift_them(tiny):
    model = Perfect.from_pretrained(tiny["bert"], label_names=TAGS)
    model.eval()
    line = json.dumps({"tokens": ["\u200b", "john"], "predicate": "paris"})
    assert answer(read_lines([("line 1", line)], reading(model), structured=True), reading(model))[0]["tags"] == [
        None,
        "B-PER",
    ]


def test_evaluation_packs_the_labelled_tokens_to_the_front(perfect):
    data = tagged(["john", "so", "in", "paris"], ["in"])
    (batch,) = fp.make_dataloader(data, fp.load_tokenizer(perfect.checkpoint.directory))
    found = {name: ops.to_numpy(x) for name, x in perfect.evaluate_step(**batch).items()}
    assert found["seq_len"].tolist() == [1, 4]
    assert found["target"].tolist() == [[0, -100, -100, -100], [2, 3, 0, 1]]
    assert found["pred"][1].tolist() == [2, 3, 0, 1]
    assert found["pred"].shape == (2, 4)
    assert found["pred"][0, 0] == 0


def test_rows_without_a_label_have_none(perfect):
    ids = numpy.array([[2, 5, 3], [2, 6, 3]])
    labels = numpy.full_like(ids, -100)
    inputs = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "labels": labels}
    found = perfect.evaluate_step(**{name: ops.tensor(array) for name, array in inputs.items()})
    assert ops.to_numpy(found["seq_len"]).tolist() == [0, 0]
    assert ops.to_numpy(found["target"]).tolist() == [[-100], [-100]]
    assert float(ops.to_numpy(found["loss"]).reshape(())) == 0


def vocabulary():
    made = fastNLP.Vocabulary(unknown=None, padding=None)
    made.add_word_lst(TAGS)
    assert [made.to_index(tag) for tag in TAGS] == list(range(len(TAGS)))
    return made


def test_fastnlps_metrics_score_a_perfect_tagger(perfect):
    """Sentences of several lengths, with padding, special tokens and second tokens of words between the labels."""
    data = tagged(["john", "so", "in", "paris", "x"], ["paris"], ["a", "bc"], ["john", "paris", "so"])
    metrics = {"acc": fastNLP.Accuracy(), "f": fastNLP.SpanFPreRecMetric(vocabulary()), "entity": EntityF1(TAGS)}
    found = scores(perfect, data, {**metrics, "loss": MeanLoss()})
    assert [found[name] for name in ("acc#acc", "f#f", "pre#f", "rec#f", "entity_f1#entity")] == [1.0] * 5
    assert found["loss#loss"] > 0


def test_fastnlps_span_f_is_conllevals(perfect):
    """A tag each of three words is wrong."""
    golds = iter([["B-PER", "I-PER", "O", "O", "O"], ["B-LOC"], ["O", "B-LOC"], ["B-PER", "B-LOC", "O"]])
    sentences = (["john", "so", "in", "paris", "x"], ["paris"], ["a", "bc"], ["john", "paris", "so"])
    data = tagged(*sentences, gold=lambda _: next(golds))
    metrics = {"acc": fastNLP.Accuracy(), "f": fastNLP.SpanFPreRecMetric(vocabulary()), "entity": EntityF1(TAGS)}
    found = scores(perfect, data, metrics)
    # predicted 6: john so, paris | paris | - | john, paris, so; gold 5; right 4
    assert found["acc#acc"] == pytest.approx(8 / 11, abs=1e-6)
    for theirs, ours, value in (("pre", "precision", 4 / 6), ("rec", "recall", 4 / 5), ("f", "entity_f1", 8 / 11)):
        assert found[f"{theirs}#f"] == pytest.approx(value, abs=1e-6)
        assert found[f"{ours}#entity"] == pytest.approx(value)


def test_words_that_are_not_read_count_as_missed(perfect):
    """conlleval has a line for every word of the file, whatever a tagger could read of it."""
    golds = iter([["B-PER", "O", "I-PER"], ["O", "B-PER", "I-PER"], ["B-LOC", "O"]])
    sentences = (["john", "\u200b", "so"], ["\ufeff", "john", "\u00ad"], ["paris", "x"])
    found = scores(perfect, tagged(*sentences, gold=lambda _: next(golds)), {"entity": EntityF1(TAGS)})
    # gold: PER 0, PER 2 | PER 1-2 | LOC 0; predicted: PER 0, PER 2 | PER 1 | LOC 0
    assert found["precision#entity"] == found["recall#entity"] == 3 / 4
    # cut after 6 tokens: "john" is read, "paris" after it is not
    found = scores(perfect, tagged(["john", "paris", "x"], ["x"]), {"entity": EntityF1(TAGS)}, max_length=6)
    assert (found["precision#entity"], found["recall#entity"]) == (1, 1 / 2)
