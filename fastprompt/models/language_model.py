"""What causal and encoder-decoder language models share: the checkpoint's vocabulary head, steps, and generation."""

from typing import Any, ClassVar

from fastprompt.data.encoding import IGNORE_INDEX
from fastprompt.data.frozen import FrozenStates, as_keyword
from fastprompt.errors import ConfigError
from fastprompt.framework import ops
from fastprompt.models.base import PromptModel
from fastprompt.models.generation import as_batch, check_options, generate_tokens, sample
from fastprompt.models.indices import check_batch
from fastprompt.models.lm_heads import make_lm_head
from fastprompt.models.losses import class_loss
from fastprompt.models.outputs import ModelOutput, Outputs
from fastprompt.pretrained.checkpoint import read_json

import numpy


class IncrementalDecoder:
    """Runs a model token by token with a key-value cache: a call reads new tokens and gives the logits of the next one.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: "LanguageModel") -> None:
        self._model = model
        self._cache = model.backbone.new_cache()

    def __call__(self, ids: numpy.ndarray, mask: numpy.ndarray) -> numpy.ndarray:
        """The logits (B, vocab_size) of the token after the last of ids (B, T); mask (B, T): 1 for real tokens."""
        with ops.no_grad():
            inputs = self._next_inputs(self._model.tensor(ids), self._model.tensor(mask))
            states = self._model.backbone(**inputs, cache=self._cache)[-1]
            return ops.to_numpy(self._model.token_logits(ops.cast(states[:, -1], "float32")))

    def _next_inputs(self, ids: Any, mask: Any) -> dict[str, Any]:
        """What the backbone is called with for tokens (B, T) that it has not read."""
        raise NotImplementedError


class LanguageModel(PromptModel):
    """The head is the checkpoint's own, and frozen with the backbone.

    Attributes:
        label_offset: how many positions before a label stands the state that predicts it.
    """

    pools = False
    label_offset: ClassVar[int]

    @classmethod
    def describe_outputs(
        cls, num_labels: int | None, label_names: list[str] | None, problem_type: str | None
    ) -> Outputs:
        if num_labels or label_names or problem_type is not None:
            raise ConfigError("A language model's outputs are its tokens; leave labels and problem_type off.")
        return Outputs([])

    def make_head(self) -> Any:
        return make_lm_head(self.checkpoint, self.backbone)

    def is_frozen_head(self, name: str) -> bool:
        return not self.method_config.tunes_pretrained_head

    def token_logits(self, states: Any) -> Any:
        """Last hidden states (..., hidden) -> the logits of the tokens after them (..., vocab_size)."""
        return self.head(states, self.backbone.word_embeddings())

    def read(
        self, input_ids: Any, attention_mask: Any, labels: Any, output_hidden_states: bool = False
    ) -> tuple[Any, list[Any]]:
        """The last hidden states (B, T, hidden) that predict labels (B, T), and those of all layers."""
        raise NotImplementedError

    def _output(self, read: tuple[Any, list[Any]], labels: Any, all_states: bool, only_targets: bool) -> ModelOutput:
        """What `forward` returns of what `read` gave."""
        states, hidden = read
        if only_targets:
            states, labels = self._labelled(states, labels)
        logits = self.token_logits(states)
        loss = None
        if labels is not None:
            offset = 0 if only_targets else self.label_offset
            loss = class_loss(logits[:, :-offset], labels[:, offset:]) if offset else class_loss(logits, labels)
        return ModelOutput(loss, logits, hidden if all_states else None)

    def _labelled(self, states: Any, labels: Any) -> tuple[Any, Any]:
        """States (B, T, hidden) that predict the N labels (B, T) that count, and those labels: (N, hidden) and (N,)."""
        counted = ops.to_numpy(labels) != IGNORE_INDEX
        counted[:, : self.label_offset] = False  # nothing stands before them
        indices = numpy.flatnonzero(counted)
        labels = ops.reshape(labels, (-1,))
        states = ops.reshape(states, (-1, states.shape[-1]))
        if not len(indices):  # one that does not count: the loss is 0, the mean of none
            return states[:1], labels[:1] * 0 + IGNORE_INDEX
        return (
            ops.take_rows(states, (indices - self.label_offset).tolist()),
            ops.take_rows(labels, indices.tolist()),
        )

    def train_step(
        self, input_ids: Any, attention_mask: Any, labels: Any, frozen_states: FrozenStates | None = None
    ) -> dict:
        """fastNLP's training step: {"loss"}.

        Raises:
            TrainingError: at the first step, where the prompt gets no gradient and so would silently not train.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        return self._train_on({**inputs, "only_targets": True, **as_keyword(frozen_states)})

    def evaluate_step(
        self, input_ids: Any, attention_mask: Any, labels: Any, frozen_states: FrozenStates | None = None
    ) -> dict:
        """fastNLP's evaluation step, over the N labels that count: {"pred": (N,) likeliest tokens, "target": (N,),
        "loss": scalar}."""
        check_batch(self, {"input_ids": input_ids, "labels": labels})
        read, _ = self.read(input_ids, attention_mask, labels, **as_keyword(frozen_states))
        states, targets = self._labelled(read, labels)
        logits = self.token_logits(states)
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
        """Write what follows a batch, its prompt in place; the likeliest token each time, or a drawn one.

        Args:
            input_ids: (B, T) token ids in a tensor, an array (`generate`'s own output, say) or lists, which may be of
                unequal length and are then padded, a causal model's in front.
            attention_mask: of the same lengths, 1 for real tokens; None: all of them are.
            max_new_tokens: how many tokens are written at most.
            do_sample: draw by `seed`, the same under every framework, from the logits over `temperature`: among the
                `top_k` likeliest (0: all), and of those the fewest whose probabilities reach `top_p`.
            eos_token_id: ends a row, one or any of several; None: generation_config.json's, or else config.json's.
            pad_token_id: fills ended rows; None: likewise.

        Returns:
            int64: of a causal model the input and what follows it, (B, T + written); of an encoder-decoder the token
            that its decoder starts with, and what follows that, (B, 1 + written).

        Raises:
            ConfigError: there is no pad token for rows that may end one before another, an option cannot work, or there
                is no room in the backbone's positions.
            DataError: input_ids are no rows of the vocabulary's tokens, the mask does not go with them, or rows of a
                causal model are padded at the end.
        """
        settings = self._generation_settings()
        end = settings.get("eos_token_id") if eos_token_id is None else eos_token_id
        pad = settings.get("pad_token_id") if pad_token_id is None else pad_token_id
        ids, mask = as_batch(input_ids, attention_mask, 0 if pad is None else pad, pad_in_front=bool(self.causal))
        self.check_indices({"input_ids": ids})
        check_options(max_new_tokens, temperature, top_k, top_p)
        if len(ids) > 1 and end is not None and pad is None:
            raise ConfigError("The rows may end one before another, and the model has no pad token; give pad_token_id.")
        rng = numpy.random.default_rng(seed)

        def choose(logits: numpy.ndarray) -> numpy.ndarray:
            return sample(logits / temperature, top_k, top_p, rng) if do_sample else logits.argmax(axis=1)

        was_training = self.training
        self.eval()
        try:
            decoder, ids, mask = self._start(ids, mask, max_new_tokens)
            forced = self._forced_tokens(settings, max_new_tokens)
            ends = [] if end is None else numpy.atleast_1d(end)
            return generate_tokens(decoder, ids, mask, choose, max_new_tokens, ends, 0 if pad is None else pad, forced)
        finally:
            if was_training:
                self.train()

    def _start(
        self, ids: numpy.ndarray, mask: numpy.ndarray, max_new_tokens: int
    ) -> tuple[IncrementalDecoder, numpy.ndarray, numpy.ndarray]:
        """The decoder of a batch (B, T), and the tokens that it continues with their mask; refused without room."""
        raise NotImplementedError

    def _forced_tokens(self, settings: dict[str, Any], max_new_tokens: int) -> dict[int, int]:
        """{n: what the n-th token that is written must be}."""
        return {}

    def _generation_settings(self) -> dict[str, Any]:
        path = self.checkpoint.directory / "generation_config.json"
        own = read_json(path) if path.exists() else {}
        return self.checkpoint.config | {name: value for name, value in own.items() if value is not None}
