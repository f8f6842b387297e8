"""Text written token by token: read on with kept keys and values, and chosen greedily or by draws of NumPy's, which are
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


def write(
    read: Callable[[numpy.ndarray, numpy.ndarray], numpy.ndarray],
    ids: numpy.ndarray,
    mask: numpy.ndarray,
    choose: Callable[[numpy.ndarray], numpy.ndarray],
    max_new_tokens: int,
    ends: Sequence[int],
    pad: int,
    forced: dict[int, int],
) -> numpy.ndarray:
    """ids (B, T) and what follows them, until every row has ended or `max_new_tokens` are written.

    Args:
        read: tokens that were not read yet and their mask, (B, T) -> scores of the next (B, vocab_size).
        choose: scores (B, vocab_size) -> tokens (B,).
        ends: the tokens that end a row; `pad` fills ended ones.
        forced: what the n-th token that is written must be, by n.
    """
    going = numpy.ones(len(ids), dtype=bool)
    logits = read(ids, mask)
    for written in range(1, max_new_tokens + 1):
        chosen = numpy.where(going, forced.get(written, choose(logits)), pad)
        ids = numpy.concatenate([ids, chosen[:, None]], axis=1)
        seen = going[:, None].astype("int64")  # an ended row is read no further
        going &= ~numpy.isin(chosen, ends)
        if written == max_new_tokens or not going.any():
            break
        logits = read(chosen[:, None], seen)
    return ids


def sample(logits: numpy.ndarray, top_k: int, top_p: float, draw: numpy.random.Generator) -> numpy.ndarray:
    """(B,) tokens drawn from logits (B, vocab_size)."""
    order = numpy.argsort(-logits, axis=1, kind="stable")
    ranked = numpy.take_along_axis(logits, order, axis=1).astype("float64")
    weights = numpy.exp(ranked - ranked[:, :1])
    if top_k:
        weights[:, top_k:] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    weights *= numpy.cumsum(weights, axis=1) - weights < top_p
    reached = numpy.cumsum(weights, axis=1)
    places = (reached < draw.random((len(logits), 1)) * reached[:, -1:]).sum(axis=1)
    return numpy.take_along_axis(order, places[:, None], axis=1)[:, 0]
