"""What the portable encoder-decoders share: an encoder that reads the text, a decoder that attends to its states, and a
prefix in each of three kinds of attention.

A prefix enters at the encoder's attention to its text, at the decoder's to what it has written, and at the decoder's to
the encoder's states (cross-attention). It stands at no position; one of the decoder alone may take the first ones, as
`past_key_values` do: the tokens' follow, and a bias of distances is that of its distances.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastprompt.backbones.cache import DecoderLayerCache, EncoderDecoderCache, LayerCache
from fastprompt.backbones.portable import (
    additive_mask,
    attend,
    causal_mask,
    leave_out_dropout,
    split_heads,
    with_dropout,
)
from fastprompt.backbones.prefix import Prefix
from fastprompt.framework import nn
from fastprompt.pretrained.families import family_of
from fastprompt.pretrained.geometry import geometry


class PartAttention(nn.Module):
    """Attention of a part; a family fills in `project`, `read` and `write`."""

    heads: int
    dropout_p: float

    def project(self, hidden: Any) -> Any:
        """States (B, T, hidden) -> queries (B, T, heads * head_dim), which are divided by sqrt(head_dim) later."""
        raise NotImplementedError

    def read(self, states: Any) -> tuple[Any, Any]:
        """States (B, S, hidden) -> keys and values (B, S, heads * head_dim)."""
        raise NotImplementedError

    def write(self, attended: Any) -> Any:
        """(B, T, heads * head_dim) -> (B, T, hidden)."""
        raise NotImplementedError

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        prefix: tuple[Any, Any] | None,
        bias: Any | None = None,
        cache: LayerCache | None = None,
        encoder_states: Any | None = None,
    ) -> Any:
        """Attention of states (B, T, hidden) to themselves, or to the encoder's states (B, S, hidden), whose keys and
        values are computed once for a cache."""
        if encoder_states is not None and cache is not None and cache.pair is not None:
            pair = cache.pair
        else:
            read = self.read(hidden if encoder_states is None else encoder_states)
            pair = tuple(split_heads(x, self.heads) for x in read)
            pair = pair if cache is None else cache.extend(*pair)
        query = split_heads(self.project(hidden), self.heads)
        return self.write(attend(query, *pair, mask, prefix, None, self.dropout_p, self.training, bias))


class Stack(nn.Module):
    """An encoder or a decoder; a family fills in what raises.

    Its layers are called as layer(hidden, mask, bias, key, value), a decoder's with the encoder's states and the mask,
    key and value of the cross-attention after them, and with cache=, a DecoderLayerCache, where there is one.
    """

    def embed(self, inputs_embeds: Any, start: int) -> Any:
        """Word embeddings (B, T, hidden) at the positions from `start` on -> the first layer's input."""
        raise NotImplementedError

    def layer_modules(self) -> list[Any]:
        raise NotImplementedError

    def position_bias(self, queries: int, keys: int, like: Any) -> Any | None:
        """What is added to scores of the stack's attention to itself, (1, heads, queries, keys); the queries are the
        last of the keys. None: nothing."""
        return None

    def finish(self, hidden: Any) -> Any:
        """What is made of the last layer's output."""
        return hidden

    def no_dropout_before(self, layer: int) -> None:
        """Leave out all dropout of the stack but that in the layers from this index on."""
        leave_out_dropout(self, but=with_dropout(*self.layer_modules()[layer:]))


