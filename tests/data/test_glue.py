"""GLUE's and SuperGLUE's official files, and what P-Tuning v2 makes of their rows."""

import json
import sys
from collections import Counter
from types import SimpleNamespace

from fastprompt.data.examples import LabelledTexts, MultipleChoices
from fastprompt.data.readers.files import Record
from fastprompt.data.readers.glue import GLUE, load_glue
from fastprompt.data.readers.superglue import SUPERGLUE, copa_from_rows, load_superglue, superglue_from_rows
from fastprompt.data.tasks import load_task
from fastprompt.errors import ConfigError, DataError

import pytest

MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
)
MNLI_ROW = "0\t1\t1n\tfiction\t( a )\t( b )\t(S a)\t(S b)\tHe left.\tHe stayed.\t"

# task -> (name of its train file, header or None, rows, what is read: text, pair, label)
FILES = {
    "cola": (
        None,
        ["gj04\t1\t\tThey drank.", "bc01\t0\t*\tThey drank the pub."],
        [("They drank.", None, 1), ("They drank the pub.", None, 0)],
    ),
    "sst2": ("sentence\tlabel", ['a fine "film\t1', "dull\t0"], [('a fine "film', None, 1), ("dull", None, 0)]),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        ["1\t7\t8\tHe said so.\tSo he said.", "0\t9\t10\tA.\tB."],
        [("He said so.", "So he said.", 1), ("A.", "B.", 0)],
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        ["0\tcaptions\tf\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t5.000", "1\tc\tf\t2012\t4\tn\tn\tA.\tB.\t0.75"],
        [("A plane.", "An air plane.", 5.0), ("A.", "B.", 0.75)],
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        ["3\t5\t6\tHow?\tIn which way?\t1", "4\t7\t8\tA?\tB?\t0"],
        [("How?", "In which way?", 1), ("A?", "B?", 0)],
    ),
    "mnli": (
        MNLI + "\tsentence1\tsentence2\tlabel1\tgold_label",
        [MNLI_ROW + "neutral\tcontradiction", MNLI_ROW + "x\tentailment", MNLI_ROW + "x\tneutral"],
        [("He left.", "He stayed.", 2), ("He left.", "He stayed.", 0), ("He left.", "He stayed.", 1)],
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel",
        ["0\tWho?\tHe did.\tentailment", "1\tWho?\tNo.\tnot_entailment"],
        [("Who?", "He did.", 0), ("Who?", "No.", 1)],
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel",
        ["0\tA.\tB.\tnot_entailment", "1\tA.\tC.\tentailment"],
        [("A.", "B.", 1), ("A.", "C.", 0)],
    ),
    "wnli": (
        "index\tsentence1\tsentence2\tlabel",
        ["0\tA.\tB.\t1", "1\tA.\tC.\t0"],
        [("A.", "B.", 1), ("A.", "C.", 0)],
    ),
}


def write(path, header, rows, end="\n"):
    path.write_text(end.join([*([header] if header else []), *rows]) + end, encoding="utf-8", newline="")


def triples(data):
    return list(zip(data.texts, data.pairs or [None] * len(data), data.labels, strict=True))


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_each_official_form_is_read(tmp_path, name, end):
    header, rows, expected = FILES[name]
    write(tmp_path / "train.tsv", header, rows, end)
    found = load_glue(name, "train", tmp_path)
    assert triples(found) == expected
    assert found.notes == []
    assert found.label_names == (None if name == "stsb" else list(GLUE[name].label_names))


def test_mnli_has_two_development_sets(tmp_path):
    header, rows, _ = FILES["mnli"]
    write(tmp_path / "dev_matched.tsv", header, rows[:1])
    write(tmp_path / "dev_mismatched.tsv", header, rows[1:])
    assert load_glue("mnli", "validation", tmp_path).labels == [2]
    assert load_task("glue", "mnli", tmp_path, "validation_mismatched").labels == [0, 1]


def test_mrpc_is_split_by_glues_ids(tmp_path):
    header, rows, expected = FILES["mrpc"]
    write(tmp_path / "msr_paraphrase_train.txt", "\ufeff" + header, rows)
    write(tmp_path / "dev_ids.tsv", None, ["9\t10"])
    assert triples(load_glue("mrpc", "train", tmp_path)) == expected[:1]
    assert triples(load_glue("mrpc", "validation", tmp_path)) == expected[1:]
    (tmp_path / "dev_ids.tsv").unlink()
    with pytest.raises(DataError, match=r"There is no file .*dev_ids.tsv"):
        load_glue("mrpc", "train", tmp_path)


