"""Instructions and their answers in Alpaca's form: JSON, JSON lines, or a folder that `datasets` saved."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprompt.data.chat import CHAT_TEMPLATES
from fastprompt.data.examples import Instructions
from fastprompt.data.readers.files import Record, find_split, listed, load_saved, read_json, read_json_lines
from fastprompt.data.readers.labelled import Add, gather
from fastprompt.errors import DataError

_HELD_OUT = 20  # of so many rows the last is for evaluation where nobody has split them


def load_instructions(data_dir: str | Path, split: str, template: str = CHAT_TEMPLATES[0]) -> Instructions:
    """Split "train", "validation" or "test" of rows with the keys instruction, input (which may be missing) and output.

    Rows that nobody has split, one .json or .jsonl file or what `Dataset.save_to_disk` made, are split here: of every
    20 the last is for evaluation. Rows whose output is empty are left out, and counted in the notes; those of a test
    split are not asked for any.

    Args:
        data_dir: a file, or a folder with one, with train.json, dev.jsonl and the like, or with `datasets`' own files.

    Raises:
        DataError: there is no such file or split, or with the line or row: a key is missing or its value is no text; or
            no row has an output, or one alone is to be split.
    """
    found = _find(Path(data_dir).expanduser(), split)
    source, tested = found.source, split == "test"
    if found.whole and tested:
        raise DataError(f"{source} has no splits, and so none to predict; leave --do_predict off.")

    def read(add: Add) -> dict[str, Any]:
        empty: list[str] = []
        count = 0
        for row in found.rows():
            instruction, context = read_instruction(row)
            output = "" if tested else row.get("output", str)
            if not output.strip() and not tested:
                empty.append(row.trail)
                continue
            add([instruction, context, output], 0)
            count += 1
        if not count:
            raise DataError(f"{source} has no row{'' if tested else ' with an output'}.")
        return {"empty": len(empty), "first": empty[:1]}

    gathered = gather(found.files, {"instructions": found.kind, "tested": tested}, read)
    data = Instructions(*gathered.columns, template)
    if found.whole:
        data = _part(data, split, source)
    if empty := gathered.about["empty"]:
        (first,) = gathered.about["first"]
        data.notes.append(f"{source}: {empty} rows have no output and are left out, the first at {first}.")
    data.notes += gathered.notes
    return data


def read_instruction(row: Record) -> tuple[str, str]:
    """A row's instruction, and its input: "" where it has none.

    Raises:
        DataError: with the row: the instruction is missing or empty, or one of them is no text.
    """
    instruction = row.get("instruction", str)
    if not instruction.strip():
        raise row.wrong("'instruction' is empty")
    return instruction, (row.get("input", str, type(None)) if "input" in row.value else None) or ""


def _part(data: Instructions, split: str, source: Path) -> Instructions:
    if len(data) < 2:
        raise DataError(f"{source} has one row; at least two are expected, to train on and to evaluate.")
    step = min(_HELD_OUT, len(data))
    held_out = set(range(step - 1, len(data), step))
    data.notes.append(
        f"{source} has no splits: {len(held_out)} of {len(data)} rows, every {step}th, are for evaluation."
    )
    return data.select([row for row in range(len(data)) if (row in held_out) == (split == "validation")])


@dataclass(frozen=True)
class _Found:
    """Where the rows stand.

    Attributes:
        kind: of which form the files are, and which split of a folder of several.
        rows: reads them.
        whole: whether they are those of all splits together.
    """

    source: Path
    files: list[Path]
    kind: str
    rows: Callable[[], Iterator[Record]]
    whole: bool


def _find(path: Path, split: str) -> _Found:
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        if (path / "dataset_dict.json").exists():
            return _Found(path, inside, f"saved {split}", lambda: _saved(path, split), whole=False)
        if (path / "dataset_info.json").exists():
            return _Found(path, inside, "saved", lambda: _saved(path, None), whole=True)
        files = [file for file in listed(path) if file.suffix in (".json", ".jsonl")]
        if len(files) != 1:
            found = find_split(path, split, (".json", ".jsonl"))
            return _Found(found, [found], found.suffix, lambda: _read(found), whole=False)
        (path,) = files
    return _Found(path, [path], path.suffix, lambda: _read(path), whole=True)


def _saved(folder: Path, split: str | None) -> Iterator[Record]:
    where, rows = load_saved(folder, split)
    for number, row in enumerate(rows):
        yield Record(where, f"row {number}", row)


def _read(path: Path) -> Iterator[Record]:
    if path.suffix == ".jsonl":
        yield from read_json_lines(path)
        return
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} holds no list of rows; Alpaca's form is [{{instruction, input, output}}, ...].")
    for number, row in enumerate(content):
        yield Record(str(path), f"row {number}", row)
