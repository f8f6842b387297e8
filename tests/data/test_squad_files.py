"""SQuAD's files: what is read, counted and refused."""

import json

from fastprompt.data.examples import SquadQuestion
from fastprompt.data.readers.squad import load_squad, read_squad, squad_from_rows
from fastprompt.errors import DataError

import pytest

from support.squad import question

CONTEXT = "Ada met Bob in Rome. Bob left Rome in May."


def content(*questions, context=CONTEXT, **others):
    return {"data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}], **others}


def read(tmp_path, value):
    path = tmp_path / "train.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return read_squad(path)


def test_the_nested_form_is_read(tmp_path):
    found = read(tmp_path, content(question(1), question(2, answers=[("May", 38), ("in May", 35)]), version="1.1"))
    assert not found.version_2
    assert found.notes == []
    assert found.questions == [
        SquadQuestion("q1", "Where?", CONTEXT, [("Rome", 15)]),
        SquadQuestion("q2", "Where?", CONTEXT, [("May", 38), ("in May", 35)]),
    ]
    assert len(found.head(1)) == 1
    assert len(found.head(None)) == 2


def test_impossible_questions_make_it_version_2(tmp_path):
    plausible = [{"text": "Rome", "answer_start": 15}]
    impossible = question(2, answers=(), is_impossible=True, plausible_answers=plausible)
    found = read(tmp_path, content(question(1, is_impossible=False), impossible))
    assert found.version_2
    assert [len(entry.answers) for entry in found.questions] == [1, 0]


def test_the_hubs_rows_give_the_same_questions(tmp_path):
    nested = read(tmp_path, content(question(1), question(2, answers=[("May", 38), ("in May", 35)])))
    rows = [
        {
            "id": entry.id,
            "title": "T",
            "context": entry.context,
            "question": entry.question,
            "answers": {"text": [text for text, _ in entry.answers], "answer_start": [s for _, s in entry.answers]},
        }
        for entry in nested.questions
    ]
    assert squad_from_rows(rows, version_2=False, name="squad") == nested
    rows[1]["answers"] = {"text": [], "answer_start": []}
    assert squad_from_rows(rows, version_2=True, name="squad_v2").questions[1].answers == []
    with pytest.raises(DataError, match=r"squad, row 1 \(id q2\): it has no answers"):
        squad_from_rows(rows, version_2=False, name="squad")
    rows[1]["answers"] = {"text": ["Rome"], "answer_start": []}
    with pytest.raises(DataError, match=r"row 1 \(id q2\).answers: 1 texts and 0 starts"):
        squad_from_rows(rows, version_2=True, name="squad_v2")


def test_datasets_own_rows_are_read():
    import datasets

    columns = {"id": ["q1"], "context": [CONTEXT], "question": ["Where?"]}
    rows = datasets.Dataset.from_dict({**columns, "answers": [{"text": ["Rome"], "answer_start": [15]}]})
    assert squad_from_rows(rows, version_2=False, name="squad").questions[0].answers == [("Rome", 15)]


@pytest.mark.parametrize(("start", "found"), [(16, 15), (0, 15), (24, 30), (-5, 15), (4000, 30)])
def test_an_answer_beside_its_offset_is_found_again_and_counted(tmp_path, start, found):
    data = read(tmp_path, content(question(1, answers=[("Rome", start)]), question(2)))
    assert data.questions[0].answers == [("Rome", found)]
    (note,) = data.notes
    assert "1 of 2 answers are not where they are said to be" in note
    assert "train.json" in note


def without(key, value=None):
    made = content(question(1))
    paragraph = made["data"][0]["paragraphs"][0]
    for place in (made, made["data"][0], paragraph, paragraph["qas"][0], paragraph["qas"][0]["answers"][0]):
        if key in place:
            place.pop(key)
            if value is not None:
                place[key] = value
    return made


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", r"train.json, line 1: no valid JSON"),
        ("[]", r"train.json: an object is expected, not list"),
        (without("data"), r"train.json: the key 'data' is missing"),
        (without("paragraphs"), r"train.json, data\[0\]: the key 'paragraphs' is missing"),
        (without("context"), r"data\[0\].paragraphs\[0\]: the key 'context' is missing"),
        (without("qas"), r"data\[0\].paragraphs\[0\]: the key 'qas' is missing"),
        (without("id"), r"paragraphs\[0\].qas\[0\]: the key 'id' is missing"),
        (without("question"), r"qas\[0\] \(id q1\): the key 'question' is missing"),
        (without("answers"), r"qas\[0\] \(id q1\): the key 'answers' is missing"),
        (without("text"), r"qas\[0\] \(id q1\).answers\[0\]: the key 'text' is missing"),
        (without("answer_start"), r"\(id q1\).answers\[0\]: the key 'answer_start' is missing"),
        (without("id", 5), r"qas\[0\]: 'id' is int, not str"),
        (without("answer_start", "15"), r"'answer_start' is str, not int"),
        (without("answer_start", True), r"'answer_start' is bool, not int"),
        (without("answers", {"text": "x"}), r"'answers' is dict, not list"),
        (content(question(1), question(1)), r"qas\[1\] \(id q1\): the id is an earlier question's"),
        (content(question(1, answers=())), r"qas\[0\] \(id q1\): it has no answers"),
        (content(question(1, answers=(), is_impossible=False)), r"\(id q1\): it has no answers"),
        (content(question(1, is_impossible=True)), r"\(id q1\): it is said to be impossible and has answers"),
        (content(question(1, is_impossible="yes")), r"'is_impossible' is str, not bool"),
        (content(question(1, answers=[("Paris", 15)])), r"\(id q1\): the answer 'Paris' is not in its context"),
        (content(question(1, answers=[("", 15)])), r"\(id q1\): an answer is empty"),
        (content(question(1), context=" "), r"\(id q1\): its context is empty"),
        (content(), r"train.json has no questions"),
        ({"data": [5]}, r"data\[0\]: an object is expected, not int"),
    ],
)
def test_a_file_that_is_not_squad_says_where(tmp_path, value, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, value)


def test_a_folder_has_one_file_a_split(tmp_path):
    with pytest.raises(DataError, match=r"has no validation file, such as validation\.json"):
        load_squad("squad", "validation", tmp_path)
    (tmp_path / "dev-v1.1.json").write_text(json.dumps(content(question(1))))
    assert len(load_squad("squad", "validation", tmp_path)) == 1
    with pytest.raises(DataError, match="is of the data set squad; give --dataset_name squad"):
        load_squad("squad_v2", "validation", tmp_path)
    (tmp_path / "dev-v2.0.json").write_text(json.dumps(content(question(1))))
    with pytest.raises(DataError, match=r"several validation files \(dev-v1.1.json, dev-v2.0.json\)"):
        load_squad("squad", "validation", tmp_path)


def test_a_byte_order_mark_and_a_wrong_encoding(tmp_path):
    assert len(read(tmp_path, "\ufeff" + json.dumps(content(question(1))))) == 1
    (tmp_path / "train.json").write_bytes(b'{"data": "\xff"}')
    with pytest.raises(DataError, match=r"train.json, line 1: this is not UTF-8"):
        read_squad(tmp_path / "train.json")
