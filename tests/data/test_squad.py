"""SQuAD: files, windows, answers and their scores, held against worked-out numbers and transformers' tokenizer."""

import copy
import itertools
import json
import math

import fastprompt as fp
from fastprompt.data.examples import SquadData, SquadQuestion
from fastprompt.data.readers.squad import load_squad, read_squad, squad_from_rows
from fastprompt.data.squad_answers import SquadAnswers, best_spans, choose_answers
from fastprompt.data.squad_windows import SquadWindows, Window, make_windows
from fastprompt.errors import ConfigError, DataError, TrainingError
from fastprompt.framework import ops
from fastprompt.metrics.squad import (
    SquadScores,
    best_thresholds,
    exact_match,
    normalise,
    score_answers,
    token_f1,
)
from fastprompt.metrics.tasks import task_metrics

import numpy
import pytest

# -- files -----------------------------------------------------------------------------------------------------------

CONTEXT = "Ada met Bob in Rome. Bob left Rome in May."


def question(number, text="Where?", answers=(("Rome", 15),), **others):
    given = [{"text": answer, "answer_start": start} for answer, start in answers]
    return {"id": f"q{number}", "question": text, "answers": given, **others}


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
        ("[]", r"train.json: an object is wanted, not list"),
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
        ({"data": [5]}, r"data\[0\]: an object is wanted, not int"),
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


# -- windows ---------------------------------------------------------------------------------------------------------


def data_of(*entries):
    return SquadData([SquadQuestion(f"q{i}", *entry) for i, entry in enumerate(entries)], version_2=True)


def test_every_answer_lies_at_its_tokens(tiny):
    """The tiny tokenizer has one token a letter, so a span of tokens is a span of characters."""
    context = "ab cd ef gh ij kl mn op qr st"
    data = data_of(*(("a b", context, [(text, context.index(text))]) for text in ("ab", "ef gh", "st", "d e")))
    made = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=18, doc_stride=4, max_query_length=4)
    held = [0] * len(data)
    for window in made.windows:
        assert len(window.input_ids) <= 18
        text, start = data.questions[window.question].answers[0]
        first, last = window.offsets[window.offsets[:, 0] >= 0][[0, -1], [0, 1]]
        if first <= start and start + len(text) <= last:
            held[window.question] += 1
            assert (window.offsets[window.start, 0], window.offsets[window.end, 1]) == (start, start + len(text))
        else:
            assert (window.start, window.end) == (0, 0)
    assert all(held)
    assert len(made.windows) > len(data)
    assert made.notes == []


def test_neighbours_share_the_stride_and_miss_nothing(tiny):
    data = data_of(("a", "abcdefghijklmnopqrstuvwxyz", [("c", 2)]))
    made = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=14, doc_stride=3, max_query_length=1)
    covered = [{tuple(x) for x in window.offsets[window.offsets[:, 0] >= 0].tolist()} for window in made.windows]
    assert set.union(*covered) == {(i, i + 1) for i in range(26)}
    assert [len(a & b) for a, b in itertools.pairwise(covered)] == [3] * (len(covered) - 1)


def test_rows_are_what_the_model_reads(tiny):
    data = data_of(("a", "bc", [("c", 1)]), ("a", "bc", []))
    tokenizer = fp.load_tokenizer(tiny["bert"])
    rows = make_windows(data, tokenizer, max_seq_length=20, max_query_length=4).rows()
    assert rows[0]["input_ids"].tolist() == tokenizer(["a"], ["bc"])[0]["input_ids"]
    assert rows[0]["token_type_ids"].tolist() == [0, 0, 0, 1, 1, 1]
    assert [(row["start_positions"], row["end_positions"], row["window_ids"]) for row in rows] == [(4, 4, 0), (0, 0, 1)]


def test_long_questions_are_cut_and_counted(tiny):
    data = data_of(("abcdefgh", "xyz", [("y", 1)]), ("ab", "xyz", [("y", 1)]))
    made = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=30, doc_stride=2, max_query_length=3)
    assert [int((window.token_type_ids == 0).sum()) for window in made.windows] == [5, 4]
    assert made.notes == ["1 of 2 questions were cut to 3 tokens (max_query_length)."]


