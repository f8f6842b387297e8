"""Large data come from the cache of `datasets`: the same batches, tokenised once, shared, and never half read."""

import errno
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import fastprompt as fp
from fastprompt.data import squad_windows, store, tokenised
from fastprompt.data.examples import (
    ClozeTexts,
    Instructions,
    LabelledTexts,
    SquadData,
    SquadQuestion,
)
from fastprompt.data.packed import CHUNK
from fastprompt.data.squad_answers import best_spans, choose_answers
from fastprompt.data.squad_windows import make_windows
from fastprompt.errors import DataError
from fastprompt.framework import ops
from fastprompt.pretrained.tokenizer import Tokenizer

import datasets
import numpy
import pytest

from support.examples import CONTEXTS, KINDS, LABELS, ROWS, TEXTS


@pytest.fixture
def tokenizer(tiny, monkeypatch):
    monkeypatch.setattr(Tokenizer, "eos_token_id", 2)
    return fp.load_tokenizer(tiny["bert"])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the entries, empty, where the rows of all data go."""
    use(tmp_path / "cache", monkeypatch)
    return tmp_path / "cache" / "fastprompt"


def use(folder, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder))
    monkeypatch.setattr(store, "_unusable", set())
    monkeypatch.setattr(tokenised, "STORED_FROM", 1)


def entries(cache):
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def plain(rows):
    return [{n: numpy.array(v).tolist() for n, v in row.items()} for row in rows]


def read(tokenizer, data=KINDS["texts"], length=60):
    """The rows as lists, and the notes."""
    notes = []
    return plain(tokenised.tokenised(data, tokenizer, length, notes)), notes


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_memory_in_their_order(kind, tokenizer, tmp_path, monkeypatch):
    def batches():
        notes = []
        options = {"batch_size": 16, "shuffle": True, "seed": 3, "max_length": 40, "notes": notes}
        loader = fp.make_dataloader(KINDS[kind], tokenizer, **options)
        found = [[(n, ops.to_numpy(x).dtype, ops.to_numpy(x).tolist()) for n, x in batch.items()] for batch in loader]
        return found, loader.batch_sampler.counts.tolist(), notes

    in_memory = batches()
    use(tmp_path, monkeypatch)
    assert batches() == in_memory  # written
    monkeypatch.setattr(tokenised, "encode_rows", None)
    assert batches() == in_memory  # read


@pytest.mark.once
def test_ids_are_int32_in_the_file_and_no_mask_is(tokenizer, cache):
    read(tokenizer, KINDS["pairs in groups"])
    (path,) = cache.glob("*/rows.arrow")
    features = datasets.Dataset.from_file(str(path)).features
    lists = [features[name].feature.dtype for name in ("input_ids", "token_type_ids")]
    assert (lists, sorted(features)) == (["int32"] * 2, ["groups", "input_ids", "labels", "token_type_ids"])


@pytest.mark.once
def test_small_data_stay_in_memory(tokenizer, cache):
    tokenised.STORED_FROM = ROWS + 1
    read(tokenizer)
    assert not cache.exists()


@pytest.mark.once
def test_small_data_need_no_datasets(run_python, tiny):
    code = """
