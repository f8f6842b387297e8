"""From logits to answers: spans, several windows, no answer."""

import json
import math

from fastprompt.data.squad_answers import SquadAnswers, best_spans, choose_answers

import numpy
import pytest

from support.squad import WORDS, logits, windows_of


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


def test_a_span_ends_after_its_start_and_inside_the_context():
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


def test_padding_after_a_window_is_ignored():
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
