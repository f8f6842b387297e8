"""Indices of a batch against what the model has rows for; past its tables a framework reads on, or fails far from the
cause."""

from typing import Any

from fastprompt.data.encoding import IGNORE_INDEX
from fastprompt.errors import DataError
from fastprompt.framework import nn, ops
from fastprompt.models.outputs import CLASSES
from fastprompt.models.protocol import Model

import numpy


def check_batch(model: Model, inputs: dict[str, Any]) -> None:
    """`check_indices` of a batch of tensors: of every one on a CPU, where it costs nothing, and of the model's first on
    a GPU, which would otherwise wait for each."""
    if model.indices_checked and "cpu" not in str(nn.device_of(model)):
        return
    arrays = {name: x for name, x in inputs.items() if x is not None and name in _LIMITS}
    check_indices(model, {name: ops.to_numpy(x) for name, x in arrays.items()})
    model.indices_checked = True


def check_indices(model: Model, batch: dict[str, numpy.ndarray]) -> None:
    """Raises: DataError: an index has no row in the model; it is named with its column and the fix."""
    for name, limit in _LIMITS.items():
        array = batch.get(name)
        if array is None or array.dtype.kind == "f" or not array.size:
            continue
        count, what, fix = limit(model, batch)
        if count is None:
            continue
        wrong = (array < 0) | (array >= count)
        if name == "labels":
            wrong &= array != IGNORE_INDEX
        if wrong.any():
            row = int(numpy.argwhere(wrong)[0][0])
            raise DataError(f"{name}: row {row} of a batch has {array[wrong][0]}; the model has {count} {what}; {fix}.")


def _words(model: Model, batch: dict[str, numpy.ndarray]) -> tuple[int | None, str, str]:
    fix = "tokens that are added to a tokenizer get rows by the model's resize_token_embeddings(len(tokenizer))"
    return model.vocabulary_size, "word embeddings", fix


def _token_types(model: Model, batch: dict[str, numpy.ndarray]) -> tuple[int | None, str, str]:
    count = model.backbone.config.get("type_vocab_size") if model.backbone.takes_token_types else None
    return count, "token types (type_vocab_size)", "they are counted from 0"


def _labels(model: Model, batch: dict[str, numpy.ndarray]) -> tuple[int | None, str, str]:
    fix = f"they are counted from 0, and {IGNORE_INDEX} leaves a label out"
    if model.task == "multiple_choice":
        return batch["input_ids"].shape[1], "choices", fix
    if model.pools or model.num_labels:
        return model.num_labels if model.problem_type in (None, CLASSES) else None, "classes (num_labels)", fix
    return model.vocabulary_size, "words", fix


def _positions(model: Model, batch: dict[str, numpy.ndarray]) -> tuple[int | None, str, str]:
    return batch["input_ids"].shape[-1], "tokens in the batch's rows", "positions are counted from 0"


def _pseudo_tokens(model: Model, batch: dict[str, numpy.ndarray]) -> tuple[int | None, str, str]:
    count = model.method_config.num_pseudo  # 0 of a prompt that stands before the text, which reads none
    return count + 1 if count else None, "pseudo tokens and 0", "they are counted from 1"


_LIMITS = {
    "input_ids": _words,
    "token_type_ids": _token_types,
    "labels": _labels,
    "mask_positions": _positions,
    "pseudo_tokens": _pseudo_tokens,
}
