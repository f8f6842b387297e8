"""Deep prefixes for families that compute attention by themselves: DeBERTa, DeBERTa-v2 and -v3, MPNet and BLOOM.

Their self-attention is no call of transformers' AttentionInterface, so each such module of a loaded model gets a
subclass of its own class. Without a prefix that is the stock forward.

A prefix stands at no position. These families add to the scores what the distance between query and key is worth, MPNet
a learned bias, DeBERTa products of content and position, BLOOM a slope times it; to a prefix there is no distance, so
its scores are those of content alone, at the family's own scale (DeBERTa's is 1 / sqrt(3 head_dim) where it adds two
such products). A constant there, such as MPNet's bias of a far-off key, would only say how much a prefix weighs, which
its keys learn. BLOOM knows positioned prefixes too, see `fastprompt.backbones.prefix.Prefix`.
"""

import functools
from typing import Any

from fastprompt.backbones.bloom import alibi_slopes
from fastprompt.drivers.torch.stock.forward_pass import AttentionCall, LayerPrefix, RecordingPass, part_of, recording

import torch
import torch.nn.functional as F
from transformers import Cache, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


class _PrefixAttention:
    """What comes before the stock class of a self-attention module; a family fills in `with_prefix`."""

    def forward(self, hidden_states: torch.Tensor, *inputs: Any, **options: Any) -> tuple[torch.Tensor, Any]:
        if (part := part_of(self)) and (prefix := part.layer(self, len(hidden_states))):
            return self.with_prefix(prefix, hidden_states, *inputs, **options), None
        stock = super().forward(hidden_states, *inputs, **options)
        if recorded := recording():
            self._record(recorded, stock[0], hidden_states, *inputs, **options)
        return stock

    def _record(
        self, recorded: RecordingPass, stock: torch.Tensor, hidden_states: torch.Tensor, *inputs: Any, **options: Any
    ) -> None:
        """Notes the call if a prefix of length 0 gives the stock output: a later transformers may compute otherwise."""
        empty = hidden_states.new_empty(len(hidden_states), self.num_attention_heads, 0, self.attention_head_size)
        try:
            ours = self.with_prefix(LayerPrefix(empty, empty), hidden_states, *inputs, **options)
            if (ours - stock).abs().max() <= 1e-3 * stock.abs().max():
                recorded.calls.append(AttentionCall(self, self.num_attention_heads, self.attention_head_size))
        except (AttributeError, TypeError, RuntimeError):  # other members, arguments or shapes than are known here
            pass

    def with_prefix(
        self, prefix: LayerPrefix, hidden_states: torch.Tensor, *inputs: Any, **options: Any
    ) -> torch.Tensor:
        """The stock forward's first output, (B, T, hidden), with `prefix` before the keys and values."""
        raise NotImplementedError

    def attend(
        self,
        prefix: LayerPrefix,
        query: torch.Tensor,  # (B, heads, T, head_dim)
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor,  # (B or 1, heads or 1, T, T), added to the scores of real tokens
        scale: float,
        prefix_bias: torch.Tensor | None = None,  # (B or 1, heads or 1, T, P), added to those of the prefix; None: 0
    ) -> torch.Tensor:
        key = torch.cat([prefix.key.to(key.dtype), key], dim=2)
        value = torch.cat([prefix.value.to(key.dtype), value], dim=2)
        tokens, unseen = bias.shape[-1], prefix.unseen(bias.dtype)
        before = bias.new_zeros(1) if prefix_bias is None else prefix_bias  # 0 for the prefix, which all see
        bias = torch.cat([before.expand(*bias.shape[:3], prefix.key.shape[2]), bias], dim=-1)
        if unseen is not None:  # but for what a shorter prefix of this row lacks
            bias = bias + F.pad(unseen, (0, tokens))
        scores = torch.matmul(query * scale, key.transpose(-1, -2)) + bias  # (B, heads, T, P + T)
        attended = torch.matmul(self.dropout(torch.softmax(scores, dim=-1)), value)
        return attended.transpose(1, 2).flatten(2)  # (B, T, heads * head_dim)


