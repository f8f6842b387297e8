"""Extractive question answering: where in a passage the answer starts and ends."""

from typing import Any

from fastprompt.data.frozen import FrozenStates, as_keyword
from fastprompt.framework import ops
from fastprompt.models.base import PromptModel
from fastprompt.models.indices import check_batch
from fastprompt.models.losses import span_loss
from fastprompt.models.outputs import ModelOutput


class SpanOutput(ModelOutput):
    """What calling the model returns; logits are (B, T, 2), start_logits and end_logits their halves, (B, T)."""

    @property
    def start_logits(self) -> Any:
        return self.logits[:, :, 0]

    @property
    def end_logits(self) -> Any:
        return self.logits[:, :, 1]


class PromptForQuestionAnswering(PromptModel):
    """A prompt-tuned model of extractive question answering; `from_pretrained` makes one."""

    task = "question_answering"
    pools = False
    outputs = ("start", "end")
    reads_padding = True  # as in transformers, which normalises over all positions

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_hidden_states: bool = False,
        frozen_states: FrozenStates | None = None,
    ) -> SpanOutput:
        """Read a batch.

        Args:
            input_ids: (B, T) ids of question and passage; attention_mask: (B, T), 1 for real tokens; token_type_ids:
                (B, T).
            start_positions, end_positions: (B,) first and last token of the answer, counted without a prompt's. One
                after the input does not count. With both the output has the mean of their cross entropies as its loss.
            frozen_states: what leaves the layers that the method leaves as they are, of `fp.cache_frozen_layers`.
        """
        states, hidden = self.encode(
            input_ids, attention_mask, token_type_ids, output_hidden_states, frozen_states=frozen_states
        )
        logits = self.head(states)
        answered = start_positions is not None and end_positions is not None
        loss = span_loss(logits, start_positions, end_positions) if answered else None
        return SpanOutput(loss, logits, hidden if output_hidden_states else None)

    def train_step(
        self,
        input_ids: Any,
        attention_mask: Any,
        start_positions: Any,
        end_positions: Any,
        token_type_ids: Any = None,
        frozen_states: FrozenStates | None = None,
    ) -> dict:
        """fastNLP's training step: {"loss"}.

        Raises:
            TrainingError: at the first step, where the prompt gets no gradient and so would silently not train.
        """
        return self._train_on(
            {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
                "start_positions": start_positions,
                "end_positions": end_positions,
                **as_keyword(frozen_states),
            }
        )

    def evaluate_step(
        self,
        input_ids: Any,
        attention_mask: Any,
        start_positions: Any,
        end_positions: Any,
        token_type_ids: Any = None,
        frozen_states: FrozenStates | None = None,
    ) -> dict:
        """fastNLP's evaluation step: {"pred": (B, 2) likeliest start and end among the real tokens, "target": (B, 2),
        "loss": scalar, "start_logits": (B, T), "end_logits": (B, T)}."""
        check_batch(self, {"input_ids": input_ids, "token_type_ids": token_type_ids})
        output = self(
            input_ids, attention_mask, token_type_ids, start_positions, end_positions, **as_keyword(frozen_states)
        )
        padding = ops.cast_like(1 - attention_mask, output.logits)[:, :, None]
        return {
            "pred": ops.argmax(output.logits - 1e9 * padding, axis=1),
            "target": ops.cat([ops.reshape(x, (-1, 1)) for x in (start_positions, end_positions)], axis=1),
            "loss": output.loss,
            "start_logits": output.start_logits,
            "end_logits": output.end_logits,
        }
