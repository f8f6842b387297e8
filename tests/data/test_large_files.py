"""Files of texts that go through the cache are what the readers of small files make of them, errors too."""

import json
import shutil

import fastprompt as fp
from fastprompt.data import store, tokenised
from fastprompt.data.packed import CHUNK
from fastprompt.data.readers import files, glue, labelled
from fastprompt.data.stored_texts import StoredTexts
from fastprompt.data.tasks import load_task
from fastprompt.errors import DataError

import datasets
import pytest

pytestmark = pytest.mark.once
ROWS = CHUNK + 50  # more than a chunk
TEXTS = [f"text {row}, é" for row in range(ROWS)]


def use(folder, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder))
    monkeypatch.setattr(store, "_unusable", set())
    monkeypatch.setattr(labelled, "STORED_FROM", 1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the entries, empty, where the rows of all files go."""
    use(tmp_path / "cache", monkeypatch)
    return tmp_path / "cache" / "fastprompt"


def entries(cache):
    return {path.name for path in cache.iterdir() if path.is_dir()} if cache.exists() else set()


def in_memory(read, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(labelled, "STORED_FROM", 2**40)
        return read()


def csv(folder, name="train.csv"):
    rows = [f'"{text}",{" b " if row % 3 else "a"},"pair\n""{row}"""' for row, text in enumerate(TEXTS)]
    (folder / name).write_text("text,label,other\n" + "\n".join(rows) + "\n")


def tsv(folder):
    (folder / "train.tsv").write_text("text\tlabel\n" + "".join(f"{t}\t{r % 12}\n" for r, t in enumerate(TEXTS)))


def quoted_tsv(folder):
    lines = (f'"{t}\n""more"""\t{r % 2}\n' for r, t in enumerate(TEXTS))
    (folder / "train.tsv").write_text("text\tlabel\n" + "".join(lines))


def json_lines(folder):
    rows = ({"text": text, "label": row % 2 == 0} for row, text in enumerate(TEXTS))
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def numbers(folder):
    (folder / "train.tsv").write_text("text\tlabel\n" + "".join(f"{t}\t{r / 7}\n" for r, t in enumerate(TEXTS)))


def saved(folder):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    table = datasets.Dataset.from_dict({"text": TEXTS, "label": [row % 2 for row in range(ROWS)]}, features)
    datasets.DatasetDict({"train": table}).save_to_disk(str(folder))


def sst2(folder):
    (folder / "train.tsv").write_text("sentence\tlabel\n" + "".join(f"{t}\t{r % 2}\n" for r, t in enumerate(TEXTS)))


def stsb(folder):
    lines = (f"{t}\t{t} {r}\t{r % 6}.5\n" if r % 6 < 5 else f"{t}\tb\t0\n" for r, t in enumerate(TEXTS))
    (folder / "train.tsv").write_text("sentence1\tsentence2\tscore\n" + "".join(lines))


def qqp(folder):
    lines = (f"{t}\tb {r}\t{r % 2}\n" if r % 100 else "short\n" for r, t in enumerate(TEXTS))
    (folder / "train.tsv").write_text("question1\tquestion2\tis_duplicate\n" + "".join(lines))


def mrpc(folder):
    lines = (f"{r % 2}\t{r}\t{r + 1}\t{t}\tb {r}\n" for r, t in enumerate(TEXTS))
    (folder / "msr_paraphrase_train.txt").write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + "".join(lines))
    (folder / "dev_ids.tsv").write_text("".join(f"{r}\t{r + 1}\n" for r in range(0, ROWS, 5)))


def sst2_test(folder):
    (folder / "test.tsv").write_text("index\tsentence\n" + "".join(f"{r}\t{t}\n" for r, t in enumerate(TEXTS)))


def instructions(folder):
    rows = (
        {"instruction": text, "output": f"answer {row}" if row % 50 else "", **({"input": "é"} if row % 2 else {})}
        for row, text in enumerate(TEXTS)
    )
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def instructions_in_a_list(folder):
    rows = [{"instruction": text, "input": "", "output": "a"} for text in TEXTS]
    (folder / "dev.json").write_text(json.dumps(rows))
    (folder / "train.json").write_text(json.dumps(rows[:1]))


def saved_instructions(folder):
    columns = {"instruction": TEXTS, "input": [None] * ROWS, "output": TEXTS}
    datasets.Dataset.from_dict(columns).save_to_disk(str(folder))


