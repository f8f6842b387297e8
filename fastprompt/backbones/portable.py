"""What the portable Transformer definitions share: activations, masks, positions, and the prefix at the attention."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from fastprompt.backbones.cache import KeyValueCache, LayerCache, prepend
from fastprompt.backbones.prefix import Prefix
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import nn, ops
from fastprompt.pretrained.families import family_of
from fastprompt.pretrained.geometry import geometry, padding_id, reads_token_types

import numpy

ACTIVATIONS: dict[str, Callable] = {
    "gelu": ops.gelu,
    "gelu_new": ops.gelu_tanh,
    "gelu_pytorch_tanh": ops.gelu_tanh,
    "relu": ops.relu,
    "silu": ops.silu,
    "swish": ops.silu,
    "tanh": ops.tanh,
}


def activation(name: str) -> Callable:
    if name not in ACTIVATIONS:
        raise CheckpointError(f"config.json asks for the activation {name!r}; known are {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def additive_mask(attention_mask: Any, prefix: Prefix | None) -> Any:
    """(B, T) of ones and zeros -> (B, 1, 1, P + T) to add to attention scores."""
    batch, length = attention_mask.shape
    mask = ops.cast(attention_mask, "float32")
    if prefix is not None:
        unmasked = prefix.mask is None
        seen = ops.ones((batch, prefix.length), like=mask) if unmasked else ops.cast(prefix.mask, "float32")
        mask = ops.cat([seen, mask], axis=1)
        length += prefix.length
    return ops.reshape((1.0 - mask) * -1e9, (batch, 1, 1, length))


def causal_mask(
    attention_mask: Any | None, prefix: Prefix | None, like: Any, cached: int = 0, window: int | None = None
) -> Any:
    """As `additive_mask`, (B or 1, 1, T, P + cached + T), and no token sees one after it; all see the whole prefix.

    Args:
        like: any tensor of shape (B, T, ...).
        cached: how many tokens before these were read earlier.
        window: how many tokens, itself among them, a token sees; None: all up to it.
    """
    length = like.shape[1]
    hidden = numpy.full((length, cached + length), -1e9, dtype="float32")
    unseen = numpy.triu(hidden, cached + 1)
    if window is not None:
        unseen += numpy.tril(hidden, cached - window)
    before = numpy.zeros((length, prefix.length if prefix else 0), dtype="float32")
    mask = ops.tensor(numpy.concatenate([before, unseen], axis=1)[None, None], like=like)
    return mask if attention_mask is None else mask + additive_mask(attention_mask, prefix)


def split_heads(x: Any, heads: int) -> Any:
    """(B, T, heads * head_dim) -> (B, heads, T, head_dim)."""
    batch, length, width = x.shape
    return ops.transpose(ops.reshape(x, (batch, length, heads, width // heads)), (0, 2, 1, 3))


def join_heads(x: Any) -> Any:
    """(B, heads, T, head_dim) -> (B, T, heads * head_dim)."""
    batch, heads, length, width = x.shape
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, length, heads * width))


def read_of(hidden: Any, read: int | None) -> Any:
    """Of states (B, T, hidden) the one at a position, (B, 1, hidden); None: all."""
    if read is None:
        return hidden
    # A copy, whose rows lie side by side: of a slice with gaps torch makes one product a row.
    return ops.cat([hidden[:, read : read + 1]], axis=1)


def attend(
    query: Any,
    key: Any,
    value: Any,
    mask: Any | None,
    prefix: tuple[Any, Any] | None,
    cache: LayerCache | None,
    dropout_p: float,
    training: bool,
    bias: Any | None = None,
) -> Any:
    """Attention of queries (B, heads, T, head_dim) to the prefix, to what is cached, and to keys and values
    (B, heads_kv, T, head_dim), of which each serves a group of heads; returns (B, T, heads * head_dim).

    Args:
        mask: additive (B or 1, heads or 1, T or 1, S), for all of them.
        cache: is extended by these keys and values.
        bias: as the mask, but with a gradient; where it is for the tokens alone, it adds nothing to a prefix's scores.
    """
    if cache is not None:
        key, value = cache.extend(key, value)
    key, value = (_for_every_head(x, query.shape[1]) for x in prepend(prefix, key, value))
    if bias is not None and bias.shape[3] < key.shape[2]:
        before = ops.zeros((*bias.shape[:3], key.shape[2] - bias.shape[3]), like=bias)
        bias = ops.cat([ops.cast_like(before, bias), bias], axis=3)
    return join_heads(ops.attention(query, key, value, mask, dropout_p, training, bias))


def _for_every_head(x: Any, heads: int) -> Any:
    """(B, heads_kv, S, head_dim) -> (B, heads, S, head_dim)"""
    batch, groups, length, width = x.shape
    if groups == heads:
        return x
    x = ops.reshape(x, (batch, groups, 1, length, width))
    x = ops.expand(x, (batch, groups, heads // groups, length, width))
    return ops.reshape(x, (batch, heads, length, width))


class ScaledEmbedding(nn.Embedding):
    """Rows times a factor, as the layers read them. A vocabulary head reads the rows alone."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, factor: float) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        self.factor = factor

    def forward(self, ids: Any) -> Any:
        return super().forward(ids) * self.factor


