"""The attention function that stock transformers models call: a prefix before keys and values, then the stock one.

`past_key_values` is no way in: half of the families never take it, and gradient checkpointing drops it. Instead one
function is registered in transformers' AttentionInterface, with its mask function beside it (without one the mask is
None and padding is attended to). Families that do not call it are a matter of attention_patches.py.
"""

from typing import Any

from fastprompt.drivers.torch.attention import plain_attention, plain_is_faster, weighted_mean
from fastprompt.drivers.torch.stock.forward_pass import AttentionCall, part_of, recording
from fastprompt.errors import CheckpointError

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "fastprompt"


def prefix_attention(
    module: nn.Module,
    query: torch.Tensor,  # (B, heads, T, head_dim)
    key: torch.Tensor,  # (B, heads_kv, T, head_dim)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # (B, 1, T, T), bool or additive
    **options: Any,
) -> tuple[torch.Tensor, None]:
    if options.get("s_aux") is not None:
        raise CheckpointError(
            f"{module.config.model_type} has learned attention sinks, which fastprompt's attention lacks; take another "
            f"model."
        )
    if recorded := recording():
        recorded.calls.append(AttentionCall(module, key.shape[1], key.shape[3], query.shape[2], (key, value)))
    elif (part := part_of(module)) and (prefix := part.layer(module, query.shape[0])):
        if attention_mask is None and _is_causal(module, options) and query.shape[2] > 1:
            # Left to is_causal, the corner of a mask that is wider than high would be the wrong one.
            attention_mask = part.causal(query)
        attention_mask = part.widened(attention_mask, prefix, key)
        if (bias := options.get("position_bias")) is not None:  # T5's, of distances
            before = bias.new_zeros(1) if prefix.bias is None else prefix.bias
            before = before.expand(*bias.shape[:3], prefix.key.shape[2])
            options["position_bias"] = torch.cat([before, bias], dim=-1)
        key = torch.cat([prefix.key.to(key.dtype), key], dim=2)
        value = torch.cat([prefix.value.to(value.dtype), value], dim=2)
    causal = attention_mask is None and _is_causal(module, options) and query.shape[2] > 1
    dropout_p = options.get("dropout", 0.0)
    if options.get("softcap") is not None:  # Gemma-2's, which torch's own kernels lack
        return _capped_attention(query, key, value, attention_mask, causal, options), None
    if causal or options.get("position_bias") is not None or not plain_is_faster(query, key, dropout_p):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    key, value = _for_every_head(query, key, value)
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    attended = plain_attention(query, key, value, attention_mask, dropout_p, scale)
    return attended.transpose(1, 2).contiguous(), None


def _for_every_head(query: torch.Tensor, *pair: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Keys and values (B, heads_kv, S, head_dim) -> (B, heads, S, head_dim)."""
    return tuple(x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in pair)


def _capped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    options: dict[str, Any],
) -> torch.Tensor:
    """Attention whose scores are brought between -softcap and softcap by a tanh, before the mask: (B, T, heads,
    head_dim)."""
    key, value = _for_every_head(query, key, value)
    if causal:
        tokens, keys = query.shape[2], key.shape[2]
        mask = torch.ones((tokens, keys), dtype=torch.bool, device=query.device).tril(keys - tokens)
    cap, scale = options["softcap"], options.get("scaling") or query.shape[-1] ** -0.5
    scores = cap * torch.tanh(torch.matmul(query * scale, key.transpose(-1, -2)) / cap)
    return weighted_mean(scores, value, mask, options.get("dropout", 0.0)).transpose(1, 2).contiguous()


def _is_causal(module: nn.Module, options: dict[str, Any]) -> bool:
    is_causal = options.get("is_causal")
    return getattr(module, "is_causal", True) if is_causal is None else is_causal


AttentionInterface.register(ATTENTION, prefix_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
