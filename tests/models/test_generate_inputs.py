"""What `generate` reads: tensors, arrays, lists, its own output; the rest is refused by name."""

import fastprompt as fp
from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import ops

import numpy
import pytest

IDS = numpy.array([[5, 6, 7], [8, 9, 10]])


@pytest.fixture(scope="module")
def model(causal):
    return fp.PromptForCausalLM.from_pretrained(causal["llama"], fp.PTuningV2Config(pre_seq_len=3))


@pytest.mark.parametrize(
    "make",
    [ops.tensor, numpy.ndarray.tolist, list, tuple, lambda ids: ids.astype("int32"), lambda ids: ids.astype("uint64")],
)
def test_tensors_arrays_and_lists_are_one_batch(model, make):
    wanted = model.generate(ops.tensor(IDS), max_new_tokens=3, pad_token_id=0)
    for mask in (None, IDS * 0 + 1, (IDS * 0 + 1).tolist()):
        found = model.generate(make(IDS), mask, max_new_tokens=3, pad_token_id=0)
        assert (found == wanted).all()
        assert found.dtype == "int64"


def test_its_own_output_is_read_on(model):
    first = model.generate(IDS, max_new_tokens=2, eos_token_id=[], pad_token_id=0)
    on = model.generate(first, max_new_tokens=2, eos_token_id=[], pad_token_id=0)
    assert (on == model.generate(IDS, max_new_tokens=4, eos_token_id=[], pad_token_id=0)).all()


def test_rows_of_unequal_length_are_padded_in_front(model):
    long, short = [5, 6, 7], [8]
    alone = model.generate([short], max_new_tokens=3, eos_token_id=[])
    for pad in (0, 9):
        found = model.generate([long, short], max_new_tokens=3, eos_token_id=[], pad_token_id=pad)
        assert found[1].tolist() == [pad, pad, *alone[0].tolist()]


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        ("w1", None, "input_ids is text; its token ids are wanted"),
        (["w1", "w2"], None, "input_ids is text"),
        ([5, 6, 7], None, r"input_ids is one row; a batch of rows is wanted: \[input_ids\]"),
        (numpy.array([5, 6]), None, "input_ids is one row"),
        ([[5.0, 6.0]], None, "none of token ids"),
        ([], None, "input_ids has no row"),
        ([[5], []], None, "one without a token"),
        ([[5, 6]], [[1]], "attention_mask is of another shape"),
        ([[5, 10_000]], None, "input_ids: row 0 of a batch has 10000; the model has"),
    ],
)
def test_what_is_no_batch_of_token_ids_is_refused_by_name(model, ids, mask, message):
    with pytest.raises(DataError, match=message):
        model.generate(ids, mask, max_new_tokens=2, pad_token_id=0)


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 2.0}, {"top_k": 1.5}, {"max_new_tokens": 0}])
def test_a_count_that_is_no_whole_number_is_refused(model, wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} "):
        model.generate(IDS, pad_token_id=0, **wrong)