def test_answers_that_no_window_holds_are_counted(tiny):
    data = data_of(("a", "b" * 40, [("b" * 30, 5)]), ("a", "b" * 40, [("b", 0)]), ("a", "b" * 40, []))
    made = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=20, doc_stride=4, max_query_length=3)
    assert made.notes == ["1 of 3 questions have no window that holds their answer; they teach no answer."]
    assert all((w.start, w.end) == (0, 0) for w in made.windows if w.question != 1)


@pytest.mark.parametrize(
    "options",
    [
        {"max_seq_length": 64},
        {"max_seq_length": 128, "doc_stride": 61},
        {"doc_stride": -1},
        {"max_query_length": 0},
        {"max_query_length": 400},
    ],
)
def test_windows_without_room_are_refused(tiny, options):
    with pytest.raises(ConfigError, match="tokens for the context beside a question of max_query_length"):
        make_windows(data_of(("a", "b", [])), fp.load_tokenizer(tiny["bert"]), **options)


def test_a_question_with_spaces_before_it_and_an_answer_with_spaces_around_it(tiny):
    data = data_of(("   a", "b cd e", [(" cd ", 1)]))
    (window,) = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=30, max_query_length=4).windows
    assert (window.offsets[window.start, 0], window.offsets[window.end, 1]) == (2, 4)


BPE = """
import sys
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizerFast
made = ByteLevelBPETokenizer()
made.train_from_iterator(["a question about the answers in a context of words"] * 9, vocab_size=300,
    special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
made.save_model(sys.argv[1])
RobertaTokenizerFast(vocab=sys.argv[1] + "/vocab.json", merges=sys.argv[1] + "/merges.txt").save_pretrained(sys.argv[1])
"""
STOCK = """
import json, sys
from transformers import AutoTokenizer
texts = json.loads(sys.argv[1])
for folder in sys.argv[2:]:
    found = AutoTokenizer.from_pretrained(folder)(*texts, truncation="only_second", max_length=40, stride=10,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True)
    rows = [[found["overflow_to_sample_mapping"][i], found["input_ids"][i], found["token_type_ids"][i],
        [pair if sequence == 1 else [-1, -1] for pair, sequence in zip(found["offset_mapping"][i],
        found.sequence_ids(i))]] for i in range(len(found["input_ids"]))]
    print(json.dumps(rows))
"""


@pytest.mark.once
def test_windows_equal_transformers(run_python, minilm, tiny, tmp_path):
    run_python("torch", "-c", BPE, tmp_path)
    questions = ["Who wrote it?", "Où — “là”?", "什么时候?"]
    contexts = ["The poet’s answers, a context of words 🙂 and naïve ones. " * 6, "一些文字。" * 30, "short"]
    folders = [minilm, tiny["roberta"], tmp_path]
    done = run_python("torch", "-c", STOCK, json.dumps([questions, contexts]), *folders)
    for folder, line in zip(folders, done.stdout.splitlines()[-3:], strict=True):
        answers = [[("🙂", context.index("🙂"))] if "🙂" in context else [] for context in contexts]
        data = data_of(*zip(questions, contexts, answers, strict=True))
        made = make_windows(data, fp.load_tokenizer(folder), max_seq_length=40, doc_stride=10, max_query_length=20)
        rows = [[w.question, w.input_ids.tolist(), w.token_type_ids.tolist(), w.offsets.tolist()] for w in made.windows]
        assert rows == json.loads(line)
    # In bytes the emoji is several tokens of one character: the first starts the answer, the last ends it.
    (window, *_) = [window for window in made.windows if window.end]
    assert window.end - window.start == 3
    assert window.offsets[window.start].tolist() == window.offsets[window.end].tolist()


# -- answers ---------------------------------------------------------------------------------------------------------

WORDS = "zero one two three four five"
OFFSETS = [(-1, -1)] * 3 + [(0, 4), (5, 8), (9, 12), (13, 18), (19, 23), (24, 28)] + [(-1, -1)]


def windows_of(version_2, count=1, context=WORDS):
    data = SquadData([SquadQuestion("q", "?", context, [("one", 5)])], version_2)
    ids = numpy.zeros(len(OFFSETS), "int32")
    return SquadWindows(data, [Window(0, ids, ids, numpy.array(OFFSETS, "int32"), 0, 0) for _ in range(count)], [])


