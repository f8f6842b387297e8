"""Classification of texts and of pairs of texts."""

from typing import Any

from fastprompt.framework import ops
from fastprompt.models.base import ModelOutput, PromptModel
from fastprompt.models.heads import LAYOUTS


class PromptForSequenceClassification(PromptModel):
    """A prompt-tuned classifier; `from_pretrained` makes one."""

    task = "sequence_classification"

    def make_head(self, config: dict[str, Any], hidden_size: int) -> Any:
        return LAYOUTS[self.backbone.family.head](config, hidden_size, self.num_labels)

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
    ) -> ModelOutput:
        """Classify a batch.

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens; token_type_ids: (B, T).
            labels: (B,) class indices; with them the output has the mean cross entropy as its loss.
        """
        pooled, states = self.encode(input_ids, attention_mask, token_type_ids, output_hidden_states)
        logits = self.head(pooled)  # (B, num_labels)
        loss = None if labels is None else ops.cross_entropy(logits, labels)
        return ModelOutput(loss, logits, states if output_hidden_states else None)

    def evaluate_step(self, input_ids: Any, attention_mask: Any, labels: Any, token_type_ids: Any = None) -> dict:
        """fastNLP's evaluation step: {"pred": (B,) class indices, "target": (B,), "loss": scalar}."""
        output = self(input_ids, attention_mask, token_type_ids, labels)
        return {"pred": ops.argmax(output.logits, axis=-1), "target": labels, "loss": output.loss}