class EncoderDecoderBackbone(nn.Module):
    """An encoder-decoder written in `nn` and `ops`; its parameters bear the names of the stock transformers base model.

    A family makes `shared`, the word embeddings, and the stacks `encoder` and `decoder`.
    """

    shared: Any
    encoder: Stack
    decoder: Stack

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.family = family_of(config["model_type"])
        self.geometry = geometry(config)
        self.gradient_checkpointing = False
        self.takes_token_types = False

    @property
    def prefix_shapes(self) -> dict[str, tuple[int, int, int]]:
        """(layers, heads_kv, head_dim) of each part."""
        raise NotImplementedError

    def stock_parameters(self) -> dict[str, Any]:
        """Parameters by their names in the stock base model."""
        return nn.named_parameters(self)

    def word_embeddings(self) -> Any:
        """The input embedding layer, which encoder and decoder share."""
        return self.shared

    def no_dropout_before(self, layer: int, parts: tuple[str, ...]) -> None:
        """Leave out all dropout before the layer of this index in each part that has a prefix; before the first layer
        of the decoder comes the whole encoder."""
        if "encoder" in parts:
            self.encoder.no_dropout_before(layer)
        else:
            self.encoder.no_dropout_before(self.geometry.layers)
            self.decoder.no_dropout_before(layer)

    def new_cache(self) -> EncoderDecoderCache:
        """An empty cache for `forward`."""
        return EncoderDecoderCache(self.geometry.decoder_layers)

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        inputs_embeds: Any = None,
        prefix: dict[str, Prefix] | None = None,
        output_hidden_states: bool = False,
        cache: EncoderDecoderCache | None = None,
    ) -> list[Any]:
        """The decoder's hidden states, the last layer's last, each (B, T, hidden).

        With `output_hidden_states` those after the embeddings and after every layer, else the last layer's alone.

        Args:
            input_ids: (B, S), or else inputs_embeds (B, S, hidden), what the encoder reads.
            attention_mask: (B, S), 1 for real tokens; None means that all are.
            decoder_input_ids: (B, T), what the decoder has written so far.
            prefix: by part.
            cache: of the same batch, to which what is read is added; with it decoder_input_ids are those not yet read,
                and the encoder reads once.
        """
        prefix = prefix or {}
        states = None if cache is None else cache.encoder_states
        if states is None:
            words = self.shared(input_ids) if inputs_embeds is None else inputs_embeds
            states = self._encode(words, attention_mask, prefix.get("encoder"))
        if cache is not None:
            cache.encoder_states = states
        found = self._decode(decoder_input_ids, states, attention_mask, prefix, cache)
        return found if output_hidden_states else found[-1:]

    def _encode(self, words: Any, attention_mask: Any, prefix: Prefix | None) -> Any:
        """Word embeddings (B, S, hidden) -> the encoder's states."""
        stack, length = self.encoder, words.shape[1]
        hidden, bias = stack.embed(words, 0), stack.position_bias(length, length, like=words)
        masks = _Masks(prefix, lambda own: None if attention_mask is None else additive_mask(attention_mask, own))
        for index, layer in enumerate(stack.layer_modules()):
            mask, *pair = masks.of(index, hidden.shape[0])
            hidden = self._call(layer, hidden, mask, bias, *pair)
        return stack.finish(hidden)

    def _decode(
        self,
        ids: Any,
        states: Any,
        attention_mask: Any,
        prefix: dict[str, Prefix],
        cache: EncoderDecoderCache | None,
    ) -> list[Any]:
        """The states of tokens (B, T) after the embeddings and after every layer."""
        stack, batch, length, own = self.decoder, ids.shape[0], ids.shape[1], prefix.get("decoder")
        cached = 0 if cache is None else cache.length
        taken = own.length if own is not None and own.has_positions else 0
        found = [stack.embed(self.shared(ids), taken + cached)]
        bias = stack.position_bias(length, taken + cached + length, like=states)
        written = _Masks(own, lambda own: causal_mask(None, own, found[0], cached))
        text = _Masks(
            prefix.get("cross"), lambda own: None if attention_mask is None else additive_mask(attention_mask, own)
        )
        for index, layer in enumerate(stack.layer_modules()):
            mask, *pair = written.of(index, batch)
            tokens_alone = taken and pair[0] is None and bias is not None
            layer_bias = bias[:, :, :, taken:] if tokens_alone else bias
            inputs = (found[-1], mask, layer_bias, *pair, states, *text.of(index, batch))
            found.append(self._call(layer, *inputs, cache=None if cache is None else cache.layers[index]))
        found[-1] = stack.finish(found[-1])
        return found

    def _call(self, layer: Callable, *inputs: Any, cache: DecoderLayerCache | None = None) -> Any:
        if cache is not None:
            return partial(layer, cache=cache)(*inputs)
        return nn.checkpoint(layer, *inputs) if self.gradient_checkpointing and self.training else layer(*inputs)


class _Masks:
    """What the layers of a part add to their scores, and their prefix; each mask is made once.

    Args:
        make: a prefix, or None in a layer without one -> the mask.
    """

    def __init__(self, prefix: Prefix | None, make: Callable[[Prefix | None], Any]) -> None:
        self._prefix, self._make = prefix, make
        self._made: dict[bool, Any] = {}

    def of(self, index: int, batch: int) -> tuple[Any, Any, Any]:
        """The mask, the keys and the values of layer `index`; None where it has none."""
        own = self._prefix is not None and self._prefix.stands_in(index)
        if own not in self._made:
            self._made[own] = self._make(self._prefix if own else None)
        return self._made[own], *(self._prefix.layer(index, batch) if own else (None, None))
