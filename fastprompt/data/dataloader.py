"""Examples -> batches: tokenised once, lengths grouped, padded per batch, the same under every framework."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from fastprompt.data.encoding import IGNORE_INDEX
from fastprompt.data.given import as_examples, as_tokenizer
from fastprompt.data.packed import CHUNK, PackedRows, is_list
from fastprompt.data.tokenised import tokenised
from fastprompt.errors import ConfigError, DataError
from fastprompt.methods.checks import whole_number

import numpy


class PadBatch:
    """Makes one batch of rows, padded to its longest.

    {"input_ids", "attention_mask", "token_type_ids"}, (B, T) each, or (B, C, T) of multiple choice; other columns (B,)
    or, where a row has one value a token, (B, T). Whole numbers are int64, others float32.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.fill = {"input_ids": pad_token_id, "token_type_ids": 0, "pseudo_tokens": 0}
        self.fill |= {"labels": IGNORE_INDEX, "unread_tags": IGNORE_INDEX}

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, numpy.ndarray]:
        batch = {name: self._column(name, [example[name] for example in examples]) for name in examples[0]}
        ids = batch["input_ids"]
        lengths = numpy.array([len(x) for example in examples for x in _choices(example["input_ids"])])
        mask = numpy.arange(ids.shape[-1]) < lengths[:, None]
        return {**batch, "attention_mask": mask.reshape(ids.shape).astype("int64")}

    def _column(self, name: str, values: list[Any]) -> numpy.ndarray:
        first = values[0]
        if not is_list(first):
            return numpy.array(values, dtype="float32" if isinstance(first, float) else "int64")
        flat = _padded([row for value in values for row in _choices(value)], self.fill[name])
        return flat.reshape(len(values), -1, flat.shape[-1]) if _is_nested(first) else flat


def _is_nested(value: Sequence[Any]) -> bool:
    return is_list(value[0])


def _choices(value: Sequence[Any]) -> Sequence[Any]:
    return value if _is_nested(value) else [value]


def _padded(rows: list[Sequence[int]], fill: int) -> numpy.ndarray:
    """(len(rows), longest) int64."""
    made = numpy.full((len(rows), max(map(len, rows))), fill, dtype="int64")
    for target, row in zip(made, rows, strict=True):
        target[: len(row)] = row
    return made


class LoaderParts(NamedTuple):
    """What a dataloader of `make_dataloader` is made of."""

    rows: PackedRows
    sampler: Any
    pad: PadBatch


class Indexed(Protocol):
    """A model that knows which indices it has rows for, as `PromptModel` does."""

    def check_indices(self, batch: dict[str, numpy.ndarray]) -> None:
        """Raises: DataError: an index of the batch has no row."""


def _check_indices(rows: PackedRows, pad: PadBatch, model: Indexed) -> None:
    """Of each chunk the rows with the lowest and highest indices; where one is wrong the whole chunk, whose first such
    row the error names.

    Raises:
        DataError: an index has no row in the model.
    """
    for chunk, start in enumerate(range(0, len(rows), CHUNK)):
        try:
            model.check_indices(pad([rows[place] for place in rows.extremes(chunk, IGNORE_INDEX)]))
        except DataError:
            model.check_indices(pad([rows[place] for place in range(start, min(start + CHUNK, len(rows)))]))


def make_dataloader(
    data: Any,
    tokenizer: Any,
    *,
    batch_size: int = 32,
    shuffle: bool = False,
    max_length: int = 128,
    seed: int = 0,
    notes: list[str] | None = None,
    model: Indexed | None = None,
) -> Any:
    """A fastNLP dataloader of this process's framework; the same batches in the same order under each.

    Args:
        data: examples of `fastprompt.data.examples`; or texts and labels in a `datasets.Dataset`, a fastNLP `DataSet`,
            a pandas `DataFrame`, a dict of columns, or a list of dicts or of (text, label): see
            `fastprompt.data.given.as_examples`.
        tokenizer: `fp.load_tokenizer`'s, a model's folder, or transformers' tokenizer of one.
        shuffle: mix anew in every epoch, by `seed`.
        max_length: cut texts to so many tokens.
        notes: gets a line about what is cut or left out; None: each line is a warning.
        model: what the batches are for; all indices are then checked here, before the first step.

    Raises:
        ConfigError: the batch size or the length cannot work.
        DataError: a token, a token type, a label or a position has no row in `model`.
    """
    from fastprompt.data.sampler import LengthGroupedBatchSampler  # imports fastNLP, and with it the framework
    from fastprompt.framework import loader

    batch_size, max_length = whole_number("batch_size", batch_size), whole_number("max_length", max_length)
    seed = whole_number("seed", seed, least=0)
    if max_length < 3:
        raise ConfigError(f"max_seq_length is {max_length}; it leaves no room between the special tokens.")
    found: list[str] = []
    regression = getattr(model, "problem_type", None) == "regression"
    data = as_examples(data, getattr(model, "label_names", None), regression)
    tokenizer = as_tokenizer(tokenizer)
    rows = tokenised(data, tokenizer, max_length, found)
    if notes is None:
        for note in found:
            warnings.warn(note, stacklevel=2)
    else:
        notes += found
    pad = PadBatch(tokenizer.pad_token_id)
    if model is not None:
        _check_indices(rows, pad, model)
    sampler = LengthGroupedBatchSampler(rows.lengths, batch_size, shuffle, seed, rows.label_counts(IGNORE_INDEX))
    made = loader.make_dataloader(rows, sampler, pad)
    made.parts = LoaderParts(rows, sampler, pad)
    made.text_settings = {"max_seq_length": max_length, **data.text_settings}  # a model that trains on it stores them
    return made