def test_qqps_broken_lines_are_left_out_and_counted(tmp_path):
    header, rows, expected = FILES["qqp"]
    write(tmp_path / "train.tsv", header, [rows[0], "9\t1\t2\tbroken", rows[1]])
    found = load_glue("qqp", "train", tmp_path)
    assert triples(found) == expected
    (note,) = found.notes
    assert "train.tsv: 1 lines have too few columns and are left out (the first: 3)" in note
    write(tmp_path / "train.tsv", header, [rows[0] + "\tmore"])
    with pytest.raises(DataError, match="line 2: 7 columns where the header has 6"):
        load_glue("qqp", "train", tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("cola", ["gj04\t2\t\tA."], "line 1: the label is '2'; CoLA's are 0 and 1"),
        ("cola", ["gj04\t1\tA."], "line 1: 3 columns where the header has 4"),
        ("rte", ["0\tA.\tB.\tmaybe"], "line 2: the label is 'maybe'; RTE's are entailment and not_entailment"),
        ("mnli", [MNLI_ROW + "x\t-"], "the label is '-'; MNLI's are entailment, neutral and contradiction"),
        ("stsb", ["0\tc\tf\t2\t4\tn\tn\tA.\tB.\thigh"], "line 2: the score is 'high'; STS-B's are numbers from 0 to 5"),
        ("stsb", ["0\tc\tf\t2\t4\tn\tn\tA.\tB.\t5.1"], "the score is '5.1'"),
        ("stsb", ["0\tc\tf\t2\t4\tn\tn\tA.\tB.\tnan"], "the score is 'nan'"),
        ("wnli", ["0\tA.\tB."], "line 2: 3 columns where the header has 4"),
        ("qnli", [], "has no rows; QNLI's have the columns question<TAB>sentence<TAB>label"),
    ],
)
def test_a_row_that_is_not_the_tasks_says_where(tmp_path, name, rows, message):
    write(tmp_path / "train.tsv", FILES[name][0], rows)
    with pytest.raises(DataError, match=message):
        load_glue(name, "train", tmp_path)


def test_another_tasks_file_is_refused(tmp_path):
    write(tmp_path / "train.tsv", *FILES["qnli"][:2])
    with pytest.raises(DataError, match="has the columns index, question, sentence, label; it lacks 'sentence1'"):
        load_glue("rte", "train", tmp_path)


def test_the_real_rte_is_read(shared_data):
    folder = shared_data("rte")
    train, dev = load_glue("rte", "train", folder), load_glue("rte", "validation", folder)
    assert (len(train), len(dev)) == (2490, 277)
    assert Counter(dev.labels) == {0: 146, 1: 131}
    assert dev.texts[0].startswith("Dana Reeve") and dev.pairs[0] == "Christopher Reeve had an accident."


