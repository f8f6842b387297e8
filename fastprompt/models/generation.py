"""Text written token by token: read on with kept keys and values, and chosen greedily or by draws of NumPy's, which are
the same under every framework."""

from typing import TYPE_CHECKING, Any

from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import ops

import numpy

if TYPE_CHECKING:
    from fastprompt.models.causal_lm import PromptForCausalLM


class Reader:
    """Reads a batch behind a model's prompt, each time from where it stopped, and scores what comes next.

    Args:
        model: in evaluation mode.
        like: any tensor on its device.
    """

    def __init__(self, model: "PromptForCausalLM", like: Any) -> None:
        self._model = model
        self._like = like
        self._cache = model.backbone.new_cache()
        self._inputs: dict[str, Any] = {}  # of the last call

    def __call__(self, ids: numpy.ndarray, mask: numpy.ndarray) -> numpy.ndarray:
        """The scores (B, vocab_size) of the token behind the last of ids (B, T); mask (B, T): 1 for real tokens."""
        with ops.no_grad():
            inputs = self._next_inputs(ops.tensor(ids, like=self._like), ops.tensor(mask, like=self._like))
            states = self._model.backbone(**inputs, cache=self._cache)[-1]
            self._inputs = inputs
            return ops.to_numpy(self._model.score_words(ops.cast(states[:, -1], "float32")))

    def _next_inputs(self, ids: Any, mask: Any) -> dict[str, Any]:
        if not self._inputs:
            return self._model.backbone_inputs(ids, mask)
        inputs = {name: value for name, value in self._inputs.items() if name == "prefix"}
        inputs |= {"input_ids": ids, "attention_mask": ops.cat([self._inputs["attention_mask"], mask], axis=1)}
        places = self._model.position_ids(inputs, ids)
        return inputs | {name: x[:, -ids.shape[1] :] for name, x in places.items()}


def check_request(mask: numpy.ndarray, max_new_tokens: int, temperature: float, top_k: int, top_p: float) -> None:
    """Raises: DataError: rows are padded behind; ConfigError: an option cannot work."""
    if not mask[:, -1].all():
        raise DataError("Rows are padded behind their texts; pad them in front, where nothing is generated.")
    if max_new_tokens < 1 or top_k < 0 or not temperature > 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"max_new_tokens is {max_new_tokens}, temperature {temperature}, top_k {top_k}, top_p {top_p}; "
            f"they are from 1, above 0, from 0, and above 0 up to 1."
        )


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
