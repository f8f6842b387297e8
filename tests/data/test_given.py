"""What people have at hand goes to `make_dataloader` as it is, or is refused with the fix."""

import fastprompt as fp
from fastprompt.data.examples import LabelledTexts
from fastprompt.data.given import as_examples
from fastprompt.data.stored_texts import StoredTexts
from fastprompt.errors import DataError
from fastprompt.framework import backend, ops

import numpy
import pytest

TEXTS, PAIRS, LABELS = ["a b", "c", "d e f"], ["x", "y", "z"], [0, 1, 1]
ROWS = {"text": TEXTS, "label": LABELS}


def arrays(batch):
    return {name: ops.to_numpy(tensor) for name, tensor in batch.items()}


def batches(data, tokenizer, **options):
    return [
        {name: (tensor.dtype.kind, tensor.tolist()) for name, tensor in arrays(batch).items()}
        for batch in fp.make_dataloader(data, tokenizer, batch_size=2, **options)
    ]


def as_dataset(columns):
    return pytest.importorskip("datasets").Dataset.from_dict(columns)


def as_fastnlp(columns):
    return pytest.importorskip("fastNLP").DataSet(columns)


def as_frame(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def as_dicts(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("make", [dict, as_dicts, as_dataset, as_fastnlp, as_frame])
def test_a_table_of_texts_and_labels_gives_the_same_batches(tiny, make):
    tokenizer = fp.load_tokenizer(tiny["bert"])
    wanted = batches(LabelledTexts(TEXTS, LABELS), tokenizer)
    assert batches(make(ROWS), tokenizer) == batches(make({**ROWS, "idx": [7, 8, 9]}), tokenizer) == wanted
    wanted = batches(LabelledTexts(TEXTS, LABELS, pairs=PAIRS), tokenizer)
    assert batches(make({"sentence1": TEXTS, "sentence2": PAIRS, "label": LABELS}), tokenizer) == wanted
    wanted = batches(LabelledTexts(TEXTS, [0.5, 1.0, 2.0], None), tokenizer)
    assert batches(make({"sentence": TEXTS, "label": [0.5, 1.0, 2.0]}), tokenizer) == wanted


@pytest.mark.once
def test_the_texts_of_a_dataset_stay_in_its_file():
    table = as_dataset(ROWS)
    for given, places in ((table, [0, 1, 2]), (table.select([2, 0]), [2, 0]), (table.with_format("numpy"), [0, 1, 2])):
        found = as_examples(given)
        assert isinstance(found.texts, StoredTexts)
        assert (found.texts, found.labels) == ([TEXTS[i] for i in places], [LABELS[i] for i in places])
        listed = LabelledTexts(list(found.texts), found.labels, found.label_names)
        assert (found.fingerprint, found.identity["texts"]) == (listed.fingerprint, listed.identity["texts"])
    assert found.head(2).select([1]).texts == TEXTS[1:2]
    with pytest.raises(DataError, match="texts: row 1 is None, not a text"):
        as_examples(as_dataset({**ROWS, "text": ["a", None, "b"]}))


@pytest.mark.once
@pytest.mark.parametrize("texts", ["text", "sentence"])
@pytest.mark.parametrize("labels", ["label", "labels", "target"])
def test_columns_of_texts_and_labels_are_known_by_their_names(texts, labels):
    found = as_examples({"idx": [1, 2, 3], texts: TEXTS, labels: LABELS})
    assert (found.texts, found.labels, found.pairs) == (TEXTS, LABELS, None)


@pytest.mark.once
@pytest.mark.parametrize(
    "names",
    [
        *(("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis")),
        *(("question1", "question2"), ("question", "sentence")),
    ],
)
def test_columns_of_pairs_are_known_by_their_names(names):
    found = as_examples({"label": LABELS, **dict(zip(names, (TEXTS, PAIRS), strict=True))})
    assert (found.texts, found.pairs, found.labels) == (TEXTS, PAIRS, LABELS)


@pytest.mark.once
def test_numpys_numbers_are_classes_or_numbers_and_classes_without_names_are_numbered():
    found = as_examples(list(zip(TEXTS, numpy.array([0, 2, 1]), strict=True)))
    assert (found.labels, found.label_names) == ([0, 2, 1], ["LABEL_0", "LABEL_1", "LABEL_2"])
    found = as_examples(list(zip(TEXTS, numpy.array([0.5, 1, 2], dtype="float32"), strict=True)))
    assert (found.labels, found.label_names) == ([0.5, 1.0, 2.0], None)
    assert as_examples([("a", 0)]).label_names == ["LABEL_0", "LABEL_1"]
    assert as_examples({"text": ["a"], "label": [0], "labels": [1]}).labels == [0]


@pytest.mark.once
def test_the_names_that_a_data_set_says_are_those_of_its_labels():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    data = datasets.Dataset.from_dict(ROWS, features=features)
    for names in (None, ["no", "yes"], ["LABEL_0", "LABEL_1"]):
        found = as_examples(data, names)
        assert (found.labels, found.label_names) == (LABELS, ["no", "yes"])
    found = as_examples(data, ["yes", "no"])  # the model's order
    assert (found.labels, found.label_names) == ([1, 0, 0], ["yes", "no"])


def test_lists_of_texts_and_labels_give_the_same_batches(tiny):
    tokenizer = fp.load_tokenizer(tiny["bert"])
    wanted = batches(LabelledTexts(TEXTS, LABELS), tokenizer)
    assert batches(list(zip(TEXTS, numpy.array(LABELS), strict=True)), tokenizer) == wanted
    wanted = batches(LabelledTexts(TEXTS, LABELS, pairs=PAIRS), tokenizer)
    assert batches(list(zip(TEXTS, PAIRS, LABELS, strict=True)), tokenizer) == wanted


def test_labels_that_are_names_are_looked_up_in_the_model(tiny):
    tokenizer = fp.load_tokenizer(tiny["bert"])
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], label_names=["bad", "good"])
    named = {"text": TEXTS, "label": ["bad", "good", "good"]}
    assert batches(named, tokenizer, model=model) == batches(ROWS, tokenizer)
    with pytest.raises(DataError, match=r"The labels are names, such as 'bad', .*give model="):
        batches(named, tokenizer)
    with pytest.raises(DataError, match="Row 1: the label is 'fine'; there are bad, good"):
        batches({"text": TEXTS, "label": ["bad", "fine", "good"]}, tokenizer, model=model)
    number = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], num_labels=1)
    wanted = batches(LabelledTexts(TEXTS, [0.0, 1.0, 1.0], None), tokenizer)
    assert batches(ROWS, tokenizer, model=number) == wanted