@pytest.mark.parametrize("name", list(GLUE))
def test_the_hubs_columns_are_asked_for(monkeypatch, name):
    """The hub cannot be reached here: its column names are those of nyu-mll/glue's card."""
    columns = {
        "cola": ["sentence"],
        "sst2": ["sentence"],
        "qqp": ["question1", "question2"],
        "mnli": ["premise", "hypothesis"],
        "qnli": ["question", "sentence"],
    }.get(name, ["sentence1", "sentence2"])
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((*arguments, options["split"]))
        return {**{column: [f"{column} text"] for column in columns}, "label": [1]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    found = load_glue(name, "validation")
    assert asked == [("nyu-mll/glue", name, "validation_matched" if name == "mnli" else "validation")]
    assert triples(found) == [(f"{columns[0]} text", f"{columns[1]} text" if columns[1:] else None, 1)]


# -- SuperGLUE -------------------------------------------------------------------------------------------------------

WSC = {"span1_text": "The cat", "span1_index": 0, "span2_text": "it", "span2_index": 4}
MULTIRC = {
    "idx": 3,
    "version": 1.1,
    "passage": {
        "text": "Ann left.",
        "questions": [
            {"idx": 5, "question": "Who left?", "answers": [{"text": "Ann", "label": 1}, {"text": "Bo", "label": 0}]},
            {"idx": 6, "question": "Who stayed?", "answers": [{"text": "Ann", "label": 0}]},
        ],
    },
}
ROWS = {
    "boolq": (
        [{"question": "is it", "passage": "It is.", "label": True}, {"question": "q", "passage": "p", "label": False}],
        [("is it", "It is.", 1), ("q", "p", 0)],
    ),
    "cb": (
        [{"premise": "A.", "hypothesis": "B.", "label": name} for name in ("neutral", "entailment", "contradiction")],
        [("A.", "B.", 2), ("A.", "B.", 0), ("A.", "B.", 1)],
    ),
    "rte": ([{"premise": "A.", "hypothesis": "B.", "label": "not_entailment", "idx": 0}], [("A.", "B.", 1)]),
    "wic": (
        [{"word": "bank", "sentence1": "By the bank.", "sentence2": "A bank pays.", "start1": 7, "label": False}],
        [("bank: By the bank.", "bank: A bank pays.", 0)],
    ),
    "wsc": (
        [{"text": "The cat slept as it was tired.", "target": WSC, "label": True}],
        [("The cat slept as *it* was tired.", "The cat", 1)],
    ),
    "multirc": (
        [MULTIRC, {**MULTIRC, "idx": 4}],
        [("Ann left.", "Who left? Ann", 1), ("Ann left.", "Who left? Bo", 0), ("Ann left.", "Who stayed? Ann", 0)] * 2,
    ),
}
COPA = {
    "premise": "It rained.",
    "choice1": "It got wet.",
    "choice2": "It snowed.",
    "question": "effect",
    "label": 0,
}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("name", list(ROWS))
def test_each_task_is_posed_as_p_tuning_v2_poses_it(tmp_path, name):
    rows, expected = ROWS[name]
    write_lines(tmp_path / "val.jsonl", rows)
    found = load_superglue(name, "validation", tmp_path)
    assert triples(found) == expected
    assert found.label_names == list(SUPERGLUE[name].label_names)
    assert (found.groups is not None) == (name == "multirc")


def test_answers_to_one_question_are_one_group(tmp_path):
    write_lines(tmp_path / "val.jsonl", ROWS["multirc"][0])
    first, second, third, *others = load_superglue("multirc", "validation", tmp_path).groups
    assert first == second != third
    assert not {first, third} & set(others)


def places(*rows):
    return [Record("hub", f"row {number}", row) for number, row in enumerate(rows)]


def test_the_hubs_rows_are_the_same_examples():
    flat = [
        {"paragraph": "Ann left.", "question": question, "answer": answer, "label": label, "idx": index}
        for question, answer, label, index in [
            ("Who left?", "Ann", 1, {"paragraph": 3, "question": 5, "answer": 0}),
            ("Who left?", "Bo", 0, {"paragraph": 3, "question": 5, "answer": 1}),
            ("Who stayed?", "Ann", 0, {"paragraph": 3, "question": 6, "answer": 0}),
        ]
    ]
    found = superglue_from_rows("multirc", places(*flat))
    assert triples(found) == ROWS["multirc"][1][:3]
    assert found.groups[0] == found.groups[1] != found.groups[2]
    wsc = {"text": "The cat slept as it was tired.", **WSC, "label": 1}
    assert triples(superglue_from_rows("wsc", places(wsc))) == ROWS["wsc"][1]
    assert superglue_from_rows("cb", places({"premise": "A.", "hypothesis": "B.", "label": 2})).labels == [2]


@pytest.mark.parametrize("name", [*SUPERGLUE, "copa"])
def test_the_hub_is_asked_for_what_scripts_made(monkeypatch, name):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((*arguments, options))
        return [COPA] if name == "copa" else ROWS[name][0]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert len(load_superglue(name, "train")) >= 1
    assert asked == [("aps/super_glue", name, {"split": "train", "revision": "refs/convert/parquet"})]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("boolq", {"question": "q", "passage": "p"}, "line 1: the key 'label' is missing"),
        ("boolq", {"question": "q", "passage": "p", "label": "yes"}, "line 1: the label is 'yes'; there are False"),
        ("boolq", {"question": "q", "label": True}, "line 1: the key 'passage' is missing"),
        ("cb", {"premise": "A.", "hypothesis": "B.", "label": True}, "the label is True; there are entailment"),
        ("cb", {"premise": "A.", "hypothesis": "B.", "label": 3}, "the label is 3"),
        ("rte", {"premise": "A.", "hypothesis": None, "label": "entailment"}, "'hypothesis' is NoneType, not str"),
        ("wsc", {"text": "A b", "target": {**WSC, "span2_index": 2}, "label": True}, "span2_index is 2; the text"),
        ("wsc", {"text": "A b", "target": {}, "label": True}, "line 1.target: the key 'span2_index' is missing"),
        ("multirc", {"passage": {"text": "A"}}, "line 1.passage: the key 'questions' is missing"),
        (
            "multirc",
            {"passage": {"text": "A", "questions": [{"question": "q", "answers": [{"text": "a"}]}]}},
            r"line 1.passage.questions\[0\].answers\[0\]: the key 'label' is missing",
        ),
    ],
)
def test_a_line_that_is_not_the_tasks_says_where(tmp_path, name, row, message):
    write_lines(tmp_path / "train.jsonl", [row])
    with pytest.raises(DataError, match=message):
        load_superglue(name, "train", tmp_path)


