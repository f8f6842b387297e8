"""Causal language models: what follows a text, learnt from labels and generated token by token."""

from typing import Any

from fastprompt.data.frozen import FrozenStates
from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import ops
from fastprompt.models.inputs import position_ids
from fastprompt.models.language_model import IncrementalDecoder, LanguageModel
from fastprompt.models.outputs import ModelOutput

import numpy


class CausalDecoder(IncrementalDecoder):
    """Decodes what follows a text."""

    def __init__(self, model: "LanguageModel") -> None:
        super().__init__(model)
        self._inputs: dict[str, Any] = {}  # of the last call

    def _next_inputs(self, ids: Any, mask: Any) -> dict[str, Any]:
        if not self._inputs:
            self._inputs = self._model.backbone_inputs(ids, mask)
            return self._inputs
        inputs = {name: value for name, value in self._inputs.items() if name == "prefix"}
        inputs |= {"input_ids": ids, "attention_mask": ops.cat([self._inputs["attention_mask"], mask], axis=1)}
        positions = position_ids(self._model, inputs, ids)
        self._inputs = inputs | {name: x[:, -ids.shape[1] :] for name, x in positions.items()}
        return self._inputs


class PromptForCausalLM(LanguageModel):
    """A prompt-tuned causal language model; `from_pretrained` makes one.

    The head is the checkpoint's own, and frozen with the backbone.
    """

    task = "causal_lm"
    causal = True
    label_offset = 1

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        only_targets: bool = False,
        frozen_states: FrozenStates | None = None,
    ) -> ModelOutput:
        """Read a batch; the logits are (B, T, vocab_size), each position's of the token after it.

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens, padding on either side.
            labels: (B, T), the token at each position, or -100 where it is not to be learnt. With them the output has
                the mean cross entropy as its loss, every label being predicted by the position before it.
            only_targets: compute no others: the logits are (N, vocab_size), of the N labels in their order.
            frozen_states: what leaves the layers that the method leaves as they are, of `fp.cache_frozen_layers`.
        """
        read = self.read(input_ids, attention_mask, labels, output_hidden_states, frozen_states)
        return self._output(read, labels, output_hidden_states, only_targets)

    def read(
        self,
        input_ids: Any,
        attention_mask: Any,
        labels: Any,
        output_hidden_states: bool = False,
        frozen_states: FrozenStates | None = None,
    ) -> tuple[Any, list[Any]]:
        return self.encode(input_ids, attention_mask, None, output_hidden_states, frozen_states=frozen_states)

    def _start(
        self, ids: numpy.ndarray, mask: numpy.ndarray, max_new_tokens: int
    ) -> tuple[CausalDecoder, numpy.ndarray, numpy.ndarray]:
        if not mask[:, -1].all():
            raise DataError("Rows are padded after their texts; pad them in front, where nothing is generated.")
        if self.max_length is not None and ids.shape[1] + max_new_tokens - 1 > self.max_length:
            raise ConfigError(
                f"{ids.shape[1]} tokens and {max_new_tokens} new ones are more than the {self.max_length} that the "
                f"backbone's positions leave room for; lower max_new_tokens."
            )
        return CausalDecoder(self), ids, mask
