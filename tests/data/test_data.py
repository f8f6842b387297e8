"""Data: the embedded reviews, files of GLUE's form, token ids, and the same batches under every framework."""

import json
from collections import Counter

import fastprompt as fp
from fastprompt.data.dataloader import PadBatch
from fastprompt.data.readers.sst2 import LabelledTexts, read_labelled_tsv
from fastprompt.data.sampler import LengthGroupedBatchSampler
from fastprompt.errors import CheckpointError, ConfigError, DataError
from fastprompt.framework import BACKENDS, ops

import numpy
import pytest


def test_the_embedded_reviews_are_enough_and_balanced():
    train, held_out = fp.load_reviews("train"), fp.load_reviews("validation")
    assert len(train) >= 600
    assert len(held_out) >= 200
    assert not {text.lower() for text in train.texts} & {text.lower() for text in held_out.texts}
    for part in (train, held_out):
        assert 0.45 < sum(part.labels) / len(part) < 0.55
        assert len(set(part.texts)) == len(part)


def test_sst2_is_read_from_glues_files(sst2):
    train, dev = fp.load_sst2("train", sst2), fp.load_sst2("validation", sst2)
    assert (len(train), len(dev)) == (67349, 872)
    assert Counter(dev.labels) == {1: 444, 0: 428}
    assert train.label_names == ["negative", "positive"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sentence\tlabel\na b\t1\n", None),
        (b"sentence\tlabel\na b\t2\n", "line 2: the label is '2'"),
        (b"text\tlabel\na b\t1\n", "lacks 'sentence'"),
        (b"", "has no rows"),
        (b"sentence\tlabel\n", "has no rows"),
        (b"sentence\tlabel\na\t1\nb\n", "line 3: 1 columns where the header has 2"),
        (b"sentence\tlabel\n\xff\xfe\t1\n", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path, content, message):
    path = tmp_path / "train.tsv"
    path.write_bytes(content)
    if message is None:
        assert read_labelled_tsv(path).texts == ["a b"]
    else:
        with pytest.raises(DataError, match=message):
            read_labelled_tsv(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        fp.load_sst2("train", tmp_path)


def test_a_line_of_a_hundred_thousand_words_is_refused(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("sentence\tlabel\n" + "word " * 100_000 + "\t1\nshort\t0\n")
    with pytest.raises(DataError, match=r"line 2: a field of more than 131,072 characters"):
        read_labelled_tsv(path)


def test_long_texts_are_cut_to_length(tiny):
    texts = LabelledTexts(["word " * 300, "short"], [1, 0])
    (batch,) = list(fp.make_dataloader(texts, fp.load_tokenizer(tiny["bert"]), max_length=16))
    assert tuple(batch["input_ids"].shape) == (2, 16)


TEXTS = ["It isn't bad!", "Ünïcödé — “quotes”", "我很喜欢这部电影。", "", "a  b\tc", "x" * 300, "[MASK] it"]


@pytest.mark.once
def test_token_ids_equal_autotokenizers(run_python, minilm, tiny, tmp_path):
    bare = tmp_path / "bare"  # an old BERT folder: vocab.txt alone
    bare.mkdir()
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        (bare / name).write_bytes((minilm / name).read_bytes())
    code = (
        "import json, sys; from transformers import AutoTokenizer; texts = json.loads(sys.argv[1]); "
        "print(json.dumps([AutoTokenizer.from_pretrained(f)(texts, max_length=20, truncation=True)['input_ids'] "
        "for f in sys.argv[2:]]))"
    )
    folders = [minilm, bare, tiny["bert"], tiny["roberta"], tiny["deberta-v3"]]
    done = run_python("torch", "-c", code, json.dumps(TEXTS), *folders)
    for folder, expected in zip(folders, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert [row["input_ids"] for row in fp.load_tokenizer(folder)(TEXTS, max_length=20)] == expected


def test_a_vocabulary_without_berts_special_tokens_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("<s>\n<pad>\n</s>\n[UNK]\na\n")  # MPNet's
    with pytest.raises(CheckpointError, match=r"no BERT vocabulary .*save_pretrained"):
        fp.load_tokenizer(tmp_path)


def test_pairs_get_token_types(tiny):
    (row,) = fp.load_tokenizer(tiny["bert"])(["a b"], pairs=["c"])
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1]


def test_batches_are_padded_to_their_own_longest():
    rows = [{"input_ids": [5] * n, "token_type_ids": [0] * n, "labels": n // 4} for n in (2, 4)]
    batch = PadBatch(pad_token_id=9)(rows)
    assert batch["input_ids"].tolist() == [[5, 5, 9, 9], [5, 5, 5, 5]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [0, 1]


def sampler(**options):
    lengths = numpy.random.default_rng(0).integers(3, 40, 1000)
    return LengthGroupedBatchSampler(lengths, **{"batch_size": 16, "shuffle": True, "seed": 1, **options})


def test_every_example_comes_once_per_epoch_in_a_new_order():
    made = sampler()
    epochs = [list(made), list(made)]
    for batches in epochs:
        assert sorted(index for batch in batches for index in batch) == list(range(1000))
        assert len(batches) == len(made)
    assert epochs[0] != epochs[1]
    assert list(sampler()) == epochs[0]
    assert list(sampler(seed=2)) != epochs[0]
    assert list(sampler(epoch=1)) == epochs[1]


def test_lengths_are_grouped():
    made = sampler()
    spread = [numpy.ptp(made.lengths[batch]) for batch in made]
    assert numpy.mean(spread) < 3


def test_an_abandoned_iteration_starts_again_from_the_beginning():
    made = sampler()
    first = next(iter(made))
    assert next(iter(made)) == first


def test_a_resumed_sampler_continues_after_what_was_consumed():
    made, whole = sampler(), list(sampler())
    iterator = iter(made)
    for _ in range(10):
        next(iterator)
    resumed = sampler()
    resumed.load_state_dict(made.state_dict())
    assert list(resumed) == whole[10:]
    assert sorted(index for batch in resumed for index in batch) == list(range(1000))


@pytest.mark.once
def test_all_frameworks_get_the_same_batches_in_the_same_order(run_python, tiny, tmp_path):
    code = (
        "import sys, numpy, fastprompt as fp\n"
        "from fastprompt.framework import ops\n"
        "loader = fp.make_dataloader(fp.load_reviews('train'), fp.load_tokenizer(sys.argv[1]), batch_size=32,"
        " shuffle=True, seed=5)\n"
        "out = {}\n"
        "for epoch in range(2):\n"
        "    for i, batch in enumerate(loader):\n"
        "        assert len(loader) == 22\n"
        "        for name, value in batch.items():\n"
        "            out[f'{epoch}.{i}.{name}'] = ops.to_numpy(value)\n"
        "numpy.savez(sys.argv[2], **out)\n"
    )
    found = {}
    for backend in BACKENDS:
        run_python(backend, "-c", code, tiny["bert"], tmp_path / f"{backend}.npz")
        found[backend] = dict(numpy.load(tmp_path / f"{backend}.npz"))
    assert len(found["torch"]) == 2 * 22 * 4
    for backend in BACKENDS[1:]:
        assert found[backend].keys() == found["torch"].keys()
        for name, array in found["torch"].items():
            assert found[backend][name].dtype == array.dtype == numpy.int64
            assert (found[backend][name] == array).all()


def test_a_loader_yields_this_frameworks_tensors(tiny):
    loader = fp.make_dataloader(fp.load_reviews("train"), fp.load_tokenizer(tiny["bert"]), batch_size=4)
    batch = next(iter(loader))
    assert type(batch["input_ids"]) is type(ops.tensor(numpy.zeros(1)))


@pytest.mark.parametrize(
    ("options", "message"), [({"batch_size": 0}, "batch_size is 0"), ({"max_length": 2}, "no room")]
)
def test_a_loader_that_cannot_work_is_refused(tiny, options, message):
    with pytest.raises(ConfigError, match=message):
        fp.make_dataloader(fp.load_reviews("train"), fp.load_tokenizer(tiny["bert"]), **options)


@pytest.mark.once
def test_the_hub_out_of_reach_says_what_to_do(run_python):
    code = "import fastprompt as fp; fp.load_sst2('train')"
    done = run_python("torch", "-c", "import os; os.environ['HF_HUB_OFFLINE'] = '1'; " + code, check=False)
    assert "DataError: The hub's copy of SST-2 cannot be reached" in done.stderr
