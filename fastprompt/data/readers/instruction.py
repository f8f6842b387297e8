"""Instructions and their answers in Alpaca's form: JSON, JSON lines, or a folder that `datasets` saved."""

from collections.abc import Iterator
from pathlib import Path

from fastprompt.data.chat import CHAT_TEMPLATES
from fastprompt.data.examples import Instructions
from fastprompt.data.readers.files import Record, find_split, listed, load_saved, read_json, read_json_lines
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
    path = Path(data_dir).expanduser()
    source, rows, whole = _open(path, split)
    if whole and split == "test":
        raise DataError(f"{source} has no splits, and so none to predict; leave --do_predict off.")
    instructions, contexts, outputs, empty = [], [], [], []
    for row in rows:
        instruction, context = read_instruction(row)
        output = "" if split == "test" else row.get("output", str)
        if not output.strip() and split != "test":
            empty.append(row.trail)
            continue
        instructions.append(instruction)
        contexts.append(context)
        outputs.append(output)
    if not outputs:
        raise DataError(f"{source} has no row{'' if split == 'test' else ' with an output'}.")
    data = Instructions(instructions, contexts, outputs, template)
    if whole:
        data = _part(data, split, source)
    if empty:
        data.notes.append(f"{source}: {len(empty)} rows have no output and are left out, the first at {empty[0]}.")
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


def _open(path: Path, split: str) -> tuple[Path, Iterator[Record], bool]:
    """Where the rows stand, the rows, and whether they are those of all splits together."""
    if path.is_dir() and (path / "dataset_dict.json").exists():
        return path, _saved(path, split), False
    if path.is_dir() and (path / "dataset_info.json").exists():
        return path, _saved(path, None), True
    if path.is_dir():
        files = [file for file in listed(path) if file.suffix in (".json", ".jsonl")]
        if len(files) != 1:
            found = find_split(path, split, (".json", ".jsonl"))
            return found, _read(found), False
        path = files[0]
    return path, _read(path), True


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
