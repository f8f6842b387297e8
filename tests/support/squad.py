"""SQuAD's form in small, for tests."""

from fastprompt.data.examples import SquadData, SquadQuestion
from fastprompt.data.squad_windows import SquadWindows, Window

import numpy


def question(number, text="Where?", answers=(("Rome", 15),), **others):
    given = [{"text": answer, "answer_start": start} for answer, start in answers]
    return {"id": f"q{number}", "question": text, "answers": given, **others}


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
