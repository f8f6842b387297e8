"""Attention on torch by the way that is fastest where it runs."""

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_is_faster(query: Tensor, key: Tensor, dropout_p: float) -> bool:
    """Whether two products and a softmax take less time than torch's own kernels.

    In bfloat16 on a CPU the backward pass of its flash kernel is five to ten times slower than that of the products;
    with dropout, which that kernel does not take, torch computes in float32.
    """
    if query.device.type != "cpu" or query.dtype is not torch.bfloat16:
        return False
    return dropout_p > 0 or (torch.is_grad_enabled() and (query.requires_grad or key.requires_grad))


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, scale: float
) -> Tensor:
    """softmax(scale Q K^T + mask) V, dropout on the softmax.

    query (B, heads, T, head_dim), key and value (B, heads, S, head_dim); mask broadcasts to (B, heads, T, S), additive
    or bool, True for what is seen. Returns (B, heads, T, head_dim).
    """
    return weighted_mean(torch.matmul(query * scale, key.transpose(-1, -2)), value, mask, dropout_p)


def weighted_mean(scores: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float) -> Tensor:
    """What `plain_attention` makes of its scores (B, heads, T, S)."""
    if mask is not None and mask.dtype is torch.bool:
        mask = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill(~mask, torch.finfo(scores.dtype).min)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    attention = F.dropout(torch.softmax(scores, dim=-1), dropout_p, training=dropout_p > 0)
    return torch.matmul(attention, value)
