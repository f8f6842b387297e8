"""Causal language models: what follows a text, learnt from labels and generated token by token."""

from typing import Any

from fastprompt.errors import CheckpointError, ConfigError, DataError
from fastprompt.framework import nn, ops
from fastprompt.models.base import ModelOutput, PromptModel
from fastprompt.models.losses import class_loss

import numpy


class VocabularyHead(nn.Module):
    """States (..., hidden) -> scores of words (..., vocab_size), by a matrix of its own or by the word embeddings."""

    def __init__(self, config: dict[str, Any], hidden: int, tied: bool) -> None:
        super().__init__()
        self.tied = tied
        if not tied:
            self.lm_head = nn.Linear(hidden, config["vocab_size"], bias=False)

    def forward(self, states: Any, embeddings: Any) -> Any:
        if not self.tied:
            return self.lm_head(states)
        return ops.linear(states, ops.cast_like(embeddings.weight, states))


class PromptForCausalLM(PromptModel):
    """A prompt-tuned causal language model; `from_pretrained` makes one.

    The head is the checkpoint's own, and frozen with the backbone.
    """

    task = "causal_lm"
    pools = False
    causal = True

    @classmethod
    def describe_outputs(
        cls, num_labels: int | None, label_names: list[str] | None, problem_type: str | None
    ) -> tuple[list[str], str | None]:
        if num_labels or label_names or problem_type is not None:
            raise ConfigError("A causal language model's outputs are its words; leave labels and problem_type off.")
        return [], None

    def _make_head(self, hidden_size: int) -> Any:
        tied = self.checkpoint.config.get("tie_word_embeddings", self.checkpoint.family.tied)
        head = VocabularyHead(self.checkpoint.config, hidden_size, tied)
        if not tied and not self.checkpoint.tensors(only={"head:lm_head.weight"}):
            raise CheckpointError(f"{self.checkpoint.name} lacks the tensor lm_head.weight; is it a language model?")
        return head

    def _is_frozen_head(self, name: str) -> bool:
        return self.method_config.method != "linear-probe"

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
    ) -> ModelOutput:
        """Read a batch; the logits are (B, T, vocab_size), each position's of the token behind it.

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens, padding on either side.
            labels: (B, T), what stands at each place, or -100 where that is not to be learnt. With them the output has
                the mean cross entropy as its loss, every label held against the logits of the place before it.
        """
        states, hidden = self.encode(input_ids, attention_mask, None, output_hidden_states)
        logits = self.head(states, self.backbone.word_embeddings())
        loss = None if labels is None else class_loss(logits[:, :-1], labels[:, 1:])
        return ModelOutput(loss, logits, hidden if output_hidden_states else None)

    def train_step(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict:
        """fastNLP's training step: {"loss"}.

        Raises:
            TrainingError: at the first step, where the prompt gets no gradient and so would silently not train.
        """
        return self._train_on({"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels})

    def evaluate_step(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict:
        """fastNLP's evaluation step: {"pred": (B, T - 1) likeliest next tokens, "target": (B, T - 1), -100 where
        nothing counts, "loss": scalar}."""
        output = self(input_ids, attention_mask, labels)
        return {"pred": self.predictions(output.logits[:, :-1]), "target": labels[:, 1:], "loss": output.loss}

    def generate(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        *,
        max_new_tokens: int = 20,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
    ) -> numpy.ndarray:
        """Go on from a batch, its prompt in place; the likeliest token each time, or a drawn one.

        Args:
            input_ids: (B, T); attention_mask: (B, T), rows of unequal length padded in front.
            max_new_tokens: how many tokens are written at most.
            do_sample: draw by `seed`, the same under every framework, from the logits over `temperature`: among the
                `top_k` likeliest (0: all), and of those the fewest whose probabilities reach `top_p`.
            eos_token_id: ends a row; None: config.json's. pad_token_id: fills ended rows; None: config.json's.

        Returns:
            int64 (B, T + written): the input, and what follows it.

        Raises:
            ConfigError: there is no pad token for rows that may end one before another, or an option cannot work.
            DataError: rows are padded behind.
        """
        config = self.checkpoint.config
        end = config.get("eos_token_id") if eos_token_id is None else eos_token_id
        pad = config.get("pad_token_id") if pad_token_id is None else pad_token_id
        ids = ops.to_numpy(input_ids).astype("int64")
        mask = numpy.ones_like(ids) if attention_mask is None else ops.to_numpy(attention_mask).astype("int64")
        _check_generation(mask, max_new_tokens, temperature, top_k, top_p)
        if len(ids) > 1 and end is not None and pad is None:
            raise ConfigError("The rows may end one before another, and the model has no pad token; give pad_token_id.")
        ends = [] if end is None else numpy.atleast_1d(end)
        draw = numpy.random.default_rng(seed)
        going = numpy.ones(len(ids), dtype=bool)
        was_training = self.training
        self.eval()
        try:
            for _ in range(max_new_tokens):
                logits = self._next_logits(ids, mask, input_ids)
                chosen = _sample(logits / temperature, top_k, top_p, draw) if do_sample else logits.argmax(axis=1)
                chosen = numpy.where(going, chosen, 0 if pad is None else pad)
                ids = numpy.concatenate([ids, chosen[:, None]], axis=1)
                mask = numpy.concatenate([mask, going[:, None].astype("int64")], axis=1)
                going &= ~numpy.isin(chosen, ends)
                if not going.any():
                    break
        finally:
            if was_training:
                self.train()
        return ids

    def _next_logits(self, ids: numpy.ndarray, mask: numpy.ndarray, like: Any) -> numpy.ndarray:
        """float32 (B, vocab_size), of the token behind the last."""
        with ops.no_grad():
            states, _ = self.encode(ops.tensor(ids, like=like), ops.tensor(mask, like=like))
            return ops.to_numpy(self.head(states[:, -1], self.backbone.word_embeddings()))


def _check_generation(mask: numpy.ndarray, max_new_tokens: int, temperature: float, top_k: int, top_p: float) -> None:
    if not mask[:, -1].all():
        raise DataError("Rows are padded behind their texts; pad them in front, where nothing is generated.")
    if max_new_tokens < 1 or top_k < 0 or not temperature > 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"max_new_tokens is {max_new_tokens}, temperature {temperature}, top_k {top_k}, top_p {top_p}; "
            f"they are from 1, above 0, from 0, and above 0 up to 1."
        )


def _sample(logits: numpy.ndarray, top_k: int, top_p: float, draw: numpy.random.Generator) -> numpy.ndarray:
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
