"""Causal language models: what follows a text, learnt from labels and generated token by token."""

from typing import Any

from fastprompt.backbones.checkpoint import read_json
from fastprompt.data.encoding import IGNORED
from fastprompt.errors import ConfigError
from fastprompt.framework import ops
from fastprompt.models.base import ModelOutput, PromptModel
from fastprompt.models.generation import Reader, check_request, sample
from fastprompt.models.lm_heads import make_lm_head
from fastprompt.models.losses import class_loss

import numpy


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
        return make_lm_head(self.checkpoint)

    def _is_frozen_head(self, name: str) -> bool:
        return self.method_config.method != "linear-probe"

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        only_labelled: bool = False,
    ) -> ModelOutput:
        """Read a batch; the logits are (B, T, vocab_size), each position's of the token behind it.

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens, padding on either side.
            labels: (B, T), what stands at each place, or -100 where that is not to be learnt. With them the output has
                the mean cross entropy as its loss, every label held against the logits of the place before it.
            only_labelled: compute no others: the logits are (N, vocab_size), of the N labels in their order.
        """
        states, hidden = self.encode(input_ids, attention_mask, None, output_hidden_states)
        if only_labelled:
            states, labels = _labelled(states, labels)
        logits = self.score_words(states)
        loss = None
        if labels is not None:
            loss = class_loss(logits, labels) if only_labelled else class_loss(logits[:, :-1], labels[:, 1:])
        return ModelOutput(loss, logits, hidden if output_hidden_states else None)

    def score_words(self, states: Any) -> Any:
        """Last hidden states (..., hidden) -> the scores of the words behind them (..., vocab_size)."""
        return self.head(states, self.backbone.word_embeddings())

    def train_step(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict:
        """fastNLP's training step: {"loss"}.

        Raises:
            TrainingError: at the first step, where the prompt gets no gradient and so would silently not train.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        return self._train_on({**inputs, "only_labelled": True})

    def evaluate_step(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict:
        """fastNLP's evaluation step, over the N labels that count: {"pred": (N,) likeliest tokens, "target": (N,),
        "loss": scalar}."""
        states, targets = _labelled(self.encode(input_ids, attention_mask)[0], labels)
        logits = self.score_words(states)
        return {"pred": self.predictions(logits), "target": targets, "loss": class_loss(logits, targets)}

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
        eos_token_id: int | list[int] | None = None,
        pad_token_id: int | None = None,
    ) -> numpy.ndarray:
        """Go on from a batch, its prompt in place; the likeliest token each time, or a drawn one.

        Args:
            input_ids: (B, T); attention_mask: (B, T), rows of unequal length padded in front.
            max_new_tokens: how many tokens are written at most.
            do_sample: draw by `seed`, the same under every framework, from the logits over `temperature`: among the
                `top_k` likeliest (0: all), and of those the fewest whose probabilities reach `top_p`.
            eos_token_id: ends a row, one or any of several; None: generation_config.json's, or else config.json's.
            pad_token_id: fills ended rows; None: likewise.

        Returns:
            int64 (B, T + written): the input, and what follows it.

        Raises:
            ConfigError: there is no pad token for rows that may end one before another, an option cannot work, or there
                is no room in the backbone's positions.
            DataError: rows are padded behind.
        """
        settings = self._generation_settings()
        end = settings.get("eos_token_id") if eos_token_id is None else eos_token_id
        pad = settings.get("pad_token_id") if pad_token_id is None else pad_token_id
        ids = ops.to_numpy(input_ids).astype("int64")
        mask = numpy.ones_like(ids) if attention_mask is None else ops.to_numpy(attention_mask).astype("int64")
        check_request(mask, max_new_tokens, temperature, top_k, top_p)
        if len(ids) > 1 and end is not None and pad is None:
            raise ConfigError("The rows may end one before another, and the model has no pad token; give pad_token_id.")
        if self.max_length is not None and ids.shape[1] + max_new_tokens - 1 > self.max_length:
            raise ConfigError(
                f"{ids.shape[1]} tokens and {max_new_tokens} new ones are more than the {self.max_length} that the "
                f"backbone's positions leave room for; lower max_new_tokens."
            )
        ends = [] if end is None else numpy.atleast_1d(end)
        draw = numpy.random.default_rng(seed)
        going = numpy.ones(len(ids), dtype=bool)
        was_training = self.training
        self.eval()
        try:
            read = Reader(self, input_ids)
            logits = read(ids, mask)
            for written in range(1, max_new_tokens + 1):
                chosen = sample(logits / temperature, top_k, top_p, draw) if do_sample else logits.argmax(axis=1)
                chosen = numpy.where(going, chosen, 0 if pad is None else pad)
                ids = numpy.concatenate([ids, chosen[:, None]], axis=1)
                seen = going[:, None].astype("int64")  # an ended row is read no further
                going &= ~numpy.isin(chosen, ends)
                if written == max_new_tokens or not going.any():
                    break
                logits = read(chosen[:, None], seen)
        finally:
            if was_training:
                self.train()
        return ids

    def _generation_settings(self) -> dict[str, Any]:
        path = self.checkpoint.directory / "generation_config.json"
        own = read_json(path) if path.exists() else {}
        return self.checkpoint.config | {name: value for name, value in own.items() if value is not None}


def _labelled(states: Any, labels: Any) -> tuple[Any, Any]:
    """States (B, T, hidden) before the N labels (B, T) that count, and those labels: (N, hidden) and (N,)."""
    counted = ops.to_numpy(labels) != IGNORED
    counted[:, 0] = False  # nothing stands before it
    places = numpy.flatnonzero(counted)
    labels = ops.reshape(labels, (-1,))
    states = ops.reshape(states, (-1, states.shape[-1]))
    if not len(places):  # one that does not count: the loss is 0, the mean of none
        return states[:1], labels[:1] * 0 + IGNORED
    return ops.take_rows(states, (places - 1).tolist()), ops.take_rows(labels, places.tolist())
