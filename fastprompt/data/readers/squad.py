"""SQuAD 1.1 and 2.0: questions whose answers are spans of a context (Rajpurkar et al., 2016 and 2018)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastprompt.data.examples import SquadData, SquadQuestion
from fastprompt.data.readers.files import Record, find_split, read_json
from fastprompt.data.readers.hub import load_from_hub
from fastprompt.errors import DataError

VERSION_2 = {"squad": False, "squad_v2": True}  # data set -> whether questions may have no answer


def load_squad(dataset_name: str, split: str, data_dir: str | Path | None = None) -> SquadData:
    """Split "train" or "validation" of "squad" or "squad_v2".

    Args:
        data_dir: a folder with one train*.json and one dev*.json in SQuAD's form; None takes the hub's copy.

    Raises:
        DataError: a file or the hub cannot be read, or the file is of the other version.
    """
    version_2 = VERSION_2[dataset_name]
    if data_dir is None:
        name = f"rajpurkar/{dataset_name}"
        return squad_from_rows(load_from_hub("SQuAD", name, None, split), version_2, name)
    path = find_split(data_dir, split, (".json",))
    found = read_squad(path)
    if found.version_2 != version_2:
        other = "squad_v2" if found.version_2 else "squad"
        raise DataError(f"{path} is of the data set {other}; give --dataset_name {other}.")
    return found


def read_squad(path: Path) -> SquadData:
    """A file in SQuAD's form: data, paragraphs, qas, answers; 2.0 where questions say whether they are impossible.

    Raises:
        DataError: with the file, the place in it and the question's id: a key is missing or its value is of the wrong
            kind, an id comes twice, a question has no answer and is not said to be impossible, or an answer is not in
            its context.
    """
    entries, version_2 = [], False
    for article in Record(str(path), "", read_json(path)).items("data"):
        for paragraph in article.items("paragraphs"):
            context = paragraph.get("context", str)
            for entry in paragraph.items("qas"):
                entry.trail += f" (id {entry.get('id', str)})"
                impossible = entry.get("is_impossible", bool) if "is_impossible" in entry.value else None
                version_2 |= impossible is not None
                answers = [
                    (answer.get("text", str), answer.get("answer_start", int)) for answer in entry.items("answers")
                ]
                if impossible and answers:
                    raise entry.wrong("it is said to be impossible and has answers")
                if not impossible and not answers:
                    raise entry.wrong("it has no answers and no `is_impossible: true`")
                entries.append((entry, context, answers))
    return _collect(str(path), entries, version_2)


def squad_from_rows(rows: Iterable[dict[str, Any]], version_2: bool, name: str) -> SquadData:
    """SQuAD from the hub's flat rows: id, context, question, answers {"text": [...], "answer_start": [...]}.

    Raises:
        DataError: for the reasons of `read_squad`, with `name` and the row.
    """
    entries = []
    for number, row in enumerate(rows):
        entry = Record(name, f"row {number}", row)
        entry.trail += f" (id {entry.get('id', str)})"
        given = entry.child("answers")
        texts, starts = given.get("text", list), given.get("answer_start", list)
        if len(texts) != len(starts):
            raise given.wrong(f"{len(texts)} texts and {len(starts)} starts")
        if not texts and not version_2:
            raise entry.wrong("it has no answers; is this squad_v2?")
        entries.append((entry, entry.get("context", str), list(zip(texts, starts, strict=True))))
    return _collect(name, entries, version_2)


def _collect(source: str, entries: list[tuple[Record, str, list[tuple[str, int]]]], version_2: bool) -> SquadData:
    questions: dict[str, SquadQuestion] = {}
    count = moved = 0
    for entry, context, given in entries:
        key, question = entry.get("id", str), entry.get("question", str)
        if key in questions:
            raise entry.wrong("the id is an earlier question's")
        if not context.strip():
            raise entry.wrong("its context is empty")
        answers = []
        for text, start in given:
            if not text.strip():
                raise entry.wrong("an answer is empty; a question without one has `is_impossible: true` and no answers")
            found = _find(context, text, start)
            if found is None:
                raise entry.wrong(f"the answer {text!r} is not in its context")
            count, moved = count + 1, moved + (found != start)
            answers.append((text, found))
        questions[key] = SquadQuestion(key, question, context, answers)
    if not questions:
        raise DataError(f"{source} has no questions.")
    notes = []
    if moved:
        notes.append(f"{source}: {moved} of {count} answers are not where they are said to be; the nearest was taken.")
    return SquadData(list(questions.values()), version_2, notes)


def _find(context: str, text: str, start: int) -> int | None:
    """Where `text` stands in `context`: at `start`, else the occurrence nearest to it."""
    if start >= 0 and context.startswith(text, start):
        return start
    positions, position = [], context.find(text)
    while position >= 0:
        positions.append(position)
        position = context.find(text, position + 1)
    return min(positions, key=lambda found: abs(found - start), default=None)
