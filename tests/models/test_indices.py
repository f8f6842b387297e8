"""Indices that the model has no rows for are refused by name, where data are made and at a step, for every task."""

import fastprompt as fp
from fastprompt.data.examples import LabelledTexts, TaggedTokens
from fastprompt.errors import DataError
from fastprompt.framework import ops

import numpy
import pytest

IDS = numpy.array([[2, 7, 3], [2, 8, 3]])
CHOICES = numpy.stack([IDS, IDS])
TEMPLATE = fp.PTuningConfig(template="[X] [P] [P] [MASK]", verbalizer={"a": "b", "c": "d"})
HEADS = {
    "classes": (fp.PromptForSequenceClassification, {"num_labels": 3}, {"labels": [2, 0]}),
    "tokens": (
        fp.PromptForTokenClassification,
        {"num_labels": 3},
        {"labels": [[-100, 2, 1], [-100, 0, -100]]},
    ),
    "choices": (fp.PromptForMultipleChoice, {}, {"labels": [1, 0]}),
    "questions": (fp.PromptForQuestionAnswering, {}, {"start_positions": [1, 9], "end_positions": [2, 1]}),
    "blanks": (
        *(fp.PromptForMaskedLM, {"config": TEMPLATE}),
        {"labels": [1, 0], "mask_positions": [2, 1], "pseudo_tokens": [[0, 1, 2], [1, 2, 0]]},
    ),
}
CASES = [
    *(
        (head, "input_ids", 200, "has 200; the model has 200 word embeddings.*resize_token_embeddings")
        for head in HEADS
    ),
    *((head, "token_type_ids", 2, "has 2; the model has 2 token types") for head in HEADS),
    ("classes", "input_ids", -1, "has -1; the model has 200 word embeddings"),
    ("classes", "labels", 3, r"has 3; the model has 3 classes.*and -100 leaves a label out"),
    ("classes", "labels", -1, "has -1; the model has 3 classes"),
    ("tokens", "labels", 3, "has 3; the model has 3 classes"),
    ("tokens", "labels", -2, "has -2; the model has 3 classes"),
    ("choices", "labels", 2, "has 2; the model has 2 choices"),
    ("blanks", "labels", 2, "has 2; the model has 2 classes"),
    ("blanks", "mask_positions", 3, "has 3; the model has 3 tokens in the batch's rows"),
    ("blanks", "pseudo_tokens", 3, "has 3; the model has 3 pseudo tokens and 0"),
]


def make(tiny, head):
    kind, options, _ = HEADS[head]
    return kind.from_pretrained(tiny["bert"], **options)


def batch(head, name=None, value=None):
    ids = CHOICES if head == "choices" else IDS
    arrays = {"input_ids": ids, "attention_mask": (ids > 0).astype("int64"), "token_type_ids": ids * 0}
    arrays = {name: array.copy() for name, array in arrays.items()}
    arrays |= {column: numpy.array(values) for column, values in HEADS[head][2].items()}
    if name is not None:
        arrays[name].reshape(-1)[-1] = value
    return {column: ops.tensor(array) for column, array in arrays.items()}


@pytest.mark.parametrize(("head", "name", "value", "message"), CASES)
def test_steps_refuse_them(tiny, head, name, value, message):
    model = make(tiny, head)
    for step in (model.train_step, model.evaluate_step):
        with pytest.raises(DataError, match=f"^{name}: row .* of a batch {message}"):
            step(**batch(head, name, value))


@pytest.mark.parametrize("portable", [True, False])
def test_token_types_of_a_model_that_has_none_pass(tiny, portable):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["deberta"], num_labels=3, portable=portable)
    model.train_step(**batch("classes"))
    model.evaluate_step(**batch("classes"))


@pytest.mark.parametrize("head", HEADS)
def test_later_batches_are_looked_at_on_a_cpu_and_right_ones_pass(tiny, head):
    model = make(tiny, head)
    model.train_step(**batch(head))
    model.evaluate_step(**batch(head))
    with pytest.raises(DataError, match=r"^input_ids: row"):
        model.train_step(**batch(head, "input_ids", 200))


def test_a_language_models_labels_are_words(causal):
    model = fp.PromptForCausalLM.from_pretrained(causal["gpt2"])
    ids = numpy.array([[5, 6, 7]])
    inputs = {"input_ids": ids, "attention_mask": ids * 0 + 1, "labels": ids}
    size = model.vocabulary_size
    for name in ("input_ids", "labels"):
        wrong = inputs | {name: numpy.array([[5, 6, size]])}
        for step in (model.train_step, model.evaluate_step):
            with pytest.raises(DataError, match=f"^{name}: row 0 of a batch has {size}; the model has {size} wor"):
                step(**{column: ops.tensor(array) for column, array in wrong.items()})


def test_several_labels_and_numbers_are_no_indices(tiny):
    for problem_type, labels in (("multi_label_classification", [[1, 0], [0, 1]]), ("regression", [[5, -7], [9, 8]])):
        options = {"num_labels": 2, "problem_type": problem_type}
        model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], **options)
        model.train_step(**batch("classes") | {"labels": ops.tensor(numpy.array(labels))})


def test_a_loader_that_knows_its_model_refuses_them_before_the_first_batch(tiny):
    tokenizer = fp.load_tokenizer(tiny["bert"])
    texts = LabelledTexts(["a", "b", "c"], [0, 1, 2], ["x", "y", "z"])
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], num_labels=2)
    with pytest.raises(DataError, match=r"^labels: row 2 of a batch has 2; the model has 2 classes"):
        fp.make_dataloader(texts, tokenizer, model=model)
    fp.make_dataloader(texts.head(2), tokenizer, model=model)
    model = fp.PromptForTokenClassification.from_pretrained(tiny["bert"], num_labels=2)
    tagged = TaggedTokens([["a", "\u200b"], ["b"]], [[0, 1], [2]], ["O", "B-X", "I-X"])
    with pytest.raises(DataError, match=r"^labels: row 1 of a batch has 2; the model has 2 classes"):
        fp.make_dataloader(tagged, tokenizer, model=model)