def logits(first=0.0, **words):
    """Start or end logits: `first` for the first token, words by name, -9 elsewhere."""
    values = numpy.full(len(OFFSETS), -9.0)
    values[0] = first
    for word, value in words.items():
        values[3 + WORDS.split().index(word)] = value
    return values


def answered(windows, *pairs, **options):
    spans = {i: best_spans(windows.windows[i], starts, ends) for i, (starts, ends) in enumerate(pairs)}
    return choose_answers(windows, spans, **options)


def test_the_best_span_is_answered():
    found = answered(windows_of(False), (logits(one=3.0, two=2.0), logits(three=1.0, one=0.5)))
    assert found.answers == {"q": "one two three"}
    best, second = found.nbest["q"][:2]
    assert (best["text"], best["start_logit"], best["end_logit"]) == ("one two three", 3.0, 1.0)
    assert second["text"] == "one"
    assert sum(entry["probability"] for entry in found.nbest["q"]) == pytest.approx(1)
    assert best["probability"] / second["probability"] == pytest.approx(math.exp(0.5))
    assert found.null_odds == {}


def test_a_span_ends_behind_its_start_and_inside_the_context():
    """The best start and end on their own are an end before the start, and the question's tokens."""
    starts, ends = logits(three=5.0, one=1.0), logits(two=4.0, five=-1.0)
    starts[1] = ends[1] = ends[9] = 9.0
    assert answered(windows_of(False), (starts, ends)).answers == {"q": "one two"}


def test_an_answer_has_at_most_so_many_tokens():
    starts, ends = logits(zero=5.0, two=1.0), logits(five=5.0, two=0.5)
    (window,) = windows_of(False).windows
    for length, expected in ((6, (0, 28)), (5, (9, 28)), (3, (0, 12)), (1, (9, 12))):
        assert best_spans(window, starts, ends, max_answer_length=length).spans[0][:2] == expected, length


def test_only_the_best_starts_and_ends_are_tried():
    starts, ends = logits(first=-99.0, five=3.0, one=2.0), logits(first=-99.0, two=3.0, one=2.0)
    (window,) = windows_of(False).windows
    assert best_spans(window, starts, ends, n_best_size=1).spans == []
    assert best_spans(window, starts, ends, n_best_size=2).spans[0][:2] == (5, 12)
    assert len(best_spans(window, starts, ends, n_best_size=2).spans) == 2


def test_the_best_of_all_windows_is_answered():
    one, five = (logits(one=2.0), logits(one=2.0)), (logits(five=3.0), logits(five=2.0))
    assert answered(windows_of(False, 2), one, five).answers == {"q": "five"}
    assert answered(windows_of(False, 2), five, one).answers == {"q": "five"}


def test_padding_behind_a_window_is_not_looked_at():
    longer = [numpy.concatenate([x, [99.0] * 5]) for x in (logits(one=3.0), logits(one=1.0))]
    assert answered(windows_of(False), longer).answers == {"q": "one"}


@pytest.mark.parametrize(
    ("null", "threshold", "expected"),
    [(1.0, 0.0, "one"), (2.0, 0.0, "one"), (2.5, 0.0, ""), (2.5, 1.0, "one"), (3.5, 1.0, ""), (1.0, -4.0, "")],
)
def test_no_answer_is_given_where_it_scores_higher_by_the_threshold(null, threshold, expected):
    pair = logits(first=null, one=3.0), logits(one=1.0, first=null)
    found = answered(windows_of(True), pair, null_threshold=threshold)
    assert found.answers == {"q": expected}
    assert found.spans == {"q": "one"}
    assert found.null_odds == {"q": 2 * null - 4}
    assert {entry["text"] for entry in found.nbest["q"]} >= {"", "one"}


def test_the_window_least_sure_of_no_answer_decides():
    pairs = [(logits(first=f, one=3.0), logits(first=0.0, one=1.0)) for f in (7.0, -1.0)]
    found = answered(windows_of(True, 2), *pairs)
    assert found.null_odds == {"q": -5.0}
    assert found.answers == {"q": "one"}


def test_version_1_always_answers():
    pair = logits(first=50.0, one=3.0), logits(first=50.0, one=1.0)
    assert answered(windows_of(False), pair).answers == {"q": "one"}


def test_no_answer_stays_among_the_best():
    found = answered(windows_of(True), (logits(one=9.0, first=-99.0), logits(one=9.0, first=-99.0)), n_best_size=1)
    assert [entry["text"] for entry in found.nbest["q"]] == ["one", ""]