class _MPNetAttention(_PrefixAttention):
    def with_prefix(
        self,
        prefix: LayerPrefix,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,  # additive (B, 1, 1 or T, T)
        position_bias: torch.Tensor | None = None,  # (B, heads, T, T)
        output_attentions: bool = False,
        **_: Any,
    ) -> torch.Tensor:
        shape = (*hidden_states.shape[:2], self.num_attention_heads, self.attention_head_size)
        query, key, value = (layer(hidden_states).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        bias = position_bias if attention_mask is None else position_bias + attention_mask
        return self.o(self.attend(prefix, query, key, value, bias, self.attention_head_size**-0.5))


class _DebertaAttention(_PrefixAttention):
    def with_prefix(
        self,
        prefix: LayerPrefix,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,  # (B, 1, T, T), 1 where query and key are real
        output_attentions: bool = False,
        query_states: None = None,  # the stock model never gives any
        relative_pos: torch.Tensor | None = None,
        rel_embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        query, key, value = self.transpose_for_scores(self.in_proj(hidden_states)).chunk(3, dim=-1)
        query = query + self.transpose_for_scores(self.q_bias[None, None, :])
        value = value + self.transpose_for_scores(self.v_bias[None, None, :])
        terms = 1 + len(self.pos_att_type)
        scale = (self.attention_head_size * terms) ** -0.5
        bias = _mask_bias(attention_mask, query.dtype)
        if self.relative_attention:
            embeddings = self.pos_dropout(rel_embeddings)
            bias = bias + self.disentangled_att_bias(query * scale, key, relative_pos, embeddings, terms)
        return self.attend(prefix, query, key, value, bias, scale)


class _DebertaV2Attention(_PrefixAttention):
    def with_prefix(
        self,
        prefix: LayerPrefix,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        output_attentions: bool = False,
        query_states: None = None,
        relative_pos: torch.Tensor | None = None,
        rel_embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        heads = self.num_attention_heads
        projections = (self.query_proj, self.key_proj, self.value_proj)
        flat = [self.transpose_for_scores(layer(hidden_states), heads) for layer in projections]  # (B * heads, T, ...)
        query, key, value = (x.unflatten(0, (-1, heads)) for x in flat)
        terms = 1 + ("c2p" in self.pos_att_type) + ("p2c" in self.pos_att_type)
        bias = _mask_bias(attention_mask, query.dtype)
        if self.relative_attention and terms > 1:
            embeddings = self.pos_dropout(rel_embeddings)
            scores = self.disentangled_attention_bias(flat[0], flat[1], relative_pos, embeddings, terms)
            bias = bias + scores.unflatten(0, (-1, heads))
        return self.attend(prefix, query, key, value, bias, (self.attention_head_size * terms) ** -0.5)


class _BloomAttention(_PrefixAttention):
    num_attention_heads = property(lambda self: self.num_heads)
    attention_head_size = property(lambda self: self.head_dim)
    dropout = property(lambda self: self.attention_dropout)

    def with_prefix(
        self,
        prefix: LayerPrefix,
        hidden_states: torch.Tensor,
        residual: torch.Tensor,  # (B, T, hidden)
        alibi: torch.Tensor,  # (B * heads, 1, S): a head's slope times where a token stands, counted from 0
        attention_mask: torch.Tensor | None,  # additive (B, 1, T, S)
        layer_past: Cache | None = None,
        **_: Any,
    ) -> torch.Tensor:
        query, key, value = self._reshape(self.query_key_value(hidden_states))  # (B, heads, T, head_dim)
        if layer_past is not None:
            key, value = layer_past.update(key, value, self.layer_idx)
        keys = alibi.unflatten(0, (-1, self.num_heads))  # (B, heads, 1, S)
        queries = keys[..., -query.shape[2] :].transpose(2, 3)  # (B, heads, T, 1)
        bias = keys - queries if attention_mask is None else keys - queries + attention_mask
        prefix_bias = None
        if prefix.has_positions:
            length = prefix.key.shape[2]
            slopes = torch.from_numpy(alibi_slopes(self.num_heads)).to(alibi).view(-1, 1, 1)
            prefix_bias = slopes * torch.arange(-length, 0, device=alibi.device) - queries  # (B, heads, T, P)
        attended = self.dense(self.attend(prefix, query, key, value, bias, self.inv_norm_factor, prefix_bias))
        return residual + F.dropout(attended, self.hidden_dropout, self.training)


def _mask_bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask.bool(), torch.finfo(dtype).min)


PATCHES: dict[str, dict[str, type]] = {  # model_type: {stock class: what comes before it}
    "mpnet": {"MPNetSelfAttention": _MPNetAttention, "MPNetLayer": GradientCheckpointingLayer},  # it has none itself
    "deberta": {"DisentangledSelfAttention": _DebertaAttention},
    "deberta-v2": {"DisentangledSelfAttention": _DebertaV2Attention},
    "bloom": {"BloomAttention": _BloomAttention},
}


def patch_attention(model: PreTrainedModel) -> None:
    """Make `model`'s own self-attention take prefixes, where its family is one of PATCHES."""
    if model.config.model_type not in PATCHES:
        return
    model.config._attn_implementation = "eager"  # an additive mask, or none is made
    patches = PATCHES[model.config.model_type]
    for module in model.modules():
        if first := patches.get(type(module).__name__):
            module.__class__ = _with_first_base(first, type(module))
    if GradientCheckpointingLayer in patches.values():
        model.supports_gradient_checkpointing = True


@functools.cache
def _with_first_base(first: type, stock: type) -> type:
    return type(stock.__name__, (first, stock), {})
