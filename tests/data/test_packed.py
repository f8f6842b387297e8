"""Rows in flat arrays give the batches that rows of Python's lists give, of every kind of example."""

import fastprompt as fp
from fastprompt.data.dataloader import PadBatch
from fastprompt.data.encoding import IGNORE_INDEX, READ, encode
from fastprompt.data.examples import (
    LabelledTexts,
    SquadData,
    SquadQuestion,
)
from fastprompt.data.packed import CHUNK, is_list
from fastprompt.data.sampler import LengthGroupedBatchSampler
from fastprompt.data.squad_windows import make_windows
from fastprompt.data.tokenised import tokenised
from fastprompt.errors import DataError
from fastprompt.framework import ops

import numpy
import pytest

from support import examples
from support.examples import LABELS, ROWS

QUESTION = SquadQuestion("a", "w1 w2 ?", " ".join(f"w{i}" for i in range(40)), [("w3", 9)])
KINDS = {**examples.KINDS, "windows": SquadData([QUESTION], False)}


@pytest.fixture
def tokenizer(tiny):
    return fp.load_tokenizer(tiny["bert"])


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_rows_of_lists(kind, tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "eos_token_id", 2)
    data, length = KINDS[kind], 60
    if kind == "windows":
        data = make_windows(data, tokenizer, 24, 4, 8)
    rows = encode(data, tokenizer, length)
    lengths = [max(map(len, ids if isinstance(ids[0], list) else [ids])) for ids in (row["input_ids"] for row in rows)]
    counts = [
        sum(label != IGNORE_INDEX for label in labels) if isinstance(labels, list) else 1
        for labels in (row.get("labels") for row in rows)
    ]
    loader = fp.make_dataloader(data, tokenizer, batch_size=16, shuffle=True, seed=3, max_length=length)
    expected = LengthGroupedBatchSampler(lengths, 16, True, 3, counts)
    assert loader.batch_sampler.lengths.tolist() == lengths
    assert loader.batch_sampler.counts.tolist() == counts
    pad = PadBatch(tokenizer.pad_token_id)
    for batch, indices in zip(loader, list(expected), strict=True):
        whole = pad([rows[index] for index in indices])
        assert list(batch) == list(whole)
        for name, array in whole.items():
            found = ops.to_numpy(batch[name])
            assert found.dtype.kind == array.dtype.kind
            numpy.testing.assert_array_equal(found, array)


@pytest.mark.once
def test_a_row_is_unpacked_as_it_was(tokenizer):
    data = KINDS["pairs in groups"]
    packed = tokenised(data, tokenizer, 90, [])
    assert len(packed) == ROWS
    for place in (0, CHUNK - 1, CHUNK, ROWS - 1, -1):
        row = packed[place]
        assert row["input_ids"].dtype == row["token_type_ids"].dtype == "int32"
        assert {n: v.tolist() if hasattr(v, "tolist") else v for n, v in row.items()} == encode(data, tokenizer, 90)[
            place
        ]
    assert sum(1 for _ in packed) == ROWS
    with pytest.raises(IndexError, match=f"Row {ROWS} of {ROWS}"):
        packed[ROWS]


@pytest.mark.once
def test_tags_that_are_all_read_have_no_column_of_unread_ones(tokenizer):
    for kind, there in (("tags", False), ("unread tags", True)):
        notes = []
        packed = tokenised(KINDS[kind], tokenizer, 90, notes)
        assert ("unread_tags" in packed[0]) == ("unread_tags" in encode(KINDS[kind], tokenizer, 90)[0]) == there
        assert len(notes) == there
    assert packed[0]["unread_tags"].tolist() == [READ, 0]
    assert notes[0].startswith(f"{ROWS} words of {ROWS} in {ROWS} sentences are not read ({ROWS} have no token")


@pytest.mark.once
def test_no_example_makes_no_row(tokenizer):
    packed = tokenised(LabelledTexts([], []), tokenizer, 90, [])
    assert (len(packed), len(packed.lengths), len(packed.label_counts(IGNORE_INDEX))) == (0, 0, 0)


@pytest.mark.once
def test_windows_and_their_packed_rows_share_memory(tokenizer):
    windows = make_windows(KINDS["windows"], tokenizer, 24, 4, 8)
    before = [window.input_ids.tolist() for window in windows.windows]
    rows = tokenised(windows, tokenizer, 24, [])
    for window, row, ids in zip(windows.windows, rows, before, strict=True):
        assert window.input_ids.tolist() == ids
        assert numpy.shares_memory(window.input_ids, row["input_ids"])
        assert numpy.shares_memory(window.token_type_ids, row["token_type_ids"])


@pytest.mark.once
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "windows"])
def test_the_rows_with_the_extremes_of_every_column_are_found(kind, tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "eos_token_id", 2)
    packed = tokenised(KINDS[kind], tokenizer, 60, [])

    def limits(name, places):
        values = [packed[place][name] for place in places]
        flat = numpy.concatenate([numpy.hstack(value) if is_list(value) else [value] for value in values])
        if name == "labels":
            flat = flat[flat != IGNORE_INDEX]
        return flat.min(), flat.max()

    for chunk, start in enumerate(range(0, ROWS, CHUNK)):
        whole = range(start, min(start + CHUNK, ROWS))
        found = packed.extremes(chunk, IGNORE_INDEX)
        assert set(found) <= set(whole)
        assert len(found) <= 2 * len(packed[0])
        for name in packed[0]:
            assert limits(name, found) == limits(name, whole)


class Watched:
    def __init__(self, highest):
        self.highest, self.seen = highest, []

    def check_indices(self, batch):
        self.seen.append(len(batch["input_ids"]))
        wrong = numpy.argwhere(batch["input_ids"] > self.highest)
        if len(wrong):
            raise DataError(f"row {wrong[0][0]} of {len(batch['input_ids'])}")


def test_of_right_indices_few_rows_are_checked_and_a_wrong_one_is_named_by_its_row(tokenizer):
    ids = {text: max(tokenizer([text])[0]["input_ids"]) for text in ("a", "b", "c")}
    *low, high = sorted(ids, key=ids.get)
    data = LabelledTexts([*low[:1] * (ROWS - 3), high, low[0], high], LABELS)
    model = Watched(ids[high])
    fp.make_dataloader(data, tokenizer, model=model)
    assert len(model.seen) == 2
    assert max(model.seen) <= 6
    with pytest.raises(DataError, match=f"^row {ROWS - 3 - CHUNK} of {ROWS - CHUNK}$"):
        fp.make_dataloader(data, tokenizer, model=Watched(ids[low[1]]))
