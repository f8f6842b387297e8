"""The user's own texts, and the batches that every kind of data becomes."""

import csv
import json

import fastprompt as fp
from fastprompt.data.examples import LabelledTexts, MultipleChoices, SquadData, SquadQuestion
from fastprompt.data.readers.tabular import load_own
from fastprompt.data.squad_windows import make_windows
from fastprompt.data.tasks import load_task
from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import ops

import pytest

CSV = 'text,other,label\n"One, two",x,good\nThree,y,bad\n'
TSV = "text\tother\tlabel\nOne, two\tx\tgood\nThree\ty\tbad\n"
LINES = '{"text": "One, two", "label": "good"}\n\n{"text": "Three", "label": "bad", "more": null}\n'


def read(tmp_path, name, text, *arguments, **options):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return load_own(tmp_path, "train", ["text"], *arguments, **options)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "text"), [("train.csv", CSV), ("train.tsv", TSV), ("train.jsonl", LINES)])
def test_csv_tsv_and_json_lines_are_read(tmp_path, name, text, end):
    found = read(tmp_path, name, "\ufeff" + text.replace("\n", end))
    assert found == LabelledTexts(["One, two", "Three"], [1, 0], ["bad", "good"])


def test_pairs_and_columns_of_other_names(tmp_path):
    (tmp_path / "dev.csv").write_text("a,b,c\nx,y,1\n")
    options = {"text_columns": ["b", "a"], "label_column": "c", "label_names": ["0", "1"]}
    found = load_task("classification", None, tmp_path, "validation", **options)
    assert (found.texts, found.pairs, found.labels) == (["y"], ["x"], [1])


def test_numbers_are_classes_in_their_order(tmp_path):
    found = read(tmp_path, "train.csv", "text,label\na,10\nb,9\nc,-1\n")
    assert (found.label_names, found.labels) == (["-1", "9", "10"], [2, 1, 0])
    (tmp_path / "train.csv").unlink()
    rows = [{"text": "a", "label": value} for value in (2, 1)]
    assert read(tmp_path, "train.jsonl", "\n".join(map(json.dumps, rows))).label_names == ["1", "2"]
    rows = [{"text": "a", "label": value} for value in (True, False)]
    assert read(tmp_path, "train.jsonl", "\n".join(map(json.dumps, rows))).labels == [1, 0]


def test_a_regression_takes_numbers(tmp_path):
    found = read(tmp_path, "train.csv", "text,label\na,0.5\nb,2\nc,-1e3\n", regression=True)
    assert (found.labels, found.label_names) == ([0.5, 2.0, -1000.0], None)
    with pytest.raises(DataError, match="line 2: the label is 'high'; a regression takes numbers"):
        read(tmp_path, "train.csv", "text,label\na,high\n", regression=True)
    with pytest.raises(DataError, match="the label is 'inf'"):
        read(tmp_path, "train.csv", "text,label\na,inf\n", regression=True)


def test_quoted_fields_hold_commas_quotes_and_line_ends(tmp_path):
    found = read(tmp_path, "train.csv", 'text,label\n"He said ""no"",\nthen left",a\nx,b\ny,c,\n'.replace("y,c,\n", ""))
    assert found.texts == ['He said "no",\nthen left', "x"]
    with pytest.raises(DataError, match="line 4: 3 columns where the header has 2"):
        read(tmp_path, "train.csv", 'text,label\n"a\nb",a\nx,b,c\n')


