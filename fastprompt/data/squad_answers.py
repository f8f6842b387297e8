"""From the logits of SQuAD's windows to the answers' text, as BERT's and P-Tuning v2's runs do it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastprompt.data.squad_windows import SquadWindows, Window
from fastprompt.saving.files import write_whole

import numpy

Span = tuple[int, int, float, float]  # first character, the one after the last, start logit, end logit


@dataclass
class WindowSpans:
    """What one window offers: no answer, for which the first token stands, and its best spans."""

    null: Span
    spans: list[Span]


@dataclass
class SquadAnswers:
    """What was answered, by the questions' ids.

    Attributes:
        answers: the answer's text, "" for none: SQuAD's own form of predictions.
        spans: the best text that is a span, whether or not it was answered.
        null_odds: how much higher than the best span no answer scored; above the threshold, no answer was given.
            SQuAD 2.0 only.
        nbest: the best texts with their probabilities and logits, best first.
    """

    answers: dict[str, str] = field(default_factory=dict)
    spans: dict[str, str] = field(default_factory=dict)
    null_odds: dict[str, float] = field(default_factory=dict)
    nbest: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def write(self, directory: str | Path) -> None:
        """Write predictions.json, nbest_predictions.json and, for SQuAD 2.0, null_odds.json."""
        contents = {"predictions": self.answers, "nbest_predictions": self.nbest}
        if self.null_odds:
            contents["null_odds"] = self.null_odds
        write_whole(
            {
                Path(directory) / f"{name}.json": (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
                for name, content in contents.items()
            }
        )


def best_spans(
    window: Window,
    start_logits: numpy.ndarray,
    end_logits: numpy.ndarray,
    n_best_size: int = 20,
    max_answer_length: int = 30,
) -> WindowSpans:
    """A window's best spans: of its `n_best_size` best starts and ends, those that make an answer.

    Args:
        start_logits, end_logits: (T,) or, where the batch was padded, longer.
        max_answer_length: in tokens.
    """
    length = len(window.input_ids)
    starts, ends = (numpy.asarray(x, dtype="float64")[:length] for x in (start_logits, end_logits))
    best_starts, best_ends = (numpy.argsort(-x, kind="stable")[:n_best_size].tolist() for x in (starts, ends))
    spans = [
        (int(window.offsets[i, 0]), int(window.offsets[j, 1]), float(starts[i]), float(ends[j]))
        for i in best_starts
        for j in best_ends
        if i <= j < i + max_answer_length and 0 <= window.offsets[i, 0] < window.offsets[j, 1]
    ]
    return WindowSpans((0, 0, float(starts[0]), float(ends[0])), _best(spans, n_best_size))


def choose_answers(
    windows: SquadWindows, found: Mapping[int, WindowSpans], n_best_size: int = 20, null_threshold: float = 0.0
) -> SquadAnswers:
    """The best spans of each question over its windows.

    Args:
        found: `best_spans` by the windows' numbers; a question with no window among them is left out.
        null_threshold: how much higher than the best span no answer must score to be given (SQuAD 2.0).
    """
    by_question: dict[int, list[WindowSpans]] = {}
    for number in sorted(found):
        by_question.setdefault(windows.windows[number].question, []).append(found[number])
    result = SquadAnswers()
    for number, parts in by_question.items():
        question = windows.data.questions[number]
        candidates = _best([span for part in parts for span in part.spans], n_best_size)
        # BERT's run scores 0 where no span is left.
        best_score = _score(candidates[0]) if candidates else 0.0
        text = question.context[slice(*candidates[0][:2])] if candidates else ""
        result.spans[question.id] = result.answers[question.id] = text
        if windows.data.version_2:
            null = min((part.null for part in parts), key=_score)
            result.null_odds[question.id] = _score(null) - best_score
            if result.null_odds[question.id] > null_threshold:
                result.answers[question.id] = ""
            best = _best([*candidates, null], n_best_size)
            candidates = best if null in best else [*best, null]
        result.nbest[question.id] = _with_probabilities(candidates, question.context)
    return result


def _score(span: Span) -> float:
    return span[2] + span[3]


def _best(spans: list[Span], count: int) -> list[Span]:
    return sorted(spans, key=_score, reverse=True)[:count]


def _with_probabilities(spans: list[Span], context: str) -> list[dict[str, Any]]:
    scores = numpy.array([_score(span) for span in spans])
    weights = numpy.exp(scores - scores.max(initial=-numpy.inf))
    return [
        {"text": context[first:last], "probability": weight, "start_logit": start, "end_logit": end}
        for (first, last, start, end), weight in zip(spans, (weights / weights.sum()).tolist(), strict=True)
    ]
