"""Classification of texts and of pairs of texts: into classes, by several labels at once, or by numbers."""

from typing import Any

from fastprompt.data.frozen import FrozenStates
from fastprompt.framework import ops
from fastprompt.models.base import PromptModel
from fastprompt.models.losses import class_loss, multi_label_loss, regression_loss
from fastprompt.models.outputs import CLASSES, LABELS, NUMBERS, ModelOutput, Outputs, label_names_of, problem_type_of

_LOSSES = {CLASSES: class_loss, LABELS: multi_label_loss, NUMBERS: regression_loss}


class PromptForSequenceClassification(PromptModel):
    """A prompt-tuned classifier or regressor; `from_pretrained` makes one."""

    task = "sequence_classification"
    causal = None

    @classmethod
    def describe_outputs(
        cls, num_labels: int | None, label_names: list[str] | None, problem_type: str | None
    ) -> Outputs:
        problem_type = problem_type_of(problem_type, len(label_names) if label_names else num_labels)
        default = 1 if problem_type == NUMBERS else 2
        return Outputs(label_names_of(num_labels, label_names, default), problem_type)

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        frozen_states: FrozenStates | None = None,
    ) -> ModelOutput:
        """Classify a batch; the logits are (B, num_labels).

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens; token_type_ids: (B, T).
            labels: (B,) class indices, or by problem_type (B, num_labels) zeros and ones, or numbers (B,), or
                (B, num_labels) of several. With them the output has a loss: the mean cross entropy, binary cross
                entropy, or squared error.
            frozen_states: what leaves the layers that the method leaves as they are, of `fp.cache_frozen_layers`.
        """
        pooled, states = self.encode(
            input_ids, attention_mask, token_type_ids, output_hidden_states, frozen_states=frozen_states
        )
        logits = self.head(pooled)
        loss = None if labels is None else _LOSSES[self.problem_type](logits, labels)
        return ModelOutput(loss, logits, states if output_hidden_states else None)

    def predictions(self, logits: Any) -> Any:
        """Class indices (B,); with several labels (B, num_labels), 1 where the probability is above 0.5; of a
        regression the numbers, (B,) of one and (B, num_labels) of several."""
        if self.problem_type == LABELS:
            return ops.cast(logits > 0, "int64")
        if self.problem_type == NUMBERS:
            return logits[:, 0] if self.num_labels == 1 else logits
        return super().predictions(logits)
