"""Texts -> batches: tokenised once, lengths grouped, padded per batch, the same under every framework."""

from collections.abc import Sequence
from typing import Any

from fastprompt.data.sst2 import LabelledTexts
from fastprompt.data.tokenization import Tokenizer
from fastprompt.errors import ConfigError

import numpy


def encode(texts: LabelledTexts, tokenizer: Tokenizer, max_length: int) -> list[dict[str, Any]]:
    """One {"input_ids", "token_type_ids", "labels"} per text, cut to `max_length` tokens."""
    rows = tokenizer(texts.texts, max_length=max_length)
    return [{**row, "labels": label} for row, label in zip(rows, texts.labels, strict=True)]


class PadBatch:
    """Pads the examples of one batch to its longest: {"input_ids", "attention_mask", "token_type_ids", "labels"},
    int64, (B, T) each but labels (B,)."""

    def __init__(self, pad_token_id: int) -> None:
        self.fill = {"input_ids": pad_token_id, "token_type_ids": 0}

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, numpy.ndarray]:
        lengths = [len(example["input_ids"]) for example in examples]
        shape = (len(examples), max(lengths))
        batch = {name: numpy.full(shape, fill, dtype="int64") for name, fill in self.fill.items()}
        batch["attention_mask"] = numpy.zeros(shape, dtype="int64")
        for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
            for name in self.fill:
                batch[name][row, :length] = example[name]
            batch["attention_mask"][row, :length] = 1
        batch["labels"] = numpy.array([example["labels"] for example in examples], dtype="int64")
        return batch


def make_dataloader(
    texts: LabelledTexts,
    tokenizer: Tokenizer,
    *,
    batch_size: int = 32,
    shuffle: bool = False,
    max_length: int = 128,
    seed: int = 0,
) -> Any:
    """A fastNLP dataloader of this process's framework; the same batches in the same order under each.

    Args:
        shuffle: mix anew in every epoch, by `seed`.
        max_length: cut texts to so many tokens.
    """
    from fastprompt.data.batching import LengthGroupedBatchSampler  # imports fastNLP, and with it the framework
    from fastprompt.framework import loader

    if batch_size < 1:
        raise ConfigError(f"The batch size is {batch_size}; it is a whole number from 1 on.")
    if max_length < 3:
        raise ConfigError(f"max_seq_length is {max_length}; it leaves no room between the special tokens.")
    examples = encode(texts, tokenizer, max_length)
    lengths = [len(example["input_ids"]) for example in examples]
    sampler = LengthGroupedBatchSampler(lengths, batch_size, shuffle, seed)
    return loader.make_dataloader(examples, sampler, PadBatch(tokenizer.pad_token_id))