class PassInputs(NamedTuple):
    """What the layers read in one forward pass. It travels with that pass: a module that held any of it would hand it
    to another pass, of another thread or in the backward pass of a gradient checkpoint.

    Attributes:
        inputs_embeds: (B, T, embedding_size).
        position_ids: (B, T).
        attention_mask: (B, cached + T), 1 for real tokens; None: all are.
        cache: the tokens read earlier.
    """

    inputs_embeds: Any
    position_ids: Any
    attention_mask: Any | None
    prefix: Prefix | None
    cache: KeyValueCache | None


def with_dropout(*parts: Any) -> dict[int, tuple[Any, str]]:
    """The modules of these that have dropout, with the name of their rate, by their identity."""
    found = {}
    for module in (module for part in parts for module in nn.modules(part)):
        name = "p" if isinstance(module, nn.Dropout) else "dropout_p"
        if getattr(module, name, 0.0):
            found[id(module)] = (module, name)
    return found


def leave_out_dropout(module: Any, but: dict[int, Any]) -> None:
    """Set the rates of all dropout in a module to 0 but those of `but`, as `with_dropout` gives them."""
    for identity, (one, name) in with_dropout(module).items():
        if identity not in but:
            setattr(one, name, 0.0)


def shared_dropout(kind: str) -> ConfigError:
    """The error of a family whose layers share their dropout, where it is to be left out before one of them."""
    return ConfigError(
        f"{kind} calls one layer many times, so that dropout cannot be left out before the first layer of "
        f"prefix_layers alone; set hidden_dropout_prob=0 and attention_probs_dropout_prob=0."
    )


