"""Text written token by token: read on with kept keys and values, and chosen greedily or by draws of NumPy's, which are
the same under every framework."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastprompt.errors import ConfigError
from fastprompt.framework import ops

import numpy

if TYPE_CHECKING:
    from fastprompt.models.language_model import LanguageModel


class Reader:
    """Reads what is written behind a model's prompt, each time from where it stopped, and scores what comes next.

    Args:
        model: in evaluation mode.
        like: any tensor on its device.
    """

    def __init__(self, model: "LanguageModel", like: Any) -> None:
        self._model = model
        self._like = like
        self._cache = model.backbone.new_cache()

    def __call__(self, ids: numpy.ndarray, mask: numpy.ndarray) -> numpy.ndarray:
        """The scores (B, vocab_size) of the token behind the last of ids (B, T); mask (B, T): 1 for real tokens."""
        with ops.no_grad():
            inputs = self._next_inputs(ops.tensor(ids, like=self._like), ops.tensor(mask, like=self._like))
            states = self._model.backbone(**inputs, cache=self._cache)[-1]
            return ops.to_numpy(self._model.score_words(ops.cast(states[:, -1], "float32")))

    def _next_inputs(self, ids: Any, mask: Any) -> dict[str, Any]:
        """What the backbone is called with for tokens (B, T) that it has not read."""
        raise NotImplementedError


class CausalReader(Reader):
    """Reads a text and what is written behind it."""

    def __init__(self, model: "LanguageModel", like: Any) -> None:
        super().__init__(model, like)
        self._inputs: dict[str, Any] = {}  # of the last call

    def _next_inputs(self, ids: Any, mask: Any) -> dict[str, Any]:
        if not self._inputs:
            self._inputs = self._model.backbone_inputs(ids, mask)
            return self._inputs
        inputs = {name: value for name, value in self._inputs.items() if name == "prefix"}
        inputs |= {"input_ids": ids, "attention_mask": ops.cat([self._inputs["attention_mask"], mask], axis=1)}
        places = self._model.position_ids(inputs, ids)
        self._inputs = inputs | {name: x[:, -ids.shape[1] :] for name, x in places.items()}
        return self._inputs


class DecoderReader(Reader):
    """Reads what a decoder writes, on a text (B, S) that the encoder reads once; mask (B, S): 1 for real tokens."""

    def __init__(self, model: "LanguageModel", like: Any, ids: numpy.ndarray, mask: numpy.ndarray) -> None:
        super().__init__(model, like)
        with ops.no_grad():
            self._inputs = model.backbone_inputs(ops.tensor(ids, like=like), ops.tensor(mask, like=like))

    def _next_inputs(self, ids: Any, mask: Any) -> dict[str, Any]:
        return {**self._inputs, "decoder_input_ids": ids}


def check_options(max_new_tokens: int, temperature: float, top_k: int, top_p: float) -> None:
    """Raises: ConfigError: an option cannot work."""
    if max_new_tokens < 1 or top_k < 0 or not temperature > 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"max_new_tokens is {max_new_tokens}, temperature {temperature}, top_k {top_k}, top_p {top_p}; "
            f"they are from 1, above 0, from 0, and above 0 up to 1."
        )


def write(
    read: Reader,
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
