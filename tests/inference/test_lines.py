"""Input as it comes: files and standard input, texts and JSON, with and without a byte-order mark."""

import io
import json
from types import SimpleNamespace

from fastprompt.data.readers.files import read_json_lines
from fastprompt.errors import DataError
from fastprompt.inference import lines
from fastprompt.inference.lines import open_input

import pytest

pytestmark = pytest.mark.once

ROWS = [{"text": "a film", "text_pair": "b"}, {"text": "é"}]
JSON_LINES = "\n".join(map(json.dumps, ROWS)) + "\n"


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """opened(name, text): what is read of such a file, or of standard input where it is None; JSON as objects."""

    def run(name, text):
        raw = text if isinstance(text, bytes) else text.encode()
        if name is not None:
            (tmp_path / name).write_bytes(raw)
        monkeypatch.setattr(lines, "sys", SimpleNamespace(stdin=SimpleNamespace(buffer=io.BytesIO(raw))))
        found, structured = open_input(None if name is None else str(tmp_path / name))
        texts = [text for _, text in found]
        return [json.loads(text) for text in texts] if structured else texts

    return run


@pytest.mark.parametrize("name", [None, "input.txt", "input.jsonl", "input.json"])
def test_a_byte_order_mark_is_no_part_of_a_text(opened, name):
    if name in (None, "input.txt"):
        assert opened(name, "\ufeffa film\nb\ufeff\n") == ["a film", "b\ufeff"]
    if name != "input.txt":
        assert opened(name, "\ufeff" + JSON_LINES) == ROWS


@pytest.mark.parametrize("name", [None, "input.json"])
@pytest.mark.parametrize(
    "text", [JSON_LINES, f"\n{JSON_LINES}"[1:] + "\n\n", json.dumps(ROWS), json.dumps(ROWS, indent=2)]
)
def test_json_is_read_as_json(opened, name, text):
    assert opened(name, text) == ROWS


@pytest.mark.parametrize("name", [None, "input.jsonl", "input.json"])
def test_json_lines_are_read_as_train_reads_them(opened, tmp_path, name):
    """Blank lines are none, and where files were joined a byte-order mark stands before a later line."""
    joined = f"\ufeff\n \n{JSON_LINES}\n\t\n\ufeff{JSON_LINES}\ufeff\n"
    (tmp_path / "train.jsonl").write_text(joined, encoding="utf-8")
    assert opened(name, joined) == ROWS + ROWS
    assert [record.value for record in read_json_lines(tmp_path / "train.jsonl")] == ROWS + ROWS


def test_the_line_of_a_broken_list_is_named(opened):
    with pytest.raises(DataError, match=r"input\.json, line 4: no valid JSON"):
        opened("input.json", '[\n\n{"text": "a"},\n{"text" "b"}]')


def test_one_object_over_several_lines_is_a_json_file(opened):
    assert opened("input.json", json.dumps(ROWS[0], indent=2)) == ROWS[:1]


@pytest.mark.parametrize("text", ["[MASK] is it\nx\n", "[1, 2]\n", "[]\n", '["a"]\n', "{a}\n", '"a"\n', "\n\nx\n", ""])
def test_texts_that_only_look_like_json_are_texts(opened, text):
    assert opened(None, text) == text.splitlines()


def test_texts_in_a_text_file_stay_texts(opened):
    assert opened("input.txt", JSON_LINES) == JSON_LINES.splitlines()


@pytest.mark.parametrize("text", ["a film\n", "[1]", "5", "", '[{"text": "a"'])
def test_a_json_file_that_is_none_is_refused(opened, text):
    with pytest.raises(DataError, match=r"input\.json.*(no valid JSON|is expected)"):
        opened("input.json", text)


def test_standard_input_is_answered_as_it_comes(monkeypatch):
    """What comes after the first line is not waited for."""

    def slow():
        yield b'{"text": "a"}\n'
        raise AssertionError

    monkeypatch.setattr(lines, "sys", SimpleNamespace(stdin=SimpleNamespace(buffer=slow())))
    found, structured = open_input(None)
    assert structured
    assert next(found) == ("standard input, line 1", '{"text": "a"}')
