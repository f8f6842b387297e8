"""Text written token by token: with cached keys and values, and chosen greedily or sampled with NumPy, which draws
the same under every framework."""

from collections.abc import Callable, Sequence

from fastprompt.errors import ConfigError

import numpy


def check_options(max_new_tokens: int, temperature: float, top_k: int, top_p: float) -> None:
    """Raises: ConfigError: an option cannot work."""
    if max_new_tokens < 1 or top_k < 0 or not temperature > 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"max_new_tokens is {max_new_tokens}, temperature {temperature}, top_k {top_k}, top_p {top_p}; "
            f"they are from 1, above 0, from 0, and above 0 up to 1."
        )


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