def test_where_nothing_is_a_span_nothing_is_answered():
    starts, ends = logits(five=9.0), logits(zero=9.0)
    for version_2, odds in ((False, {}), (True, {"q": 0.0})):
        windows = windows_of(version_2)
        found = choose_answers(windows, {0: best_spans(windows.windows[0], starts, ends, n_best_size=1)})
        assert (found.answers, found.null_odds) == ({"q": ""}, odds)


def test_predictions_are_written_in_squads_own_form(tmp_path):
    found = answered(windows_of(True, context=WORDS.replace("one", "öne")), (logits(one=3.0), logits(one=1.0)))
    found.write(tmp_path)
    read_back = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()}
    assert read_back["predictions.json"] == {"q": "öne"}
    assert read_back["null_odds.json"] == {"q": -4.0}
    assert set(read_back["nbest_predictions.json"]["q"][0]) == {"text", "probability", "start_logit", "end_logit"}
    SquadAnswers(answers={"q": "x"}).write(tmp_path / ".")
    assert json.loads((tmp_path / "predictions.json").read_text()) == {"q": "x"}


# -- scores ----------------------------------------------------------------------------------------------------------

CASES = [  # prediction, gold answers, exact match, F1 (2 * common words / words of both)
    ("Rome", ["Rome"], 1, 1),
    ("rome", ["Rome"], 1, 1),
    ("ROME", ["rome"], 1, 1),
    ("Rome.", ["Rome"], 1, 1),
    ("“Rome”", ["Rome"], 0, 0),  # only ASCII punctuation goes
    ('"Rome"', ["Rome"], 1, 1),
    ("Paris", ["Rome"], 0, 0),
    ("", ["Rome"], 0, 0),
    ("Rome", ["Rome", "Milan"], 1, 1),
    ("Milan", ["Rome", "Milan"], 1, 1),
    ("Turin", ["Rome", "Milan"], 0, 0),
    # articles, as words of their own
    ("the Senate", ["Senate"], 1, 1),
    ("Senate", ["The Senate"], 1, 1),
    ("a dog", ["the dog"], 1, 1),
    ("an apple", ["apple"], 1, 1),
    ("A.", ["B"], 0, 0),
    ("theory", ["ory"], 0, 0),
    ("anthem", ["them"], 0, 0),
    ("the the dog", ["dog"], 1, 1),
    ("la Scala", ["Scala"], 0, 2 * 1 / (2 + 1)),
    ("The-Dog", ["dog"], 0, 0),  # punctuation goes first: "thedog"
    ("the dog's", ["dogs"], 1, 1),
    # white space
    ("  New   York ", ["New York"], 1, 1),
    ("New\nYork", ["New York"], 1, 1),
    ("New\u00a0York", ["New York"], 1, 1),
    ("NewYork", ["New York"], 0, 0),
    # punctuation joins what it parts
    ("twenty-one", ["twentyone"], 1, 1),
    ("twenty-one", ["twenty one"], 0, 0),
    ("$1,000", ["1000"], 1, 1),
    ("3.5", ["35"], 1, 1),
    ("U.S.A.", ["USA"], 1, 1),
    ("AC/DC", ["acdc"], 1, 1),
    # shares of words
    ("New York City", ["New York"], 0, 2 * 2 / (3 + 2)),
    ("York", ["New York"], 0, 2 * 1 / (1 + 2)),
    ("in the city of New York", ["New York"], 0, 2 * 2 / (5 + 2)),
    ("York New", ["New York"], 0, 1),
    ("one one two", ["one two two"], 0, 2 * 2 / (3 + 3)),
    ("one one", ["one"], 0, 2 * 1 / (2 + 1)),
    ("New York", ["York", "New York City"], 0, 2 * 2 / (2 + 3)),
    ("May 1800", ["1 May 1800", "May"], 0, 2 * 2 / (2 + 3)),
    # other scripts
    ("café", ["cafe"], 0, 0),
    ("Café", ["café"], 1, 1),
    ("ÉCOLE", ["école"], 1, 1),
    ("İstanbul", ["istanbul"], 0, 0),
    ("北京", ["北京"], 1, 1),
    ("北京。", ["北京"], 0, 0),
    ("北京市", ["北京"], 0, 0),
    ("10–20", ["1020"], 0, 0),
    ("10-20", ["1020"], 1, 1),
    ("Straße", ["strasse"], 0, 0),
]