PANDAS = [
    ('He said "no"\tloudly', "bad"),
    ("two\nlines", "good"),
    ("plain, with a comma", "bad"),
    ('"all of it"', "good"),
    ('"', "bad"),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_tsv_that_pandas_wrote_is_read_back(tmp_path, end):
    """As DataFrame.to_csv(sep="\\t", index=False) writes it: csv's excel-tab with quotes where they are needed."""
    with (tmp_path / "train.tsv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator=end).writerows([("text", "label"), *PANDAS])
    found = load_own(tmp_path, "train", ["text"])
    assert found.texts == [text for text, _ in PANDAS]
    assert found.labels == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    "texts",
    [
        ['"Quoted" at its start', "plain"],
        ['5" wide', '6" wide'],
        ['an "inner" word', '"whole"'],
        ['"opens here', 'closes there"'],
        ['"a" and "b"', "c"],
    ],
)
def test_quotes_of_a_tsv_that_are_no_csvs_are_characters(tmp_path, texts):
    rows = [f"{text}\t{label}" for text, label in zip(texts, "ab", strict=True)]
    assert read(tmp_path, "train.tsv", "\n".join(["text\tlabel", *rows])).texts == texts


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.jsonl"])
def test_spaces_around_labels_and_columns_are_no_part_of_them(tmp_path, name):
    rows = [("a", "pos"), ("b", "pos "), ("c", " neg"), ("d", "neg")]
    if name == "train.jsonl":
        text = "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows)
    else:
        mark = {"train.csv": ",", "train.tsv": "\t"}[name]
        text = "\n".join([f"text {mark}label ", *(f"{text}{mark}{label}" for text, label in rows)])
    found = read(tmp_path, name, text, " label")
    assert (found.label_names, found.labels) == (["neg", "pos"], [1, 1, 0, 0])
    assert found.notes == [f"{tmp_path / name}: 2 labels have spaces around them, which are no part of a class's name."]
    assert load_own(tmp_path, "train", ["text "], label_names=["pos", " neg "]).labels == [0, 0, 1, 1]


def test_a_header_with_spaces_after_its_commas_goes_with_rows_that_have_them(tmp_path):
    (tmp_path / "train.csv").write_text('text, label, b\nx, "good", " 1, 2"\ny, bad, 3\n')
    found = load_task("classification", None, tmp_path, "train", text_columns=["text", " b"])
    assert (found.texts, found.pairs, found.labels) == (["x", "y"], [" 1, 2", "3"], [1, 0])
    assert found.notes == []
    (tmp_path / "train.csv").write_text("text,label\n x,good\ny,bad\n")  # without them, spaces are a text's
    assert load_own(tmp_path, "train", ["text"]).texts == [" x", "y"]


def test_hidden_files_are_no_data(tmp_path):
    """macOS writes an AppleDouble ._NAME beside each file on foreign disks and in archives."""
    for name in ("._train.csv", "._data.json"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07\x00")
    assert read(tmp_path, "train.csv", CSV).labels == [1, 0]
    (tmp_path / "train.csv").unlink()
    (tmp_path / "data.json").write_text(json.dumps([{"instruction": "a", "output": "b"}] * 4))
    assert len(load_task("instruction", None, tmp_path, "train")) == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.csv", "words,label\na,b\n", r"train.csv has the columns words, label; it lacks 'text'"),
        ("train.csv", "text,class\na,b\n", r"train.csv has the columns text, class; it lacks 'label'"),
        ("train.tsv", "words\tlabel\na\tb\n", r"train.tsv has the columns words, label; it lacks 'text'"),
        ("train.jsonl", '{"text": "a", "label": "b"}\n{"text": "a"}', "line 2 has the columns text; it lacks 'label'"),
        ("train.csv", "text,text,label\na,b,c\n", "has two columns 'text'"),
        ("train.csv", "text,label\na,b\nc\n", "line 3: 1 columns where the header has 2"),
        ("train.csv", 'text,label\n"a,b\n', r"line 2: this is no CSV .*is a quote not closed"),
        ("train.csv", "text,label\n", "has no rows"),
        ("train.csv", "", "has no rows"),
        ("train.csv", "text,label\na,0.5\n", r"line 2: the label is '0.5'; classes are words or whole numbers"),
        ("train.csv", "text,label\na,1.0\n", "the label is '1.0'; classes"),
        ("train.csv", "text,label\na,1e3\n", "the label is '1e3'; classes"),
        ("train.jsonl", '{"text": "a", "label": 1.5}', "line 1: the label is 1.5; classes"),
        ("train.jsonl", '{"text": "a", "label": null}', "line 1: the label is empty"),
        ("train.jsonl", '{"text": "a", "label": ["b"]}', r"the label is \['b'\]"),
        ("train.csv", "text,label\na,\n", "line 2: the label is empty"),
        ("train.jsonl", '{"text": 5, "label": "b"}', "line 1: 'text' is int, not str"),
        ("train.jsonl", '{"text": "a"', r"train.jsonl, line 1: no valid JSON"),
        ("train.jsonl", '{"text": "\\ud83d", "label": "b"}', "line 1: no valid JSON .half a character"),
        ("train.jsonl", "5", "line 1: an object is expected, not int"),
        ("train.csv", "text,label\na,b\nc,b\n", "all labels are 'b'; at least two classes are expected"),
    ],
)
def test_a_file_that_cannot_be_learnt_from_says_where(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, name, text)


def test_labels_that_training_does_not_know_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"line 3: the label 'bad' does not occur in training, whose labels are good"):
        read(tmp_path, "train.csv", CSV, label_names=["good", "x"])


