"""Encoder-decoder language models: an answer to a text, learnt from labels and generated token by token."""

from functools import cached_property
from typing import Any

from fastprompt.data.encoding import IGNORE_INDEX
from fastprompt.errors import CheckpointError, ConfigError, DataError
from fastprompt.framework import ops
from fastprompt.models.language_model import IncrementalDecoder, LanguageModel
from fastprompt.models.outputs import ModelOutput
from fastprompt.pretrained.geometry import padding_id

import numpy


class Seq2SeqDecoder(IncrementalDecoder):
    """Decodes the answer to a text (B, S), which the encoder reads once; mask (B, S): 1 for real tokens."""

    def __init__(self, model: "LanguageModel", ids: numpy.ndarray, mask: numpy.ndarray) -> None:
        super().__init__(model)
        with ops.no_grad():
            self._inputs = model.backbone_inputs(model.tensor(ids), model.tensor(mask))

    def _next_inputs(self, ids: Any, mask: Any) -> dict[str, Any]:
        return {**self._inputs, "decoder_input_ids": ids}


class PromptForSeq2SeqLM(LanguageModel):
    """A prompt-tuned encoder-decoder; `from_pretrained` makes one.

    A deep prefix stands before the keys and values of the parts that its configuration names (`prefix_parts`), and at
    no position; one of the decoder alone may take the first positions (`shift_positions`). A shallow prompt stands
    before the encoder's input. The head is the checkpoint's own, and frozen with the backbone.
    """

    task = "seq2seq_lm"
    encoder_decoder = True
    label_offset = 0

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        only_targets: bool = False,
        decoder_input_ids: Any = None,
    ) -> ModelOutput:
        """Read a batch; the logits are (B, T, vocab_size), of the answer's tokens. Hidden states are the decoder's.

        Args:
            input_ids: (B, S) token ids; attention_mask: (B, S), 1 for real tokens.
            labels: (B, T), the answer, or -100 where it is not to be learnt. With them the output has the mean cross
                entropy as its loss.
            only_targets: compute no others: the logits are (N, vocab_size), of the N labels in their order.
            decoder_input_ids: (B, T), what stands before each token of the answer; None: the labels, shifted right by
                one, after the token that the decoder starts with.

        Raises:
            DataError: there are neither labels nor decoder_input_ids.
            ConfigError: the text or the answer is longer than the backbone's positions allow.
        """
        read = self.read(input_ids, attention_mask, labels, output_hidden_states, decoder_input_ids)
        return self._output(read, labels, output_hidden_states, only_targets)

    def read(
        self,
        input_ids: Any,
        attention_mask: Any,
        labels: Any,
        output_hidden_states: bool = False,
        decoder_input_ids: Any = None,
    ) -> tuple[Any, list[Any]]:
        if decoder_input_ids is None and labels is None:
            raise DataError("An encoder-decoder reads labels or decoder_input_ids beside input_ids; give one of them.")
        if decoder_input_ids is None:
            decoder_input_ids = self._shift_right(labels)
        self._check_decoder_length(decoder_input_ids.shape[1])
        inputs = self.backbone_inputs(input_ids, attention_mask) | {"decoder_input_ids": decoder_input_ids}
        states = self.backbone(**inputs, output_hidden_states=output_hidden_states)
        return self.in_float32(states[-1]), states

    def _shift_right(self, labels: Any) -> Any:
        """Labels (B, T) shifted right by one, after the token that the decoder starts with."""
        labelled = ops.cast(labels != IGNORE_INDEX, "int64")
        tokens = labels * labelled + (padding_id(self.checkpoint.config) or 0) * (1 - labelled)
        first = tokens[:, :1] * 0 + self._decoder_start_token_id
        return first if tokens.shape[1] == 1 else ops.cat([first, tokens[:, :-1]], axis=1)

    @cached_property
    def _decoder_start_token_id(self) -> int:
        """What the decoder starts with."""
        token = self._generation_settings().get("decoder_start_token_id")
        if token is None:
            raise CheckpointError(
                f"{self.checkpoint.directory} names no decoder_start_token_id in config.json or generation_config.json."
            )
        return token

    def _check_decoder_length(self, length: int) -> None:
        limit, taken = self.backbone.geometry.max_positions, self.method_config.position_shift
        if limit is not None and length > limit - taken:
            prefix = f" less the {taken} of its prefix" if taken else ""
            raise ConfigError(
                f"The answer has {length} tokens, more than the decoder's {limit} positions{prefix}; shorten it "
                f"(labels, max_new_tokens)."
            )

    def _start(
        self, ids: numpy.ndarray, mask: numpy.ndarray, max_new_tokens: int
    ) -> tuple[Seq2SeqDecoder, numpy.ndarray, numpy.ndarray]:
        self._check_decoder_length(max_new_tokens)
        first = numpy.full((len(ids), 1), self._decoder_start_token_id, dtype="int64")
        return Seq2SeqDecoder(self, ids, mask), first, numpy.ones_like(first)

    def _forced_tokens(self, settings: dict[str, Any], max_new_tokens: int) -> dict[int, int]:
        """BART's first and last token, where its configuration asks for them."""
        forced = {1: settings.get("forced_bos_token_id"), max_new_tokens: settings.get("forced_eos_token_id")}
        return {n: int(numpy.ravel(token)[0]) for n, token in forced.items() if token is not None}
