"""DeBERTa (He et al., 2021, arXiv:2006.03654), portable: BERT's layers with disentangled attention, in which the score
of a query and a key is the sum of three products: content with content, the query's content with the distance between
the two (c2p), and the key's content with it (p2c).

A deep prefix stands at no position: its scores are those of content alone, at the scale of the sum of all, as on torch
(see drivers/torch/stock/attention_patches.py). A padded query sees the prefix alone, and every token where there is
none, as the stock model has it.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

from fastprompt.backbones.bert import BertOutput, RelativeLayer
from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import PassInputs, PortableBackbone, attend
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import nn, ops
from fastprompt.pretrained.geometry import padding_id

import numpy

_DEFAULTS = {"layer_norm_eps": 1e-7, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def position_terms(config: dict[str, Any]) -> list[str]:
    """The products with positions that config.json asks for, in a list or as "c2p|p2c"."""
    asked = config.get("pos_att_type") or []
    return [term.strip() for term in asked.lower().split("|")] if isinstance(asked, str) else list(asked)


def furthest_position(config: dict[str, Any]) -> int:
    """How many distances to either side differ at most."""
    furthest = config.get("max_relative_positions", -1)
    return furthest if furthest > 0 else config["max_position_embeddings"]


@lru_cache(maxsize=64)
def rows_of_distances(length: int, span: int, bucket: Callable | None) -> tuple[numpy.ndarray, list[int]]:
    """Which rows of a table of 2 * span distances a text of `length` tokens reads: each once, and for the distances of
    query and key from -(length - 1) to length - 1 the index among those.

    Args:
        bucket: distances -> what stands for them; None: themselves.
    """
    distances = numpy.arange(1 - length, length)
    rows = (distances if bucket is None else bucket(distances)) + span
    rows, index = numpy.unique(numpy.clip(rows, 0, 2 * span - 1), return_inverse=True)
    return rows, index.tolist()


class Relative(NamedTuple):
    """What every layer's attention reads in one pass, beside states, mask and prefix.

    Attributes:
        rows: (R, hidden), the embeddings of the distances in the texts, each once; None: the model has none.
        index: for the distances of query and key from -(T - 1) to T - 1 the row of each.
        real: (B, 1, T, 1), 1 for real tokens; None: all are.
    """

    rows: Any | None
    index: list[int]
    real: Any | None


def at_distances(products: Any) -> Any:
    """(B, heads, T, 2 T - 1) -> (B, heads, T, T): in row i the products with what is i - j places before it, where they
    stand from T - 1 places before to T - 1 after it.

    Row i is row 0 moved by i places, so that of the rows one after the other every (2 T - 2)-th entry lies in a column.
    """
    batch, heads, length, _ = products.shape
    if length == 1:
        return products
    end = length * (2 * length - 1) - 1
    flat = ops.reshape(products, (batch, heads, end + 1))[:, :, length - 1 : end]
    return ops.reshape(flat, (batch, heads, length, 2 * length - 2))[:, :, :, :length]


class DebertaEmbeddings(nn.Module):
    def __init__(self, config: dict[str, Any], width: int) -> None:
        super().__init__()
        hidden, kinds = config["hidden_size"], config.get("type_vocab_size", 0)
        self.word_embeddings = nn.Embedding(config["vocab_size"], width, padding_idx=padding_id(config))
        absolute = config.get("position_biased_input", True)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width) if absolute else None
        self.token_type_embeddings = nn.Embedding(kinds, width) if kinds else None
        self.embed_proj = nn.Linear(width, hidden, bias=False) if width != hidden else None
        self.LayerNorm = nn.LayerNorm(hidden, eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, embedded: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        if self.position_embeddings is not None:
            embedded = embedded + self.position_embeddings(position_ids)
        if self.token_type_embeddings is not None:
            kinds = position_ids * 0 if token_type_ids is None else token_type_ids
            embedded = embedded + self.token_type_embeddings(kinds)
        if self.embed_proj is not None:
            embedded = self.embed_proj(embedded)
        return self.dropout(self.LayerNorm(embedded))


class DisentangledSelfAttention(nn.Module):
    """What both versions share; each projects states and distances in its own way.

    Args:
        terms: of how many products a score is the sum, content's among them.
    """

    def __init__(self, config: dict[str, Any], terms: int) -> None:
        super().__init__()
        self.heads, self.terms, self.asked = config["num_attention_heads"], terms, position_terms(config)
        self.dropout_p = config["attention_probs_dropout_prob"]
        self.pos_dropout = nn.Dropout(config["hidden_dropout_prob"])

    def project(self, hidden: Any) -> tuple[Any, Any, Any]:
        """(B, T, hidden) -> query, key and value, (B, heads, T, head_dim) each."""
        raise NotImplementedError

    def project_keys(self, rows: Any) -> Any:
        """(R, hidden) of distances -> (R, hidden), to multiply with queries; called for c2p alone."""
        raise NotImplementedError

    def project_queries(self, rows: Any) -> Any:
        """(R, hidden) of distances -> (R, hidden), to multiply with keys; called for p2c alone."""
        raise NotImplementedError

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        prefix: tuple[Any, Any] | None,
        relative: Relative,
        cache: LayerCache | None,
    ) -> Any:
        query, key, value = self.project(hidden)
        query = query * self.terms**-0.5
        bias = None if relative.rows is None else self.position_bias(query, key, relative)
        if prefix is None and relative.real is not None:
            # A padded query sees all tokens alike, padding too: its scores are 0, and no gradient goes through them.
            query = query * relative.real
            bias = None if bias is None else bias * relative.real
        return attend(query, key, value, mask, prefix, cache, self.dropout_p, self.training, bias)

    def position_bias(self, query: Any, key: Any, relative: Relative) -> Any | None:
        """What the distance of query and key adds to their score, (B, heads, T, T); None: nothing.

        Args:
            query: scaled already by the number of products.
        """
        rows, scale, found = self.pos_dropout(relative.rows), query.shape[-1] ** -0.5, None
        if "c2p" in self.asked:
            keys = self._by_head(self.project_keys(rows), relative.index[::-1])
            found = at_distances(ops.linear_by_head(query, keys * scale))
        if "p2c" in self.asked:
            queries = self._by_head(self.project_queries(rows), relative.index) * (scale * self.terms**-0.5)
            products = ops.transpose(at_distances(ops.linear_by_head(key, queries)), (0, 1, 3, 2))
            found = products if found is None else found + products
        return found

    def _by_head(self, rows: Any, index: list[int]) -> Any:
        """(R, hidden) -> (heads, len(index), head_dim)"""
        if index != list(range(rows.shape[0])):
            rows = ops.take_rows(rows, index)
        rows = ops.reshape(rows, (rows.shape[0], self.heads, rows.shape[1] // self.heads))
        return ops.transpose(rows, (1, 0, 2))


class DebertaSelfAttention(DisentangledSelfAttention):
    """The first version's: one matrix for query, key and value, biases for the first and the last."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, terms=1 + len(position_terms(config)))
        if config.get("talking_head"):
            raise CheckpointError("config.json asks for talking heads (talking_head), which fastprompt does not know.")
        hidden = config["hidden_size"]
        self.in_proj = nn.Linear(hidden, 3 * hidden, bias=False)
        self.q_bias, self.v_bias = nn.parameter((hidden,)), nn.parameter((hidden,))
        if config.get("relative_attention") and "c2p" in self.asked:
            self.pos_proj = nn.Linear(hidden, hidden, bias=False)
        if config.get("relative_attention") and "p2c" in self.asked:
            self.pos_q_proj = nn.Linear(hidden, hidden)

    def project(self, hidden: Any) -> tuple[Any, Any, Any]:
        batch, length, width = hidden.shape
        fused = ops.reshape(self.in_proj(hidden), (batch, length, self.heads, 3, width // self.heads))
        fused = ops.transpose(fused, (3, 0, 2, 1, 4))  # (3, B, heads, T, head_dim)
        query_bias, value_bias = (
            ops.reshape(bias, (1, self.heads, 1, width // self.heads)) for bias in (self.q_bias, self.v_bias)
        )
        return fused[0] + query_bias, fused[1], fused[2] + value_bias

    def project_keys(self, rows: Any) -> Any:
        return self.pos_proj(rows)

    def project_queries(self, rows: Any) -> Any:
        return self.pos_q_proj(rows)


class DebertaAttention(nn.Module):
    def __init__(self, config: dict[str, Any], attention: DisentangledSelfAttention) -> None:
        super().__init__()
        self.self = attention
        self.output = BertOutput(config, config["hidden_size"])

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        prefix: tuple[Any, Any] | None,
        relative: Relative,
        cache: LayerCache | None,
    ) -> Any:
        return self.output(self.self(hidden, mask, prefix, relative, cache), hidden)


class DebertaEncoder(nn.Module):
    """The layers, and the embeddings of the distances that they share."""

    attention: type[DisentangledSelfAttention] = DebertaSelfAttention

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        layers = range(config["num_hidden_layers"])
        self.layer = nn.ModuleList(
            [RelativeLayer(config, DebertaAttention(config, self.attention(config))) for _ in layers]
        )
        self.span, self.bucket = self.distances(config)
        self.relative = config.get("relative_attention", False)
        if self.relative:
            self.rel_embeddings = nn.Embedding(2 * self.span, config["hidden_size"])

    def distances(self, config: dict[str, Any]) -> tuple[int, Callable | None]:
        """How many rows the table of distances has to either side, and see `rows_of_distances`."""
        return furthest_position(config), None

    def embed_distances(self, length: int, like: Any) -> tuple[Any | None, list[int]]:
        """`Relative`'s rows and index for texts of this length."""
        if not self.relative:
            return None, []
        rows, index = rows_of_distances(length, self.span, self.bucket)
        return self.rel_embeddings(ops.tensor(rows, like=like)), index


class Backbone(PortableBackbone):
    encoder_class: type[DebertaEncoder] = DebertaEncoder

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        config = {**_DEFAULTS, **config}
        self.embeddings = DebertaEmbeddings(config, self.geometry.embedding_size)
        self.encoder = self.encoder_class(config)

    def word_embeddings(self) -> Any:
        return self.embeddings.word_embeddings

    def _inputs(self, input_ids: Any, attention_mask: Any, position_ids: Any, *others: Any, **named: Any) -> PassInputs:
        if position_ids is not None and self.embeddings.position_embeddings is None:
            kind = self.config["model_type"]
            raise ConfigError(f"{kind} takes no position_ids: shifted positions cannot be had.")
        return super()._inputs(input_ids, attention_mask, position_ids, *others, **named)

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return self.embeddings(inputs_embeds, token_type_ids, position_ids)

    def first_states(self, inputs: PassInputs, token_type_ids: Any | None) -> Any:
        """As every backbone's, and 0 for padding."""
        states = super().first_states(inputs, token_type_ids)
        real = real_tokens(inputs)
        return states if real is None else states * ops.cast_like(real, states)

    def make_mask(self, inputs: PassInputs) -> Any | None:
        """As every backbone's, (B, 1, T, P + T), but padded queries see the prefix alone, or all tokens without one."""
        real, prefix = real_tokens(inputs), inputs.prefix
        if real is None:
            return None
        batch, length, _ = real.shape
        queries, keys = ops.reshape(real, (batch, 1, length, 1)), ops.reshape(real, (batch, 1, 1, length))
        if prefix is None:
            return queries * (1.0 - keys) * -1e9
        before = super().make_mask(inputs)[:, :, :, : prefix.length]
        before = ops.expand(before, (batch, 1, length, prefix.length))
        return ops.cat([before, (1.0 - queries * keys) * -1e9], axis=3)

    def layer_modules(self) -> list[Any]:
        return list(self.encoder.layer)

    def blocks(self, inputs: PassInputs) -> list[Callable]:
        like, real = inputs.inputs_embeds, real_tokens(inputs)
        rows, index = self.encoder.embed_distances(like.shape[1], like)
        if real is not None:
            real = ops.cast_like(ops.reshape(real, (real.shape[0], 1, real.shape[1], 1)), like)
        relative = Relative(rows, index, real)
        return [partial(layer, distances=relative) for layer in self.encoder.layer]


def real_tokens(inputs: PassInputs) -> Any | None:
    """(B, T, 1), 1.0 for real tokens and 0.0 for padding; None: all are real."""
    if inputs.attention_mask is None:
        return None
    return ops.reshape(ops.cast(inputs.attention_mask, "float32"), (*inputs.attention_mask.shape, 1))