import sys
import fastprompt as fp
from fastprompt.data.tokenised import tokenised
tokenised(fp.load_reviews("train"), fp.load_tokenizer(sys.argv[1]), 60, [])
print({"datasets", "pyarrow"} & set(sys.modules))
"""
    assert run_python("torch", "-c", code, tiny["bert"]).stdout.split() == ["set()"]


@pytest.mark.once
def test_what_shapes_the_rows_makes_an_entry_of_its_own(tokenizer, cache, tiny, tmp_path, monkeypatch):
    def made(tokenizer=tokenizer, data=KINDS["texts"], length=60):
        before = set(entries(cache)) if cache.exists() else set()
        read(tokenizer, data, length)
        return len(set(entries(cache)) - before)

    assert made() == 1
    assert made() == 0
    assert made(length=5) == 1
    assert made(data=LabelledTexts([*TEXTS[:-1], "w2"], LABELS)) == 1
    assert made(data=LabelledTexts(TEXTS, [1, *LABELS[1:]])) == 1
    clozes = (ClozeTexts(TEXTS, LABELS, template, causal=c) for template, c in (("[X] [MASK]", 0), ("[X] [MASK]", 1)))
    assert [made(data=data) for data in clozes] == [1, 1]
    folder = shutil.copytree(tiny["bert"], tmp_path / "bert")
    assert made(fp.load_tokenizer(folder)) == 0  # the same wherever it lies
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["additional_special_tokens"] = ["<one more>"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert made(fp.load_tokenizer(folder)) == 1
    monkeypatch.setattr(tokenised.tokenizers, "__version__", "0")
    assert made() == 1
    monkeypatch.setattr(store, "_code", lambda: "another")
    assert made() == 1


def cut(folder):
    path = folder / "rows.arrow"
    path.write_bytes(path.read_bytes()[:-100])


def flip(folder):
    content = bytearray((folder / "rows.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "rows.arrow").write_bytes(content)


def cut_description(folder):
    path = folder / "entry.json"
    path.write_bytes(path.read_bytes()[:-10])


def change_notes(folder):
    path = folder / "entry.json"
    path.write_text(path.read_text().replace("are cut to", "are not cut to"))


@pytest.mark.once
@pytest.mark.parametrize(
    "damage", [cut, flip, cut_description, change_notes, lambda folder: (folder / "rows.arrow").unlink()]
)
def test_an_entry_that_was_cut_short_or_changed_is_made_anew(damage, tokenizer, cache):
    whole, notes = read(tokenizer, length=5)
    assert len(notes) == 1
    (name,) = entries(cache)
    damage(cache / name)
    found, again = read(tokenizer, length=5)
    assert (found, again[-1:]) == (whole, notes)
    assert again[0] == f"{cache / name} was cut short or changed; it is made anew."
    assert read(tokenizer, length=5) == (whole, notes)


@pytest.mark.once
def test_a_folder_that_cannot_be_made_leaves_the_rows_in_memory_and_is_said_once(tokenizer, tmp_path, monkeypatch):
    expected = read(tokenizer)
    (tmp_path / "file").touch()
    use(tmp_path / "file", monkeypatch)
    rows, notes = read(tokenizer)
    assert rows == expected[0]
    assert len(notes) == 1
    assert f"{tmp_path / 'file' / 'fastprompt'} cannot be used (Not a directory)" in notes[0]
    assert read(tokenizer) == expected


@pytest.mark.once
def test_a_full_disk_leaves_the_rows_in_memory_and_nothing_behind(tokenizer, cache, monkeypatch):
    write = store.ArrowWriter.write_table
    written = []

    def write_one(self, table):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(write(self, table))

    expected = read(tokenizer)
    shutil.rmtree(cache)
    monkeypatch.setattr(store.ArrowWriter, "write_table", write_one)
    rows, notes = read(tokenizer)
    assert rows == expected[0]
    assert len(notes) == 1
    assert "cannot be used (No space left on device)" in notes[0]
    assert entries(cache) == []


@pytest.mark.once
def test_an_error_in_the_data_leaves_nothing_behind(tokenizer, cache):
    data = Instructions(TEXTS, CONTEXTS, TEXTS, "human-assistant")
    with pytest.raises(DataError, match="No instruction is shorter than 5"):
        read(tokenizer, data, 5)
    assert entries(cache) == []


CHILD = """
import os, pathlib, signal, sys, time
import fastprompt as fp
from fastprompt.data import squad_windows, store, tokenised
from fastprompt.data.examples import LabelledTexts

tokenised.STORED_FROM = 1
encode, how = tokenised.encode_rows, sys.argv[2]

def watched(*arguments):
    print("tokenises", flush=True)
    for place, row in enumerate(encode(*arguments)):
        if how == "killed" and place == len(data) - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield row

tokenised.encode_rows = watched
data = LabelledTexts([" ".join(["w1"] * (1 + row % 7)) for row in range(1074)], [row % 2 for row in range(1074)])
if how == "together":
    (ready := pathlib.Path(sys.argv[3]) / str(os.getpid())).touch()
    while len(list(ready.parent.iterdir())) < 2:
        time.sleep(0.01)
