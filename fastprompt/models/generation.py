"""Text written token by token: with cached keys and values, and chosen greedily or sampled with NumPy, which draws
the same under every framework."""

from collections.abc import Callable, Sequence
from typing import Any

from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import ops
from fastprompt.methods.checks import plain

import numpy


def check_options(max_new_tokens: int, temperature: float, top_k: int, top_p: float) -> None:
    """Raises: ConfigError: an option cannot work."""
    counts = all(isinstance(plain(count), int) for count in (max_new_tokens, top_k))
    if not counts or max_new_tokens < 1 or top_k < 0 or not temperature > 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"max_new_tokens is {max_new_tokens}, temperature {temperature}, top_k {top_k}, top_p {top_p}; "
            f"they are a whole number from 1, above 0, a whole number from 0, and above 0 up to 1."
        )


def as_batch(input_ids: Any, attention_mask: Any, pad: int, pad_in_front: bool) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Token ids and their mask, int64 (B, T) each, of tensors, arrays or lists.

    Args:
        attention_mask: None sees all of them.
        pad: fills lists of unequal length, unseen, in front of them or after them.

    Raises:
        DataError: they are no rows of whole numbers, a row is empty, or the mask is of another shape.
    """
    rows = [_row(row) for row in _rows("input_ids", input_ids)]
    if not rows or not all(map(len, rows)):
        raise DataError("input_ids has no row, or one without a token; give each row one token or more.")
    width = max(map(len, rows))
    sides = [(width - len(row), 0) if pad_in_front else (0, width - len(row)) for row in rows]
    ids = numpy.stack([numpy.pad(row, side, constant_values=pad) for row, side in zip(rows, sides, strict=True)])
    seen = [numpy.ones_like(row) for row in rows]
    if attention_mask is not None:
        seen = [_row(row) for row in _rows("attention_mask", attention_mask)]
    if [len(row) for row in seen] != [len(row) for row in rows]:
        raise DataError("attention_mask is of another shape than input_ids; give each token a 0 or a 1.")
    return ids, numpy.stack([numpy.pad(row, side) for row, side in zip(seen, sides, strict=True)])


def _rows(name: str, given: Any) -> Any:
    if isinstance(given, str) or (isinstance(given, list | tuple) and given and isinstance(given[0], str)):
        raise DataError(f"{name} is text; its token ids are wanted: fp.load_tokenizer(model)([text])[0]['input_ids'].")
    rows = given if isinstance(given, list | tuple | numpy.ndarray) else ops.to_numpy(given)
    if len(rows) and not numpy.ndim(rows[0]) and not hasattr(rows[0], "__len__"):
        raise DataError(f"{name} is one row; a batch of rows is wanted: [{name}].")
    return rows


def _row(given: Any) -> numpy.ndarray:
    row = numpy.asarray(given if isinstance(given, list | tuple | numpy.ndarray) else ops.to_numpy(given))
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iub"):
        raise DataError(f"A row of the shape {row.shape} and type {row.dtype} is none of token ids (whole numbers).")
    return row.astype("int64")


def generate_tokens(
    next_logits: Callable[[numpy.ndarray, numpy.ndarray], numpy.ndarray],
    ids: numpy.ndarray,
    mask: numpy.ndarray,
    choose: Callable[[numpy.ndarray], numpy.ndarray],
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    pad_token_id: int,
    forced: dict[int, int],
) -> numpy.ndarray:
    """ids (B, T) and what follows them, until every row has ended or `max_new_tokens` are written.

    Args:
        next_logits: tokens that were not read yet and their mask, (B, T) -> logits of the next one (B, vocab_size).
        choose: logits (B, vocab_size) -> tokens (B,).
        eos_token_ids: the tokens that end a row; `pad_token_id` fills ended ones.
        forced: {n: what the n-th token that is written must be}.
    """
    unfinished = numpy.ones(len(ids), dtype=bool)
    logits = next_logits(ids, mask)
    for written in range(1, max_new_tokens + 1):
        chosen = numpy.where(unfinished, forced.get(written, choose(logits)), pad_token_id)
        ids = numpy.concatenate([ids, chosen[:, None]], axis=1)
        seen = unfinished[:, None].astype("int64")  # an ended row is read no further
        unfinished &= ~numpy.isin(chosen, eos_token_ids)
        if written == max_new_tokens or not unfinished.any():
            break
        logits = next_logits(chosen[:, None], seen)
    return ids


def sample(logits: numpy.ndarray, top_k: int, top_p: float, rng: numpy.random.Generator) -> numpy.ndarray:
    """(B,) tokens drawn from logits (B, vocab_size)."""
    order = numpy.argsort(-logits, axis=1, kind="stable")
    ranked = numpy.take_along_axis(logits, order, axis=1).astype("float64")
    weights = numpy.exp(ranked - ranked[:, :1])
    if top_k:
        weights[:, top_k:] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    weights *= numpy.cumsum(weights, axis=1) - weights < top_p
    cumulative = numpy.cumsum(weights, axis=1)
    ranks = (cumulative < rng.random((len(logits), 1)) * cumulative[:, -1:]).sum(axis=1)
    return numpy.take_along_axis(order, ranks[:, None], axis=1)[:, 0]