@pytest.mark.parametrize(("prediction", "golds", "exact", "f1"), CASES)
def test_an_answer_is_scored_as_officially_defined(prediction, golds, exact, f1):
    for version_2 in (False, True):
        assert exact_match(prediction, golds) == exact
        assert token_f1(prediction, golds, version_2) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "gold", "f1_version_1", "f1_version_2"), [("", "The", 0, 1), (".", "", 0, 1), ("a", "...", 0, 1)]
)
def test_texts_of_which_nothing_is_left(prediction, gold, f1_version_1, f1_version_2):
    assert normalise(prediction) == normalise(gold) == ""
    assert exact_match(prediction, [gold]) == 1
    assert token_f1(prediction, [gold], version_2=False) == f1_version_1
    assert token_f1(prediction, [gold], version_2=True) == f1_version_2


@pytest.mark.once
def test_scores_equal_torchmetrics():
    from torchmetrics.functional.text import squad

    questions = [SquadQuestion(str(i), "?", "", [(g, 0) for g in golds]) for i, (_, golds, *_) in enumerate(CASES)]
    answers = {str(i): case[0] for i, case in enumerate(CASES)}
    theirs = squad(
        [{"id": key, "prediction_text": text} for key, text in answers.items()],
        [
            {"id": q.id, "answers": {"text": [text for text, _ in q.answers], "answer_start": [0] * len(q.answers)}}
            for q in questions
        ],
    )
    ours = score_answers(questions, answers, version_2=False)
    assert {name: 100 * value for name, value in ours.items()} == pytest.approx(
        {name: float(value) for name, value in theirs.items()}, rel=1e-6
    )


def questions_of(*answers):
    return [SquadQuestion(f"q{i}", "?", "", [(text, 0) for text in texts]) for i, texts in enumerate(answers)]


def test_the_mean_is_over_all_questions():
    questions = questions_of(["Rome"], ["New York"], ["May"])
    found = score_answers(questions, {"q0": "Rome", "q1": "York"}, version_2=False)  # q2 is not answered
    assert found == pytest.approx({"exact_match": 1 / 3, "f1": (1 + 2 / 3) / 3})


def test_version_2_also_scores_the_two_kinds_of_questions():
    questions = questions_of(["Rome"], ["New York"], [], [], ["the"])
    answers = {"q0": "", "q1": "York", "q2": "", "q3": "May", "q4": ""}  # of q4's answer nothing is left
    assert score_answers(questions, answers, version_2=True) == pytest.approx(
        {
            "exact_match": 2 / 5,
            "f1": (2 + 2 / 3) / 5,
            "has_answer_exact_match": 1 / 3,
            "has_answer_f1": (1 + 2 / 3) / 3,
            "no_answer_exact_match": 1 / 2,
            "no_answer_f1": 1 / 2,
        }
    )
    assert list(score_answers(questions[2:4], {}, version_2=True)) == [
        *("exact_match", "f1", "no_answer_exact_match", "no_answer_f1")
    ]


def test_answers_to_no_question_are_refused():
    with pytest.raises(DataError, match="There is an answer to q7, which is no question's id"):
        score_answers(questions_of(["Rome"]), {"q7": "Rome"}, version_2=False)
    with pytest.raises(DataError, match="no questions to score"):
        score_answers([], {}, version_2=False)


def test_the_best_threshold_is_found():
    questions = questions_of(["Rome"], [], ["New York"], [], ["May"])
    spans = {"q0": "Rome", "q1": "x", "q2": "York", "q3": "y", "q4": "May"}
    odds = {"q0": -3.0, "q1": 2.0, "q2": -1.0, "q3": 1.0, "q4": 4.0}
    # answering q0: 3 right; q0, q2: 3 and F1 3 2/3; then q3, q1 lose one each, q4 wins one
    assert best_thresholds(questions, spans, odds) == pytest.approx(
        {
            "best_exact_match": 3 / 5,
            "best_exact_match_threshold": -3.0,
            "best_f1": (3 + 2 / 3) / 5,
            "best_f1_threshold": -1.0,
        }
    )
    for threshold in sorted(odds.values()):
        answers = {key: "" if odds[key] > threshold else text for key, text in spans.items()}
        assert score_answers(questions, answers, version_2=True)["f1"] <= (3 + 2 / 3) / 5 + 1e-9


