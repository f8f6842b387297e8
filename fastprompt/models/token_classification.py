"""Classification of every token: named entities, parts of speech, semantic roles."""

from typing import Any

from fastprompt.models.base import PromptModel
from fastprompt.models.losses import class_loss
from fastprompt.models.outputs import ModelOutput


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
    ) -> ModelOutput:
        """Tag a batch; the logits are (B, T, num_labels), of the input's tokens and not of a prompt's.

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens; token_type_ids: (B, T).
            labels: (B, T) class indices, -100 where none counts (special tokens, padding, a word's further tokens);
                with them the output has the mean cross entropy as its loss.
        """
        states, hidden = self.encode(input_ids, attention_mask, token_type_ids, output_hidden_states)
        logits = self.head(states)
        loss = None if labels is None else class_loss(logits, labels)
        return ModelOutput(loss, logits, hidden if output_hidden_states else None)
