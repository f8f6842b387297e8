"""Exact match and F1 as SQuAD defines them."""

import copy

from fastprompt.data.examples import SquadQuestion
from fastprompt.errors import DataError, TrainingError
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

from support.squad import OFFSETS, WORDS, logits, windows_of

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