rows = tokenised.tokenised(data, fp.load_tokenizer(sys.argv[1]), 60, [])
print(sum(int(row["input_ids"].sum()) for row in rows))
"""


@pytest.mark.once
def test_of_two_processes_at_once_one_writes_and_both_read(tiny, tmp_path, run_python, tokenizer):
    (tmp_path / "ready").mkdir()
    arguments = ("torch", "-c", CHILD, tiny["bert"], "together", tmp_path / "ready")
    with ThreadPoolExecutor() as pool:
        children = [pool.submit(run_python, *arguments, HF_DATASETS_CACHE=str(tmp_path / "cache")) for _ in range(2)]
    said = [child.result().stdout.split() for child in children]
    expected = str(sum(sum(row["input_ids"]) for row in read(tokenizer)[0]))
    assert sorted(said) == [[expected], ["tokenises", expected]]


@pytest.mark.once
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_is_read(tiny, tokenizer, cache, run_python):
    folder = cache.parent
    expected = tokenised.encode_rows(KINDS["texts"], tokenizer, 60, [])
    run_python("torch", "-c", CHILD, tiny["bert"], "killed", check=False, HF_DATASETS_CACHE=str(folder))
    (left,) = entries(cache)
    assert left.startswith(".tokens-")
    assert read(tokenizer)[0] == plain(expected)
    (whole,) = entries(cache)
    assert not whole.startswith(".")


CONTEXT = " ".join(f"{one}{two}" for one in "abcdefgh" for two in "klmnopqrst")  # a token each letter
QUESTIONS = [
    SquadQuestion(str(i), "ab c " * (1 + i % 3), CONTEXT[i % 9 :], [("dn", CONTEXT.index("dn") - i % 9)] * (i % 2))
    for i in range(300)
]


def test_windows_of_questions_are_those_of_memory(tokenizer, cache, monkeypatch):
    def made():
        windows = make_windows(SquadData(QUESTIONS, True), tokenizer, 60, 20, 5)
        notes = []
        loader = fp.make_dataloader(windows, tokenizer, batch_size=16, shuffle=True, max_length=60, notes=notes)
        batches = [[(n, ops.to_numpy(x).tolist()) for n, x in batch.items()] for batch in loader]
        return windows, batches, notes

    in_memory, batches, notes = made()
    assert len(in_memory) > CHUNK
    assert len(notes) == 1
    monkeypatch.setattr(squad_windows, "STORED_FROM", 1)
    for _ in range(2):
        windows, *found = made()
        assert isinstance(windows.windows, squad_windows.StoredWindows)
        assert found == [batches, notes]
        assert (windows.notes, windows.text_settings) == (in_memory.notes, in_memory.text_settings)
        for one, two in zip(windows.windows[:], in_memory.windows, strict=True):
            assert (one.question, one.start, one.end) == (two.question, two.start, two.end)
            for name in ("input_ids", "token_type_ids", "offsets"):
                numpy.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        assert plain(windows.rows()) == plain(in_memory.rows())
        answers = [
            choose_answers(
                of, {n: best_spans(w, *[numpy.arange(len(w.input_ids))] * 2) for n, w in enumerate(of.windows)}
            )
            for of in (windows, in_memory)
        ]
        assert answers[0] == answers[1]
        monkeypatch.setattr(squad_windows, "_cut", None)
    assert len(entries(cache)) == 1


@pytest.mark.once
def test_other_settings_cut_other_windows(tokenizer, cache, monkeypatch):
    monkeypatch.setattr(squad_windows, "STORED_FROM", 1)
    for settings in ((60, 20, 5), (60, 20, 6), (60, 21, 5), (61, 20, 5), (60, 20, 5)):
        make_windows(SquadData(QUESTIONS[:9], True), tokenizer, *settings)
    make_windows(SquadData(QUESTIONS[:8], True), tokenizer, 60, 20, 5)
    assert len(entries(cache)) == 5
