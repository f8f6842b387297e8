"""Stock `transformers` encoder-decoders as backbones: T5, mT5 and BART.

A prefix enters at three kinds of attention: the encoder's to its text, the decoder's to what it has written, and the
decoder's to the encoder's states (cross-attention). Each has keys and values of its own. A prefix stands at no
position: none of BART's are taken, and T5's bias, which says what a distance is worth, is 0 for it. One of the decoder
alone may take the first positions, as `past_key_values` do: the tokens' follow, and T5's bias is that of its distances.
"""

from typing import Any

from fastprompt.backbones.prefix import Prefix
from fastprompt.drivers.torch.stock.backbone import StockBackbone
from fastprompt.drivers.torch.stock.forward_pass import AttentionCall, ForwardPass, PrefixSlot, part_of, running
from fastprompt.errors import CheckpointError

import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache, __version__

# part -> queries and keys of its attention in the probing pass, over 2 tokens of the encoder and 3 of the decoder
PARTS = {"encoder": (2, 2), "decoder": (3, 3), "cross": (3, 2)}


class _Cache(EncoderDecoderCache):
    """What is cached of a batch that is being answered: the decoder's keys and values, and the encoder's states."""

    def __init__(self) -> None:
        super().__init__(DynamicCache(), DynamicCache())
        self.encoder_states: torch.Tensor | None = None


def _shift_positions(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Before a decoder's learned positions are read: they begin after those that a prefix takes."""
    part = part_of(module)
    if part is None or not part.shift:
        return None
    return args, {**kwargs, "position_ids": kwargs["position_ids"] + part.shift}


class EncoderDecoderBackbone(StockBackbone):
    def __init__(self, model: nn.Module, config: dict[str, Any]) -> None:
        super().__init__(model, config)
        if not self.family.distances:
            positions = model.decoder.embed_positions
            PrefixSlot("decoder", 0).put_on(positions)
            positions.register_forward_pre_hook(_shift_positions, with_kwargs=True)

    def _probe(self) -> dict[str, torch.Tensor]:
        read = super()._probe()
        return {**read, "decoder_input_ids": read["input_ids"].new_ones((1, 3))}

    def _parts(self, calls: list[AttentionCall]) -> dict[str, list[AttentionCall]]:
        found = {part: [call for call in calls if call.lengths == lengths] for part, lengths in PARTS.items()}
        if not all(found.values()):  # its masks would be none either
            raise CheckpointError(
                f"transformers {__version__} computes {self.config['model_type']}'s attention not as fastprompt knows "
                f"it, by a call of AttentionInterface; 5.23 does."
            )
        return found

    @property
    def prefix_shapes(self) -> dict[str, tuple[int, int, int]]:
        """(layers, heads_kv, head_dim) of each part."""
        return dict(self._shapes)

    def no_dropout_before(self, layer: int, parts: tuple[str, ...]) -> None:
        """As PortableBackbone.no_dropout_before, of each part that has a prefix; before the first layer of the decoder
        comes the whole encoder."""
        first = {"encoder.": layer if "encoder" in parts else self._shapes["encoder"][0]}
        if "encoder" not in parts:
            first["decoder."] = layer
        self._leave_out_dropout(first)

    def new_cache(self) -> _Cache:
        """An empty cache for `forward`."""
        return _Cache()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        prefix: dict[str, Prefix] | None = None,
        output_hidden_states: bool = False,
        cache: _Cache | None = None,
    ) -> list[torch.Tensor]:
        """The decoder's hidden states, the last layer's last, each (B, T, hidden).

        Args:
            input_ids: (B, S), or else inputs_embeds (B, S, hidden), what the encoder reads.
            attention_mask: (B, S), 1 for real tokens.
            decoder_input_ids: (B, T), what the decoder has written so far.
            prefix: by part.
            cache: of the same batch, to which what is read is added; with it decoder_input_ids are those not yet read,
                and the encoder reads once.
        """
        read = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        if cache is not None and cache.encoder_states is not None:
            read = {"encoder_outputs": (cache.encoder_states,)}
        with running(ForwardPass(prefix or {}, self._biases(prefix or {}, decoder_input_ids, cache))):
            output = self.model(
                **read,
                attention_mask=attention_mask,
                decoder_input_ids=decoder_input_ids,
                use_cache=cache is not None,
                **({} if cache is None else {"past_key_values": cache}),  # transformers warns of a None
                output_hidden_states=output_hidden_states,
            )
        if cache is not None:
            cache.encoder_states = output.encoder_last_hidden_state
        return [*(output.decoder_hidden_states or ())[:-1], output.last_hidden_state]

    def _biases(
        self, prefix: dict[str, Prefix], decoder_input_ids: torch.Tensor, cache: _Cache | None
    ) -> dict[str, torch.Tensor]:
        """T5's bias of the distances between the tokens (B, T) and a prefix that takes positions: (1, heads, T, P)."""
        own = prefix.get("decoder")
        if own is None or not own.has_positions or not self.family.distances:
            return {}
        first = self.model.decoder.block[0].layer[0].SelfAttention  # the one that has the table for all layers
        before = own.length + (0 if cache is None else cache.get_seq_length())
        return {"decoder": first.compute_bias(decoder_input_ids.shape[1], own.length, past_seen_tokens=before)}
