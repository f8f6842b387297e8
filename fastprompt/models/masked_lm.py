"""Cloze prompts: a language model fills the blank of a template."""

import warnings
from pathlib import Path
from typing import Any

from fastprompt.cloze.template import Template
from fastprompt.data.cloze import word_ids
from fastprompt.data.frozen import FrozenStates, as_keyword
from fastprompt.errors import CheckpointError, ConfigError, DataError
from fastprompt.framework import ops
from fastprompt.models.base import PromptModel
from fastprompt.models.indices import check_batch
from fastprompt.models.lm_heads import make_lm_head
from fastprompt.models.losses import class_loss
from fastprompt.models.outputs import ModelOutput, Outputs
from fastprompt.pretrained.tokenizer import load_tokenizer
from fastprompt.saving import prompt_file

import numpy


class PromptForMaskedLM(PromptModel):
    """A prompt-tuned masked language model; `from_pretrained` makes one.

    With a verbalizer its outputs are labels, each scored by the mean of its words' logits (as PET scores them: Schick
    and Schuetze, 2021, arXiv:2001.07676). Without one they are the vocabulary's words.

    The head is the checkpoint's own, its decoder tied to the word embeddings, and frozen with the backbone; "linear-
    probe" trains it. A checkpoint that has none gets a fresh one, which is trained along.

    A causal language model fills a blank that is last, by the state of what stands before it; it brings its head.
    """

    task = "masked_lm"
    pools = False
    causal = None
    fills_blanks = True

    def __init__(self, checkpoint: Any, backbone: Any, config: Any, outputs: Outputs, **options: Any) -> None:
        if config.template is None:
            raise ConfigError(
                "A masked language model needs a template with a blank: Config(template='[X] ... [MASK]')."
            )
        labels = list(config.verbalizer or ())
        label_names = outputs.label_names
        if label_names and sorted(label_names) != sorted(labels):
            raise ConfigError(
                f"The verbalizer has words for {', '.join(labels) or 'no label'}; the labels are "
                f"{', '.join(label_names)}."
            )
        labels = label_names or labels
        super().__init__(checkpoint, backbone, config, Outputs(labels), **options)
        if checkpoint.family.causal:
            Template(config.template).check_blank_is_last()
        self._word_ids = self._word_weights = None
        if labels:
            ids = word_ids({label: config.verbalizer[label] for label in labels}, load_tokenizer(checkpoint.directory))
            self._word_ids = numpy.array([word for words in ids for word in words])  # (K,)
            label_of_word = numpy.repeat(numpy.arange(len(ids)), [len(words) for words in ids])
            belongs = label_of_word == numpy.arange(len(ids))[:, None]
            self._word_weights = (belongs / belongs.sum(axis=1, keepdims=True)).astype("float32")  # (num_labels, K)

        if self.fresh and not self.method_config.trains:
            raise CheckpointError(
                f"{checkpoint.name} has no masked-LM head of its own; name a checkpoint that has, or train one."
            )

    @classmethod
    def from_pretrained(cls, model_name_or_path: str | Path, *arguments: Any, **options: Any) -> "PromptForMaskedLM":
        """As `PromptModel.from_pretrained`; a head that the checkpoint does not bring is warned of."""
        model = super().from_pretrained(model_name_or_path, *arguments, **options)
        if model.fresh_tensors() and not prompt_file.is_prompt(model_name_or_path):
            warnings.warn(
                f"{model_name_or_path} has no masked-LM head of its own; a fresh one is trained along.", stacklevel=2
            )
        return model

    @classmethod
    def describe_outputs(
        cls, num_labels: int | None, label_names: list[str] | None, problem_type: str | None
    ) -> Outputs:
        if problem_type is not None or (num_labels is not None and num_labels != len(label_names or ())):
            raise ConfigError("A masked language model's outputs are its verbalizer's labels; leave the rest off.")
        return Outputs(list(label_names or ()))

    def make_head(self) -> Any:
        return make_lm_head(self.checkpoint, self.backbone)

    def is_frozen_head(self, name: str) -> bool:
        return name not in self.fresh and not self.method_config.tunes_pretrained_head

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        mask_positions: Any = None,
        pseudo_tokens: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        frozen_states: FrozenStates | None = None,
    ) -> ModelOutput:
        """Fill the blanks of a batch; the logits are (B, num_labels) with a verbalizer, else (B, vocab_size).

        Args:
            input_ids: (B, T) token ids, as `Template.lay_out` makes them; attention_mask: (B, T), 1 for real tokens;
                token_type_ids: (B, T).
            mask_positions: (B,) index of each row's blank, or of what stands before it on a causal model.
            pseudo_tokens: (B, T) which pseudo token stands at a position, counted from 1, and 0 for the others.
            labels: (B,) labels, or ids of words without a verbalizer. With them the output has the mean cross entropy
                as its loss.
            frozen_states: what leaves the layers that the method leaves as they are, of `fp.cache_frozen_layers`.

        Raises:
            DataError: mask_positions are missing, or pseudo_tokens where the template has some.
        """
        if mask_positions is None:
            raise DataError("mask_positions are missing: the index of each row's blank (Template.lay_out makes them).")
        states, hidden = self.encode(
            input_ids, attention_mask, token_type_ids, output_hidden_states, pseudo_tokens, frozen_states
        )
        positions = ops.reshape(ops.arange(states.shape[1], like=input_ids), (1, -1))
        blank = ops.cast_like(positions == ops.reshape(mask_positions, (-1, 1)), states)  # (B, T)
        states = ops.sum(states * ops.reshape(blank, (*blank.shape, 1)), axis=1)  # (B, hidden)
        logits = self.head(states, self.backbone.word_embeddings(), self._word_ids)
        if self._word_weights is not None:
            logits = ops.linear(logits, ops.cast_like(ops.tensor(self._word_weights, like=logits), logits))
        loss = None if labels is None else class_loss(logits, labels)
        return ModelOutput(loss, logits, hidden if output_hidden_states else None)

    def train_step(
        self,
        input_ids: Any,
        attention_mask: Any,
        mask_positions: Any,
        labels: Any,
        token_type_ids: Any = None,
        pseudo_tokens: Any = None,
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
                "mask_positions": mask_positions,
                "pseudo_tokens": pseudo_tokens,
                "labels": labels,
                **as_keyword(frozen_states),
            }
        )

    def evaluate_step(
        self,
        input_ids: Any,
        attention_mask: Any,
        mask_positions: Any,
        labels: Any,
        token_type_ids: Any = None,
        pseudo_tokens: Any = None,
        frozen_states: FrozenStates | None = None,
    ) -> dict:
        """fastNLP's evaluation step: {"pred": (B,) labels or ids of words, "target": the labels, "loss": scalar,
        "logits": as `forward` gives them}."""
        inputs = {
            "input_ids": input_ids,
            "token_type_ids": token_type_ids,
            "mask_positions": mask_positions,
            "pseudo_tokens": pseudo_tokens,
            "labels": labels,
        }
        check_batch(self, inputs)
        output = self(attention_mask=attention_mask, **inputs, **as_keyword(frozen_states))
        return {
            "pred": self.predictions(output.logits),
            "target": labels,
            "loss": output.loss,
            "logits": output.logits,
        }