class PortableBackbone(nn.Module):
    """A Transformer written in `nn` and `ops`; its parameters bear the names of the stock transformers base model.

    A family fills in `embed_inputs` and `layer_modules`, and `blocks` where its layers read more than their prefix.

    Attributes:
        reads_one: whether a layer takes read=, the one position whose output is asked of it.
    """

    reads_one = False

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.family = family_of(config["model_type"])
        self.geometry = geometry(config)
        self.gradient_checkpointing = False

    @property
    def prefix_shape(self) -> tuple[int, int, int]:
        """(layers, heads_kv, head_dim)"""
        return self.geometry.layers, self.geometry.heads_kv, self.geometry.head_dim

    @property
    def has_dropout(self) -> bool:
        """Whether its training draws masks, as far as its configuration says."""
        return any(self.config.get(name) for name in (*self.family.hidden_dropout, *self.family.attention_dropout))

    @property
    def takes_token_types(self) -> bool:
        return reads_token_types(self.config)

    def stock_parameters(self) -> dict[str, Any]:
        """Parameters by their names in the stock base model."""
        return nn.named_parameters(self)

    def word_embeddings(self) -> Any:
        """The input embedding layer."""
        raise NotImplementedError

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        """Word embeddings (B, T, embedding_size) -> the first layer's input (B, T, hidden)."""
        raise NotImplementedError

    def first_states(self, inputs: PassInputs, token_type_ids: Any | None) -> Any:
        """What enters the first layer, (B, T, hidden)."""
        return self.embed_inputs(inputs.inputs_embeds, token_type_ids, inputs.position_ids)

    def layer_modules(self) -> list[Any]:
        """The module of every layer in order; one that stands for several comes several times."""
        raise NotImplementedError

    def blocks(self, inputs: PassInputs) -> list[Callable]:
        """The layers in order, each called as block(hidden, mask, key, value) with its prefix, or None twice, and with
        cache=, a LayerCache, where there is one."""
        return self.layer_modules()

    def no_dropout_before(self, layer: int) -> None:
        """Leave out all dropout before the layer of this index: what enters it is then a constant of the text.

        Raises:
            ConfigError: a module with dropout comes both before and after it.
        """
        before, later = (with_dropout(*self.layer_modules()[part]) for part in (slice(layer), slice(layer, None)))
        if before.keys() & later:
            raise shared_dropout(self.config["model_type"])
        leave_out_dropout(self, later)

    def make_mask(self, inputs: PassInputs) -> Any | None:
        """What is added to attention scores, (B or 1, heads or 1, T or 1, P + cached + T)."""
        return None if inputs.attention_mask is None else additive_mask(inputs.attention_mask, inputs.prefix)

    def new_cache(self) -> KeyValueCache:
        """An empty cache for `forward`."""
        return KeyValueCache(self.geometry.layers)

    def finish(self, hidden: Any) -> Any:
        """What is made of the last layer's output (B, T, hidden) in the base model."""
        return hidden

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        prefix: Prefix | None = None,
        output_hidden_states: bool = False,
        cache: KeyValueCache | None = None,
        frozen_states: Any = None,
        read: int | None = None,
    ) -> list[Any]:
        """Hidden states, each (B, T, hidden), the last layer's last.

        With `output_hidden_states` those after the embeddings and after every layer, else the last layer's alone.

        Args:
            input_ids: (B, T), or else inputs_embeds (B, T, embedding_size).
            attention_mask: (B, T), 1 for real tokens; None means that all are.
            position_ids: (B, T); None means the family's own.
            cache: a causal model's, of the tokens read so far, which stand before the input's, and to which those are
                added. With it the attention mask is of both, (B, cached + T), and position_ids are given.
            frozen_states: what `frozen_states` gave for this input and the first layer that has a prefix, or without a
                prefix for all: the layers before it are not run, and have no states in the list.
            read: the one position that is asked of the last layer, whose states are then (B, 1, hidden): there the rest
                of it, but for keys and values, is not computed. Where `reads_one`.
        """
        inputs = self._inputs(input_ids, attention_mask, position_ids, inputs_embeds, prefix, cache, frozen_states)
        if frozen_states is None:
            hidden = self.first_states(inputs, token_type_ids)
            states = self._run(hidden, inputs, range(self.geometry.layers), output_hidden_states, read)
        elif prefix is None:
            return [read_of(inputs.inputs_embeds, read)]
        else:
            layers = range(prefix.first_layer, self.geometry.layers)
            states = self._run(inputs.inputs_embeds, inputs, layers, output_hidden_states, read)
        states[-1] = self.finish(states[-1])
        return states if output_hidden_states else states[-1:]

    def frozen_states(
        self,
        layer: int,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        before: tuple[int, Any] | None = None,
    ) -> Any:
        """What enters the layer of this index where nothing of a prompt stands before it, (B, T, hidden); of an index
        after the last what the backbone gives.

        Args:
            before: the index of an earlier layer, and what enters that one.
        """
        start, hidden = before or (0, None)
        inputs = self._inputs(input_ids, attention_mask, position_ids, frozen_states=hidden)
        if hidden is None:
            hidden = self.first_states(inputs, token_type_ids)
        hidden = self._run(hidden, inputs, range(start, layer), False)[-1]
        return hidden if layer < self.geometry.layers else self.finish(hidden)

    def _inputs(
        self,
        input_ids: Any,
        attention_mask: Any,
        position_ids: Any,
        inputs_embeds: Any = None,
        prefix: Prefix | None = None,
        cache: KeyValueCache | None = None,
        frozen_states: Any = None,
    ) -> PassInputs:
        """What the layers read; its inputs_embeds are the frozen states where there are some."""
        if frozen_states is not None:
            inputs_embeds = ops.cast_like(frozen_states, self.word_embeddings().weight)
        elif inputs_embeds is None:
            inputs_embeds = self.word_embeddings()(input_ids)
        if position_ids is None:
            position_ids = positions(self.config, inputs_embeds, input_ids, shift=0)
        if attention_mask is None and prefix is not None and prefix.mask is not None:
            attention_mask = ops.ones(inputs_embeds.shape[:2], like=inputs_embeds)
        return PassInputs(inputs_embeds, position_ids, attention_mask, prefix, cache)

    def _run(
        self, hidden: Any, inputs: PassInputs, layers: range, all_states: bool, read: int | None = None
    ) -> list[Any]:
        """The states after these layers, and before them where all are asked for; after the last at `read` alone."""
        prefix, cache, batch = inputs.prefix, inputs.cache, hidden.shape[0]
        prefixed = [prefix is not None and prefix.stands_in(index) for index in layers]
        # All before the first layer, which adds to the cache.
        masks = {own: self.make_mask(inputs if own else inputs._replace(prefix=None)) for own in set(prefixed)}
        states = [hidden]
        recompute = self.gradient_checkpointing and self.training and cache is None
        blocks = self.blocks(inputs)
        for index, own in zip(layers, prefixed, strict=True):
            pair = prefix.layer(index, batch) if own else (None, None)
            block_inputs = (states[-1], masks[own], *pair)
            block = blocks[index] if cache is None else partial(blocks[index], cache=cache.layers[index])
            if read is not None and index == layers[-1]:
                block = partial(block, read=read)
            has_gradient = prefix is None or index >= prefix.first_layer
            made = nn.checkpoint(block, *block_inputs) if recompute and has_gradient else block(*block_inputs)
            states = [*states, made] if all_states else [made]
        return states

    def keys_and_values(self, input_ids: Any) -> list[tuple[Any, Any]]:
        """What the attention of every layer reads of a text (1, T), where nothing stands before it: keys and values
        (1, heads_kv, T, head_dim)."""
        cache = self.new_cache()
        self(input_ids, cache=cache)
        return [layer.pair for layer in cache.layers]


def positions(config: dict[str, Any], like: Any, input_ids: Any | None, shift: int) -> Any:
    """Position ids (B, T) as the stock family counts them, `shift` further on.

    Args:
        like: any tensor of shape (B, T, ...).
        input_ids: (B, T); RoBERTa's positions skip padding, which only these show. None counts every position.
    """
    batch, length = like.shape[:2]
    if not family_of(config["model_type"]).positions_follow_padding:
        return ops.expand(ops.reshape(ops.arange(length, like=like) + shift, (1, length)), (batch, length))
    padding = padding_id(config)
    if input_ids is None:
        steps = ops.arange(length, like=like) + (padding + 1 + shift)
        return ops.expand(ops.reshape(steps, (1, length)), (batch, length))
    real = ops.cast(input_ids != padding, "int64")
    return (ops.cumsum(real, axis=1) + shift) * real + padding