@pytest.mark.once
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"words": TEXTS, "label": LABELS},
            "No column of words, label is known to hold the texts; make",
        ),
        ({"text": TEXTS}, "No column of text is known to hold the labels"),
        ([], "data is empty"),
        (TEXTS, r"A row is 'a b'; rows are \(text, label\)"),
        ([("a", 0), ("b",)], "Row 1 has not the columns of the first row, text, label"),
        ([("a", 0), "bc"], "Row 1 has not the columns of the first row, text, label"),
        ([{"text": "a", "label": 0}, ("b", 1)], "Row 1 has not the columns of the first row, text, label"),
        ([{"text": "a", "label": 0}, {"text": "b"}], "Row 1: the label is None"),
        ({"text": ["a", None], "label": [0, 1]}, "texts: row 1 is None"),
        ({"input_ids": [[2, 3]], "label": [0]}, "token ids already; .*DataCollatorWithPadding"),
        (3, "data is of the type int"),
    ],
)
def test_what_has_no_one_meaning_is_refused_with_the_fix(tiny, data, message):
    with pytest.raises(DataError, match=message):
        fp.make_dataloader(data, fp.load_tokenizer(tiny["bert"]))


def test_several_data_sets_are_refused(tiny):
    from fastNLP.io import DataBundle

    bundle = DataBundle(datasets={"train": as_fastnlp(ROWS)})
    several = pytest.importorskip("datasets").DatasetDict({"train": as_dataset(ROWS)})
    for data in (bundle, several):
        with pytest.raises(DataError, match="holds several data sets; give one of them, such as its 'train'"):
            fp.make_dataloader(data, fp.load_tokenizer(tiny["bert"]))


def test_a_tokenizer_may_be_named_by_its_folder(tiny):
    wanted = batches(ROWS, fp.load_tokenizer(tiny["bert"]))
    assert batches(ROWS, tiny["bert"]) == batches(ROWS, str(tiny["bert"])) == wanted
    with pytest.raises(DataError, match=r"tokenizer is of the type dict; give fp.load_tokenizer\(model\)"):
        fp.make_dataloader(ROWS, {})


@pytest.mark.skipif(backend() != "torch", reason="transformers' tokenizers import torch")
def test_transformers_tokenizer_stands_for_that_of_its_folder(tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"])
    assert batches(ROWS, tokenizer) == batches(ROWS, fp.load_tokenizer(tiny["bert"]))
    tokenizer.add_tokens(["brandnew"])
    with pytest.raises(DataError, match=r"has other tokens than .*; save it by its save_pretrained\(folder\)"):
        fp.make_dataloader(ROWS, tokenizer)
    tokenizer.name_or_path = "/nowhere"
    with pytest.raises(DataError, match="names no folder that can be read"):
        fp.make_dataloader(ROWS, tokenizer)