def test_columns_of_texts_must_be_named(tmp_path):
    for columns in (None, [], ["a", "b", "c"]):
        with pytest.raises(ConfigError, match="--text_columns names"):
            load_task("classification", None, tmp_path, "train", text_columns=columns)


def test_a_folder_has_one_file_of_a_split(tmp_path):
    (tmp_path / "test.csv").write_text(CSV)
    with pytest.raises(DataError, match=r"has no train file, such as train\.csv"):
        load_own(tmp_path, "train", ["text"])
    with pytest.raises(DataError, match="has no train file"):
        load_own(tmp_path / "nowhere", "train", ["text"])
    for name in ("train.csv", "train.tsv"):
        (tmp_path / name).write_text(CSV)
    with pytest.raises(DataError, match=r"several train files \(train.csv, train.tsv\)"):
        load_own(tmp_path, "train", ["text"])


def test_a_folder_that_datasets_saved_is_read(tmp_path):
    import datasets

    names = datasets.ClassLabel(names=["good", "bad"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names, "word": datasets.Value("string")})
    rows = {"text": ["One", "Two"], "label": [1, 0], "word": ["b", "a"]}
    part = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": part, "dev": part.select([0])}).save_to_disk(str(tmp_path))
    found = load_own(tmp_path, "train", ["text"])
    assert found == LabelledTexts(["One", "Two"], [1, 0], ["good", "bad"])  # the data set's own order
    assert load_own(tmp_path, "train", ["text"], "word") == LabelledTexts(["One", "Two"], [1, 0], ["a", "b"])
    assert load_own(tmp_path, "validation", ["text"], label_names=found.label_names).labels == [1]
    with pytest.raises(DataError, match="train has the columns text, label, word; it lacks 'body'"):
        load_own(tmp_path, "train", ["body"])
    datasets.DatasetDict({"train": part}).save_to_disk(str(tmp_path / "one"))
    with pytest.raises(DataError, match="one has the splits train; it lacks 'validation'"):
        load_own(tmp_path / "one", "validation", ["text"])
    (tmp_path / "one" / "train" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read by datasets"):
        load_own(tmp_path / "one", "train", ["text"])


# -- batches ---------------------------------------------------------------------------------------------------------


def only_batch(data, folder, **options):
    (batch,) = fp.make_dataloader(data, fp.load_tokenizer(folder), **options)
    return {name: ops.to_numpy(value) for name, value in batch.items()}


def test_pairs_numbers_and_groups_reach_the_batch(tiny):
    data = LabelledTexts(["ab", "a"], [1, 2.5], None, ["c", "de"], groups=[7, 8])
    batch = only_batch(data, tiny["bert"])
    assert batch["labels"].tolist() == [1.0, 2.5]
    assert batch["labels"].dtype == "float32"
    assert batch["groups"].tolist() == [7, 8]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert only_batch(LabelledTexts(["a"], [1], None), tiny["bert"])["labels"].dtype == "float32"
    assert only_batch(LabelledTexts(["a"], [1]), tiny["bert"])["labels"].dtype.kind == "i"


def test_choices_reach_the_batch(tiny):
    data = MultipleChoices([[("a", "b"), ("a", "bcd")], [("ab", "c"), ("ab", "d")]], [1, 0])
    batch = only_batch(data, tiny["bert"], max_length=7)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["token_type_ids"].shape == (2, 2, 7)
    lengths = [[5, 7], [6, 6]]
    order = [0, 1] if batch["labels"].tolist() == [1, 0] else [1, 0]  # by length
    assert batch["attention_mask"].sum(-1).tolist() == [lengths[i] for i in order]
    one = fp.load_tokenizer(tiny["bert"])(["a"], ["bcd"], max_length=7)[0]["input_ids"]
    assert batch["input_ids"][order.index(0), 1].tolist() == one


def test_windows_reach_the_batch(tiny):
    data = SquadData([SquadQuestion("q", "a", "b cd", [("cd", 2)]), SquadQuestion("r", "a", "bcd ef", [])], True)
    windows = make_windows(data, fp.load_tokenizer(tiny["bert"]), 20, max_query_length=4)
    batch = only_batch(windows, tiny["bert"])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 9)
    found = {name: batch[name].tolist() for name in ("window_ids", "start_positions", "end_positions")}
    assert found == {"window_ids": [0, 1], "start_positions": [4, 0], "end_positions": [5, 0]}
    assert batch["attention_mask"].sum(-1).tolist() == [7, 9]
