"""LAMA's facts (Petroni et al., 2019, arXiv:1909.01066): a subject, a relation with its template, one object word.

Folders are read as LAMA publishes them (relations.jsonl; TREx/P36.jsonl, to be tested on) and as AutoPrompt (Shin et
al., 2020, arXiv:2010.15980) and P-Tuning do, who add training data: P36/train.jsonl, dev.jsonl and test.jsonl, or the
same under fact-retrieval/original.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastprompt.cloze.template import BLANK, TEXT
from fastprompt.data.examples import ClozeTexts
from fastprompt.data.readers.files import Record, read_json_lines, read_lines, shown
from fastprompt.errors import DataError
from fastprompt.pretrained.tokenizer import Tokenizer

_FOLDERS = (".", "fact-retrieval/original", "original")
_TEST_ONLY = ("TREx", ".")
_OBJECT = "[Y]"  # what relations.jsonl calls the blank
SPLITS = ("train", "dev", "test")
COLUMNS = ("sub_label", "obj_label")  # of a fact


@dataclass(frozen=True)
class Relation:
    """A relation: its name ("P36"), its written template with a blank, what it is called, and its splits' files."""

    name: str
    template: str
    label: str
    files: dict[str, Path] = field(hash=False)


@dataclass
class Facts:
    """A relation's facts whose object is one of the candidate words.

    Args:
        words: the objects' ids.
        several: how many more objects take several tokens of the vocabulary.
        outside: how many more are one token, but no candidate.
    """

    subjects: list[str]
    words: list[int]
    several: int = 0
    outside: int = 0

    def __len__(self) -> int:
        return len(self.words)

    def in_template(self, template: str, count: int | None, causal: bool) -> ClozeTexts:
        """The first `count` facts, or all, with the subject as the text and the object for the blank."""
        return ClozeTexts(self.subjects[:count], self.words[:count], template, causal)


def read_relations(data_dir: str | Path, chosen: Sequence[str] | None, splits: Sequence[str]) -> list[Relation]:
    """The relations of a folder, those in `chosen` in that order, or all that have facts.

    Args:
        splits: what must be there of each: "train", "dev", "test".

    Raises:
        DataError: there is no relations.jsonl, no such relation, or no file of one of its splits.
    """
    folder = Path(data_dir).expanduser()
    listed = folder / "relations.jsonl"
    known = {}
    for record in read_json_lines(listed):
        name = record.get("relation", str)
        files = _find_files(folder, name)
        if files or name in (chosen or ()):
            label = record.value.get("label")
            known[name] = Relation(name, _template(record), label if isinstance(label, str) else name, files)
    if unknown := [name for name in chosen or () if name not in known]:
        raise DataError(f"{listed} has no relation {unknown[0]!r}; it has {shown(known)}.")
    if not known:
        raise DataError(f"{folder} has no facts of the relations in {listed.name}, such as P36/test.jsonl.")
    relations = [known[name] for name in dict.fromkeys(chosen or known)]
    for relation in relations:
        if missing := [split for split in splits if split not in relation.files]:
            raise DataError(
                f"The relation {relation.name} has no {missing[0]} file: {folder / relation.name / missing[0]}.jsonl "
                f"(LAMA itself has none to train on, AutoPrompt has)."
            )
    return relations


def _find_files(folder: Path, name: str) -> dict[str, Path]:
    for inner in _FOLDERS:
        files = {split: folder / inner / name / f"{split}.jsonl" for split in SPLITS}
        if found := {split: path for split, path in files.items() if path.is_file()}:
            return found
    return next(
        ({"test": path} for inner in _TEST_ONLY if (path := folder / inner / f"{name}.jsonl").is_file()),
        {},
    )


def _template(record: Record) -> str:
    template = record.get("template", str)
    for slot in (TEXT, _OBJECT):
        if template.count(slot) != 1:
            raise record.wrong(f"the template {template!r} has {template.count(slot) or 'no'} {slot}; write one")
    return template.replace(_OBJECT, BLANK)


def candidate_words(tokenizer: Tokenizer, path: str | None) -> tuple[list[int], list[str]]:
    """The ids of the words that answers are chosen among, and notes on what was left out.

    Args:
        path: a file with one word a line, such as LAMA's common vocabulary; None takes every token of the vocabulary
            that is one word or mark by itself: no part of a word and no special token.

    Raises:
        DataError: the file cannot be read, or has no word of the vocabulary.
    """
    if path is None:
        return tokenizer.whole_words, []
    words = [line.strip() for _, line in read_lines(Path(path).expanduser()) if line.strip()]
    ids = [tokenizer.id_of_word(word) for word in words]
    found = sorted({i for i in ids if i is not None})
    if not found:
        raise DataError(f"{path} has no word that is one token of this vocabulary; give one word a line.")
    left_out = sum(i is None for i in ids)
    return found, [f"{path}: {left_out} of {len(words)} words are not one token and left out."] if left_out else []


def read_facts(relation: Relation, split: str, tokenizer: Tokenizer, candidates: Collection[int]) -> Facts:
    """The facts of a split that can be answered with one of `candidates`; the others are counted.

    Raises:
        DataError: the file cannot be read, or no fact is left.
    """
    facts = Facts([], [])
    path = relation.files[split]
    for record in read_json_lines(path):
        subject, obj = (record.get(name, str) for name in COLUMNS)
        word = tokenizer.id_of_word(obj)
        if word is None:
            facts.several += 1
        elif word not in candidates:
            facts.outside += 1
        else:
            facts.subjects.append(subject)
            facts.words.append(word)
    if not facts.words:
        raise DataError(
            f"{path}: no object is one of the candidate words ({facts.several} take several tokens of this "
            f"vocabulary, {facts.outside} are no candidates)."
        )
    return facts