OWN = {"task_name": "classification", "dataset_name": None, "split": "train", "text_columns": ["text"]}
GLUE = {"task_name": "glue", "split": "train"}
ANSWERS = {"task_name": "instruction", "dataset_name": None}
SOURCES = {
    "csv": (csv, OWN),
    "csv, pairs": (csv, {**OWN, "text_columns": ["text", "other"], "label_names": ["b", "c", "a"]}),
    "csv, test": (lambda folder: csv(folder, "test.csv"), {**OWN, "split": "test", "label_names": ["b", "a"]}),
    "tsv": (tsv, OWN),
    "quoted tsv": (quoted_tsv, OWN),
    "json lines": (json_lines, OWN),
    "numbers": (numbers, {**OWN, "task_name": "regression"}),
    "saved": (saved, OWN),
    "sst2": (sst2, {**GLUE, "dataset_name": "sst2"}),
    "sst2, test": (sst2_test, {**GLUE, "dataset_name": "sst2", "split": "test"}),
    "stsb": (stsb, {**GLUE, "dataset_name": "stsb"}),
    "qqp": (qqp, {**GLUE, "dataset_name": "qqp"}),
    "mrpc": (mrpc, {**GLUE, "dataset_name": "mrpc"}),
    "instructions": (instructions, {**ANSWERS, "split": "train"}),
    "instructions, dev": (instructions, {**ANSWERS, "split": "validation"}),
    "instructions in a list": (instructions_in_a_list, {**ANSWERS, "split": "validation"}),
    "saved instructions": (saved_instructions, {**ANSWERS, "split": "train"}),
    "mrpc, dev": (mrpc, {**GLUE, "dataset_name": "mrpc", "split": "validation"}),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_examples_are_those_of_a_small_file(source, tmp_path, cache, monkeypatch):
    write, options = SOURCES[source]
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)

    def read():
        return load_task(**options, data_dir=folder)

    expected = in_memory(read, monkeypatch)
    assert not entries(cache)
    written = read()
    assert len(entries(cache)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(files.Record, "get", None)  # which no row of one's own comes without, and GLUE's not
        patch.setattr(glue, "read_tsv", None)  # without this
        again = read()
    for found in (written, again):
        assert vars(found) == vars(expected)
        assert found.fingerprint == expected.fingerprint
        for name in found.columns:
            column, listed = getattr(found, name), getattr(expected, name)
            assert type(column) is (StoredTexts if listed and isinstance(listed[0], str) else type(listed))
            assert listed is None or list(map(type, column)) == list(map(type, listed))
    assert len(entries(cache)) == 1


BAD = {
    "no UTF-8": (b"text,label\na,x\n\xff\xfe,y\n", OWN),
    "columns": (b"text,label\na,x\nb,y,z\nc,\n", OWN),
    "a later row that cannot be read": (b"text,label\na,x\nb,\nc,y,z\n", OWN),
    "no label": (b"text,label\na,x\nb,\n", OWN),
    "a fraction": (b"text,label\na,x\nb,0.5\n", OWN),
    "one class": (b"text,label\na,x\nb,x\n", OWN),
    "no number": (b"text,label\na,1\nb,x\n", {**OWN, "task_name": "regression"}),
    "another class": (b"text,label\na,x\nb,y\nc,z\n", {**OWN, "label_names": ["y", "x"]}),
    "no column": (b"text,lable\na,x\n", OWN),
    "no rows": (b"text,label\n", OWN),
    "a quote": (b'text,label\na,x\n"b,y\n', OWN),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_those_of_a_small_file_and_nothing_is_stored(case, tmp_path, cache, monkeypatch):
    content, options = BAD[case]
    (tmp_path / "train.csv").write_bytes(content)

    def message():
        with pytest.raises(DataError) as caught:
            load_task(**options, data_dir=tmp_path)
        return str(caught.value)

    expected = in_memory(message, monkeypatch)
    assert str(tmp_path / "train.csv") in expected
    assert [message(), message()] == [expected] * 2
    assert not entries(cache)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, cache, monkeypatch):
    def changing(*arguments):
        yield from read_tsv(*arguments)
        with (tmp_path / "train.tsv").open("a") as file:
            file.write("more\t1\n")

    sst2(tmp_path)
    read_tsv = glue.read_tsv
    monkeypatch.setattr(glue, "read_tsv", changing)
    with pytest.raises(DataError, match=r"train.tsv was changed while it was read; start again"):
        fp.load_sst2("train", tmp_path)
    assert not entries(cache)


def test_a_bad_line_of_glue_is_named(tmp_path, cache):
    sst2(tmp_path)
    with (tmp_path / "train.tsv").open("a") as file:
        file.write("a\t2\n")
    with pytest.raises(DataError, match=f"line {ROWS + 2}: the label is '2'"):
        fp.load_sst2("train", tmp_path)
    assert not entries(cache)


def test_a_changed_file_is_read_and_a_copy_is_not(tmp_path, cache):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        csv(tmp_path / name)
    first = load_task(**OWN, data_dir=tmp_path / "one")
    second = load_task(**OWN, data_dir=tmp_path / "two")
    assert len(entries(cache)) == 1
    assert first.notes == [second.notes[0].replace("two", "one")]
    with (tmp_path / "one" / "train.csv").open("a") as file:
        file.write("new,a,\n")
    assert load_task(**OWN, data_dir=tmp_path / "one").texts[-1] == "new"
    assert len(entries(cache)) == 2
    load_task(**{**OWN, "text_columns": ["other"]}, data_dir=tmp_path / "one")
    load_task(**OWN, data_dir=tmp_path / "one", label_names=["b", "a"])
    assert len(entries(cache)) == 4


@pytest.fixture
def texts(tmp_path, cache):
    sst2(tmp_path)
    return fp.load_sst2("train", tmp_path)


def test_stored_texts_are_a_sequence(texts):
    column = texts.texts
    assert column == TEXTS
    assert list(column) == TEXTS
    assert column[:] == TEXTS
    assert column[CHUNK - 2 : CHUNK + 2] == TEXTS[CHUNK - 2 : CHUNK + 2]
    assert column[5:2] == []
    assert column[::-7] == TEXTS[::-7]
    assert [column[0], column[CHUNK], column[-1]] == [TEXTS[0], TEXTS[CHUNK], TEXTS[-1]]
    assert column != TEXTS[:-1]
    assert column != [*TEXTS[:-1], ""]
    with pytest.raises(IndexError, match=f"Text {ROWS} of {ROWS}"):
        column[ROWS]


def test_a_selection_stays_in_the_file(texts):
    places = [CHUNK, 3, 3, 0]
    found = texts.select(places).select([3, 0])
    assert isinstance(found.texts, StoredTexts)
    assert found.texts == [TEXTS[0], TEXTS[CHUNK]]
    assert found.texts[-1] == TEXTS[CHUNK]
    assert texts.head(7).texts == TEXTS[:7]
    digests = {texts.select(chosen).texts.digest for chosen in (places, places[::-1], range(ROWS))}
    assert len(digests | {texts.texts.digest}) == 4


def test_a_second_start_reads_texts_and_tokens_from_the_cache(tmp_path, cache, tiny, monkeypatch):
    sst2(tmp_path)

    def batches():
        loader = fp.make_dataloader(fp.load_sst2("train", tmp_path), fp.load_tokenizer(tiny["bert"]), shuffle=True)
        return [{name: x.tolist() for name, x in batch.items()} for batch in loader]

    expected = in_memory(batches, monkeypatch)
    monkeypatch.setattr(tokenised, "STORED_FROM", 1)
    assert batches() == expected
    assert len(entries(cache)) == 2
    monkeypatch.setattr(tokenised, "encode_rows", None)
    assert batches() == expected


def test_a_cache_that_cannot_be_used_is_said_once(tmp_path, tiny, monkeypatch):
    sst2(tmp_path)
    (tmp_path / "file").touch()
    use(tmp_path / "file", monkeypatch)
    monkeypatch.setattr(tokenised, "STORED_FROM", 1)
    data, notes = fp.load_sst2("train", tmp_path), []
    fp.make_dataloader(data, fp.load_tokenizer(tiny["bert"]), notes=notes)
    assert data.texts == TEXTS
    assert isinstance(data.texts, list)
    assert notes == []
    assert len(data.notes) == 1
    assert "cannot be used (Not a directory): the data are held in the memory of each process" in data.notes[0]


def test_a_changed_entry_is_read_anew(tmp_path, cache):
    sst2(tmp_path)
    fp.load_sst2("train", tmp_path)
    (name,) = entries(cache)
    path = cache / name / "rows.arrow"
    path.write_bytes(path.read_bytes().replace(b"text 7,", b"test 7,"))
    data = fp.load_sst2("train", tmp_path)
    assert data.texts == TEXTS
    assert data.notes == [f"{cache / name} was cut short or changed; it is made anew."]
    shutil.rmtree(cache)
    assert data.texts == TEXTS  # mapped files stay until they are let go
