"""SQuAD's exact match and F1, official normalisation (Rajpurkar et al., 2016 and 2018); all scores from 0 to 1."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fastprompt.data.examples import SquadQuestion
from fastprompt.data.squad_answers import SquadAnswers, WindowSpans, best_spans, choose_answers
from fastprompt.data.squad_windows import SquadWindows
from fastprompt.errors import DataError, TrainingError
from fastprompt.framework import ops
from fastprompt.metrics.gathering import GatheredMetric

import numpy

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1 where the prediction is one of the gold answers once both are normalised, else 0."""
    return float(normalise(prediction) in map(normalise, golds))


def token_f1(prediction: str, golds: Sequence[str], version_2: bool) -> float:
    """F1 of the prediction's words against those of the gold answer that it is nearest to.

    Args:
        version_2: texts of which nothing is left are equal; to SQuAD 1.1's script they share no word, which makes 0.
    """
    return max(_f1(normalise(prediction).split(), normalise(gold).split(), version_2) for gold in golds)


def _f1(predicted: list[str], gold: list[str], version_2: bool) -> float:
    if not predicted or not gold:
        return float(version_2 and predicted == gold)
    common = sum((Counter(predicted) & Counter(gold)).values())
    return 2 * common / (len(predicted) + len(gold))


def gold_answers(question: SquadQuestion, version_2: bool) -> list[str]:
    """What a prediction is compared with; [""] for a question without an answer.

    SQuAD 2.0's script leaves out gold answers of which normalisation leaves nothing.
    """
    texts = [text for text, _ in question.answers]
    return [text for text in texts if normalise(text)] or [""] if version_2 else texts


def score_answers(questions: Sequence[SquadQuestion], answers: Mapping[str, str], version_2: bool) -> dict[str, float]:
    """{"exact_match", "f1"}; for SQuAD 2.0 also of the questions with and without an answer, where there are some.

    Args:
        answers: text by id, "" for no answer; a question that is not in it counts as wrong.

    Raises:
        DataError: there are no questions, or an answer's id is none of theirs.
    """
    if not questions:
        raise DataError("There are no questions to score.")
    if unknown := sorted(set(answers) - {question.id for question in questions}):
        raise DataError(f"There is an answer to {unknown[0]}, which is no question's id ({len(unknown)} of them).")
    parts: dict[str, list[tuple[float, float]]] = {"": []}
    for question in questions:
        pair = (0.0, 0.0)
        if question.id in answers:
            golds = gold_answers(question, version_2)
            pair = exact_match(answers[question.id], golds), token_f1(answers[question.id], golds, version_2)
        parts[""].append(pair)
        if version_2:
            parts.setdefault("has_answer_" if question.answers else "no_answer_", []).append(pair)
    return {
        f"{part}{name}": sum(column) / len(column)
        for part, pairs in parts.items()
        for name, column in zip(("exact_match", "f1"), zip(*pairs, strict=True), strict=True)
    }


def best_thresholds(
    questions: Sequence[SquadQuestion], spans: Mapping[str, str], null_odds: Mapping[str, float]
) -> dict[str, float]:
    """SQuAD 2.0's scores with the null threshold that suits each best, and that threshold.

    {"best_exact_match", "best_exact_match_threshold", "best_f1", "best_f1_threshold"}: a question whose null odds are
    above the threshold is left without an answer.
    """
    ordered = sorted(questions, key=lambda question: null_odds[question.id])
    odds = [null_odds[question.id] for question in ordered]
    golds = [gold_answers(question, version_2=True) for question in ordered]
    found = {}
    for name, score in (("exact_match", exact_match), ("f1", partial(token_f1, version_2=True))):
        nothing = [score("", texts) for texts in golds]
        total = best = sum(nothing)  # all are left without an answer
        threshold = odds[0] - 1.0
        for place, (question, texts) in enumerate(zip(ordered, golds, strict=True)):
            total += score(spans[question.id], texts) - nothing[place]
            if total > best and odds[place] != (odds[place + 1] if place + 1 < len(odds) else None):
                best, threshold = total, odds[place]
        found |= {f"best_{name}": best / len(odds), f"best_{name}_threshold": threshold}
    return found


class SquadScores(GatheredMetric):
    """`score_answers` and, for SQuAD 2.0, `best_thresholds` of a model's logits.

    Args:
        windows: what the evaluation's loader was made from.
        n_best_size, max_answer_length: see `best_spans`; null_threshold: see `choose_answers`.

    Attributes:
        answers: what was answered when the scores were last asked for.
    """

    def __init__(
        self,
        windows: SquadWindows,
        n_best_size: int = 20,
        max_answer_length: int = 30,
        null_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.windows = windows
        self.n_best_size = n_best_size
        self.max_answer_length = max_answer_length
        self.null_threshold = null_threshold
        self.answers = SquadAnswers()

    def update(self, start_logits: Any, end_logits: Any, window_ids: Any) -> None:
        """Args: start_logits, end_logits: (B, T); window_ids: (B,) the windows' numbers."""
        for number, starts, ends in zip(*map(ops.to_numpy, (window_ids, start_logits, end_logits)), strict=True):
            window = self.windows.windows[number]
            if not numpy.isfinite([starts, ends]).all():
                raise TrainingError("A logit is no finite number; lower the learning rate.")
            spans = best_spans(window, starts, ends, self.n_best_size, self.max_answer_length)
            self.rows.append((int(number), spans))

    def score(self, rows: list[tuple[int, WindowSpans]]) -> dict[str, float]:
        found = dict(rows)
        self.answers = choose_answers(self.windows, found, self.n_best_size, self.null_threshold)
        data = self.windows.data
        questions = [question for question in data.questions if question.id in self.answers.answers]
        scores = score_answers(questions, self.answers.answers, data.version_2)
        if data.version_2:
            scores |= best_thresholds(questions, self.answers.spans, self.answers.null_odds)
        return scores
