"""Tagged tokens: CoNLL's columns (named entities), and sentences with a predicate (semantic role labelling)."""

from collections.abc import Sequence
from pathlib import Path

from fastprompt.data.examples import TaggedTokens
from fastprompt.data.readers.files import find_split, read_lines, shown
from fastprompt.data.readers.hub import load_from_hub
from fastprompt.errors import DataError

_SUFFIXES = (".txt", ".conll", ".tsv", ".bio")


def is_entity_tag(name: str) -> bool:
    """Whether a tag is O, or B-, I- (BIO), E- or S- (IOBES) with a type."""
    return name == "O" or (name[:1] in ("B", "I", "E", "S") and name[1:2] == "-" and len(name) > 2)


def load_ner(
    split: str,
    data_dir: str | Path | None = None,
    label_names: Sequence[str] | None = None,
    tag_column: int | None = None,
) -> TaggedTokens:
    """Split "train", "validation" or "test" of a folder of column files (train.txt, valid.txt), or of the hub's
    CoNLL-2003.

    Args:
        label_names, tag_column: see `read_conll`.

    Raises:
        DataError: a file or the hub cannot be read; see `read_conll`.
    """
    if data_dir is not None:
        return read_conll(find_split(data_dir, split, _SUFFIXES), label_names, tag_column)
    rows = load_from_hub("CoNLL-2003", "eriktks/conll2003", None, split, "refs/convert/parquet")
    names = rows.features["ner_tags"].feature.names
    return TaggedTokens(list(rows["tokens"]), list(rows["ner_tags"]), names)


def load_srl(split: str, data_dir: str | Path, label_names: Sequence[str] | None = None) -> TaggedTokens:
    """Split "train", "validation" or "test" of a folder of files of predicates, as `read_srl` takes them."""
    return read_srl(find_split(data_dir, split, (".txt",)), label_names)


def read_conll(path: Path, label_names: Sequence[str] | None = None, tag_column: int | None = None) -> TaggedTokens:
    """A file with a token and its tag a line, and a blank line after each sentence.

    Columns stand between tabs, or else between spaces; the token is the first. Lines of -DOCSTART- part documents.

    Args:
        label_names: the tags of training; None where this is training, whose own tags they are: O first, then by type.
        tag_column: which column holds the tag, counted from 1; None for the last.

    Raises:
        DataError: with the line: columns are missing, empty or of another number than in the first line, or a tag marks
            no entity or does not occur in training.
    """
    sentences: list[tuple[int, list[str], list[str]]] = []  # first line, tokens, tags
    columns, inside = 0, False
    for number, line in read_lines(path):
        if not line.strip() or line.startswith("-DOCSTART-"):
            inside = False
            continue
        fields = line.split("\t") if "\t" in line else split_words(line)
        columns = columns or len(fields)
        if len(fields) != columns:
            raise DataError(f"{path}, line {number}: {len(fields)} columns where the first line has {columns}.")
        if not 2 <= (tag_column or columns) <= columns:
            raise DataError(f"{path}, line {number}: no tag, for there are {columns} columns (the token's is 1).")
        token, tag = fields[0], fields[(tag_column or columns) - 1].strip()
        if not token or not tag:
            raise DataError(f"{path}, line {number}: the {'tag' if token else 'token'} is empty.")
        _check_tag(tag, label_names, f"{path}, line {number}")
        if not inside:
            sentences.append((number, [], []))
        inside = True
        sentences[-1][1].append(token)
        sentences[-1][2].append(tag)
    if not sentences:
        raise DataError(f"{path} has no sentences; a token and its tag a line are expected.")
    _, tokens, tags = zip(*sentences, strict=True)
    return _make(list(tokens), list(tags), label_names)


def read_srl(path: Path, label_names: Sequence[str] | None = None) -> TaggedTokens:
    """A file with one predicate of a sentence a line: its position, counted from 0, the tokens, |||, a tag a token.

    The form of He et al., 2017, which P-Tuning v2 takes for CoNLL-2005 and 2012. The predicate is the second segment.

    Args:
        label_names: see `read_conll`.

    Raises:
        DataError: with the line: it has not this form, or a tag marks no role or does not occur in training.
    """
    sentences, tagged, predicates = [], [], []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        left, bar, right = line.partition("|||")
        position, *tokens = split_words(left) or [""]
        tags = split_words(right)
        where = f"{path}, line {number}"
        if not bar or not tokens or not position.isdecimal():
            raise DataError(f"{where}: the predicate's position, the tokens, ||| and the tags are expected.")
        if len(tags) != len(tokens):
            raise DataError(f"{where}: {len(tokens)} tokens and {len(tags)} tags.")
        if int(position) >= len(tokens):
            raise DataError(
                f"{where}: the predicate's position is {position}, counted from 0, of {len(tokens)} tokens."
            )
        for tag in tags:
            _check_tag(tag, label_names, where)
        sentences.append(tokens)
        tagged.append(tags)
        predicates.append([tokens[int(position)]])
    if not sentences:
        raise DataError(f"{path} has no sentences; one predicate a line is expected.")
    return _make(sentences, tagged, label_names, predicates)


def split_words(line: str) -> list[str]:
    """Words with spaces between them; a no-break space is part of a word."""
    return [word for word in line.split(" ") if word]


def _check_tag(tag: str, label_names: Sequence[str] | None, where: str) -> None:
    if not is_entity_tag(tag):
        raise DataError(f"{where}: the tag {tag!r} is neither O nor B-TYPE, I-TYPE (BIO), E-TYPE, S-TYPE (IOBES).")
    if label_names is not None and tag not in label_names:
        raise DataError(f"{where}: the tag {tag!r} does not occur in training, whose tags are {shown(label_names)}.")


def _make(
    sentences: list[list[str]],
    tagged: list[list[str]],
    label_names: Sequence[str] | None,
    predicates: list[list[str]] | None = None,
) -> TaggedTokens:
    if label_names is None:
        seen = {tag for tags in tagged for tag in tags} | {"O"}
        label_names = sorted(seen, key=lambda tag: (tag != "O", tag[2:], tag[:1]))
    index = {name: number for number, name in enumerate(label_names)}
    return TaggedTokens(sentences, [[index[tag] for tag in tags] for tags in tagged], list(label_names), predicates)
