"""Classification of every token: named entities, parts of speech, semantic roles."""

from typing import Any

from fastprompt.data.encoding import IGNORE_INDEX
from fastprompt.data.frozen import FrozenStates, as_keyword
from fastprompt.framework import ops
from fastprompt.models.base import PromptModel
from fastprompt.models.indices import check_batch
from fastprompt.models.losses import class_loss
from fastprompt.models.outputs import ModelOutput

import numpy


class PromptForTokenClassification(PromptModel):
    """A prompt-tuned tagger; `from_pretrained` makes one."""

    task = "token_classification"
    pools = False

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        frozen_states: FrozenStates | None = None,
    ) -> ModelOutput:
        """Tag a batch; the logits are (B, T, num_labels), of the input's tokens and not of a prompt's.

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens; token_type_ids: (B, T).
            labels: (B, T) class indices, -100 where none counts (special tokens, padding, a word's further tokens);
                with them the output has the mean cross entropy as its loss.
            frozen_states: what leaves the layers that the method leaves as they are, of `fp.cache_frozen_layers`.
        """
        states, hidden = self.encode(
            input_ids, attention_mask, token_type_ids, output_hidden_states, frozen_states=frozen_states
        )
        logits = self.head(states)
        loss = None if labels is None else class_loss(logits, labels)
        return ModelOutput(loss, logits, hidden if output_hidden_states else None)

    def evaluate_step(
        self,
        input_ids: Any,
        attention_mask: Any,
        labels: Any,
        token_type_ids: Any = None,
        frozen_states: FrozenStates | None = None,
    ) -> dict:
        """fastNLP's evaluation step, over the labelled tokens, packed to the front of their rows as fastNLP's metrics
        take them.

        Returns:
            {"pred", "target": (B, N) class indices, N the most labelled tokens of a row; "seq_len": (B,) how many each
            row has; "loss": scalar}. After a row's labelled tokens its targets are -100.
        """
        check_batch(self, {"input_ids": input_ids, "token_type_ids": token_type_ids, "labels": labels})
        output = self(input_ids, attention_mask, token_type_ids, labels, **as_keyword(frozen_states))
        labelled = ops.to_numpy(labels) != IGNORE_INDEX
        seq_len = labelled.sum(axis=1)
        width = max(1, int(seq_len.max()))
        positions = numpy.argsort(~labelled, axis=1, kind="stable")[:, :width]  # (B, N)
        rows, length = labelled.shape
        flat = (positions + length * numpy.arange(rows)[:, None]).reshape(-1).tolist()

        def packed(x: Any) -> Any:
            return ops.reshape(ops.take_rows(ops.reshape(x, (-1,)), flat), (rows, width))

        return {
            "pred": packed(self.predictions(output.logits)),
            "target": packed(labels),
            "seq_len": ops.tensor(seq_len.astype("int64"), like=labels),
            "loss": output.loss,
        }
