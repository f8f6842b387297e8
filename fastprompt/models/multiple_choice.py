"""Choice of one of several answers, each read together with the question."""

from typing import Any

from fastprompt.data.frozen import FrozenStates
from fastprompt.errors import DataError
from fastprompt.framework import ops
from fastprompt.models.base import PromptModel
from fastprompt.models.losses import class_loss
from fastprompt.models.outputs import ModelOutput


class PromptForMultipleChoice(PromptModel):
    """A prompt-tuned multiple-choice model; `from_pretrained` makes one. All choices get the same prompt."""

    task = "multiple_choice"
    outputs = ("choice",)

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        frozen_states: FrozenStates | None = None,
    ) -> ModelOutput:
        """Score the choices of a batch; the logits are (B, C), one a choice.

        Args:
            input_ids: (B, C, T) ids of the question with each choice; attention_mask: (B, C, T), 1 for real tokens;
                token_type_ids: (B, C, T).
            labels: (B,) indices of the right choices; with them the output has the mean cross entropy as its loss.
            frozen_states: what leaves the layers that the method leaves as they are, of `fp.cache_frozen_layers`.

        Raises:
            DataError: input_ids are of another shape.
        """
        shape = tuple(input_ids.shape)
        if len(shape) != 3:
            raise DataError(f"input_ids have the shape {shape}; multiple choice takes (examples, choices, tokens).")
        batch, choices, length = shape
        rows = [
            None if x is None else ops.reshape(x, (batch * choices, length))
            for x in (input_ids, attention_mask, token_type_ids)
        ]
        if frozen_states is not None:
            flat = ops.reshape(frozen_states.states, (batch * choices, length, -1))
            frozen_states = frozen_states._replace(states=flat)
        pooled, states = self.encode(*rows, output_hidden_states, frozen_states=frozen_states)
        logits = ops.reshape(self.head(pooled), (batch, choices))
        loss = None if labels is None else class_loss(logits, labels)
        return ModelOutput(loss, logits, states if output_hidden_states else None)