def test_lines_that_are_no_json_say_where(tmp_path):
    (tmp_path / "train.jsonl").write_text('\n{"a": 1\n')
    with pytest.raises(DataError, match=r"train.jsonl, line 2: no valid JSON"):
        load_superglue("boolq", "train", tmp_path)
    (tmp_path / "train.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match=r"train.jsonl, line 1: an object is expected, not list"):
        load_superglue("boolq", "train", tmp_path)
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no rows of BoolQ"):
        load_superglue("boolq", "train", tmp_path)


def test_copa_asks_for_causes_and_effects():
    cause = {**COPA, "question": "cause", "label": 1}
    found = copa_from_rows(places(COPA, cause))
    assert found.choices[0] == [("It rained. so", "It got wet."), ("It rained. so", "It snowed.")]
    assert found.choices[1][0][0] == "It rained. because"
    assert (found.labels, found.num_choices, len(found.head(1))) == ([0, 1], 2, 1)


def test_more_choices_are_read_too():
    assert copa_from_rows(places({**COPA, "choice3": "It dried.", "label": 2})).num_choices == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": 2}, "row 1: the label is 2; there are 2 choices, counted from 0"),
        ({"label": -1}, "the label is -1"),
        ({"label": "0"}, "'label' is str, not int"),
        ({"choice3": "It dried."}, "row 1: it has 3 choices; the first row has 2"),
        ({"question": "why"}, "the question is 'why'; it is cause or effect"),
        ({"choice2": 5}, "'choice2' is int, not str"),
    ],
)
def test_choices_that_do_not_fit_are_refused(row, message):
    with pytest.raises(DataError, match=message):
        copa_from_rows(places(COPA, {**COPA, **row}))


def test_one_choice_is_none():
    row = {key: value for key, value in COPA.items() if key != "choice2"}
    with pytest.raises(DataError, match="row 0: it has 1 choices; two or more are expected"):
        copa_from_rows(places(row))


def test_the_real_copa_is_read(shared_data):
    found = load_task("superglue", "copa", shared_data("copa"), "validation")
    assert (len(found), found.num_choices) == (100, 2)
    assert found.choices[0][found.labels[0]] == ("The man turned on the faucet. so", "Water flowed from the spout.")


# -- what readers hand out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelledTexts(["a", "b"], [0]), "different lengths: 2 texts, 1 labels"),
        (lambda: LabelledTexts(["a"], [2]), "Row 0: the label is 2; classes are whole numbers from 0 to 1"),
        (lambda: LabelledTexts(["a"], [0.5]), "the label is 0.5"),
        (lambda: LabelledTexts(["a"], [-1]), "the label is -1"),
        (lambda: LabelledTexts(["a"], [float("inf")], None), "the label is inf; a regression takes numbers"),
        (lambda: LabelledTexts(["a"], [0], pairs=[]), "1 texts, 0 pairs, 1 labels"),
        (lambda: MultipleChoices([[("a", "b")] * 2, [("a", "b")]], [0, 0]), "Row 1 has 1 choices, the first row 2"),
        (lambda: MultipleChoices([[("a", "b")] * 2], [2]), "the label is 2"),
    ],
)
def test_examples_that_do_not_fit_together_are_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_the_first_rows_keep_all_columns():
    data = LabelledTexts(["a", "b"], [0, 1], ["x", "y"], ["c", "d"], [5, 5], ["note"])
    assert data.head(1) == LabelledTexts(["a"], [0], ["x", "y"], ["c"], [5], ["note"])
    assert data.head(None) == data


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", None, None), "The task is none; there are --task_name glue, superglue, qa, ner, srl, reviews"),
        (("qnli", None, None), "The task is qnli; there are --task_name glue"),
        (
            ("glue", None, None),
            "--dataset_name is missing; glue has cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli",
        ),
        (("glue", "copa", None), "--dataset_name is copa; glue has"),
        (("superglue", "record", None), "superglue has boolq, cb, rte, wic, wsc, multirc, copa"),
        (("qa", "squad_v3", None), "qa has squad, squad_v2"),
        (("ner", "ontonotes", None), r"ner has conll2003 \(others: --data_dir\)"),
        (("srl", "conll2005", None), "srl needs --data_dir"),
        (("classification", None, None), "classification needs --data_dir"),
        (("reviews", "x", None), "reviews is embedded"),
        (("reviews", None, "x"), "reviews is embedded"),
    ],
)
def test_a_task_that_is_not_there_is_refused_with_those_that_are(arguments, message):
    with pytest.raises(ConfigError, match=message):
        load_task(*arguments, "train")