def test_a_threshold_parts_no_equals():
    """Both are answered or neither: the one that gains cannot be had without the one that loses."""
    found = best_thresholds(questions_of(["Rome"], []), {"q0": "Rome", "q1": "x"}, {"q0": 1.0, "q1": 1.0})
    assert found["best_f1"] == 0.5
    assert found["best_f1_threshold"] < 1.0


def test_the_metric_goes_from_logits_to_scores():
    windows = windows_of(True, 2)
    second = copy.deepcopy(windows.data.questions[0])
    second.id, second.answers = "none", []
    windows.data.questions.append(second)
    windows.windows[1].question = 1
    metric = SquadScores(windows)
    for number, (starts, ends) in enumerate(
        [(logits(one=3.0), logits(two=1.0)), (logits(first=5.0, one=1.0), logits(first=5.0, one=1.0))]
    ):
        rows = [ops.tensor(numpy.pad(x, (0, number))[None].astype("float32")) for x in (starts, ends)]
        metric.update(*rows, ops.tensor(numpy.array([number])))
    found = metric.get_metric()
    assert metric.answers.answers == {"q": "one two", "none": ""}
    assert {name: found[name] for name in ("exact_match", "f1", "has_answer_f1", "no_answer_f1")} == pytest.approx(
        {"exact_match": 0.5, "f1": (2 / 3 + 1) / 2, "has_answer_f1": 2 / 3, "no_answer_f1": 1.0}
    )
    assert found["best_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert list(task_metrics("qa", "squad_v2", windows)) == ["squad"]


def test_a_few_batches_score_the_questions_they_hold():
    """As fastNLP's sanity check before training asks for."""
    windows = windows_of(False, 2)
    windows.data.questions.append(SquadQuestion("q2", "?", WORDS, [("five", 24)]))
    windows.windows[1].question = 1
    metric = SquadScores(windows)
    rows = [ops.tensor(x[None].astype("float32")) for x in (logits(one=3.0), logits(one=1.0))]
    metric.update(*rows, ops.tensor(numpy.array([0])))
    assert metric.get_metric() == {"exact_match": 1.0, "f1": 1.0}


def test_logits_that_are_no_numbers_are_refused():
    metric = SquadScores(windows_of(False))
    row = ops.tensor(numpy.full((1, len(OFFSETS)), numpy.nan, "float32"))
    with pytest.raises(TrainingError, match="no finite number"):
        metric.update(row, row, ops.tensor(numpy.array([0])))


# -- the real files --------------------------------------------------------------------------------------------------


def test_the_official_dev_file_scores_1_with_its_own_answers(squad):
    data = load_squad("squad", "validation", squad)
    assert (len(data), data.notes) == (10570, [])
    first = {question.id: question.answers[0][0] for question in data.questions}
    assert score_answers(data.questions, first, version_2=False) == {"exact_match": 1.0, "f1": 1.0}
    last = {question.id: question.answers[-1][0] for question in data.questions}
    assert score_answers(data.questions, last, version_2=False)["exact_match"] == 1.0
    assert score_answers(data.questions, {}, version_2=False) == {"exact_match": 0.0, "f1": 0.0}


@pytest.mark.once
def test_the_official_dev_file_has_as_many_windows_as_published(squad, minilm):
    """10,784 of 384 tokens with BERT's uncased vocabulary; logits at the gold spans give the gold answers back."""
    data = load_squad("squad", "validation", squad)
    made = make_windows(data, fp.load_tokenizer(minilm), max_seq_length=384, doc_stride=128)
    assert len(made) == 10784
    assert made.notes == []
    spans = {}
    for number, window in enumerate(made.windows[:2000]):
        starts, ends = numpy.zeros((2, len(window.input_ids)))
        if window.end:
            starts[window.start] = ends[window.end] = 5.0
        spans[number] = best_spans(window, starts, ends)
    found = choose_answers(made, spans)
    questions = [question for question in data.questions if question.id in found.answers]
    scores = score_answers(questions, found.answers, version_2=False)
    assert scores["exact_match"] > 0.99
    assert scores["f1"] > 0.995
