"""Fixtures of this package."""

import json

import pytest


@pytest.fixture(scope="session")
def folders(seq2seq):
    """Small random encoder-decoders with a word-level tokenizer, as transformers writes them."""
    return seq2seq


@pytest.fixture
def rows(tmp_path):
    """The folder of instructions to say a word again, in three splits."""
    for name, count in (("train", 48), ("dev", 7), ("test", 5)):
        words = [f"word{4 + (7 * i) % 50}" for i in range(count)]
        given = [{"instruction": f"{'word9 ' * (i % 3)}{word}", "output": word} for i, word in enumerate(words)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    return tmp_path
