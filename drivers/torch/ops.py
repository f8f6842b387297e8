"""PyTorch operations that prompts, backbones and heads are written in; every driver has the same names."""

from collections.abc import Sequence

from fastprompt.drivers.torch.attention import plain_attention, plain_is_faster

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

tanh, sigmoid, relu, silu = torch.tanh, torch.sigmoid, F.relu, F.silu
no_grad = torch.no_grad


def tensor(array: numpy.ndarray, like: Tensor | None = None) -> Tensor:
    """A tensor of `array`'s dtype (int64, float32 or bool), on the device of `like`."""
    return torch.as_tensor(array, device=None if like is None else like.device)


def to_numpy(x: Tensor) -> numpy.ndarray:
    """`x` as an array of its own; bfloat16 comes out as float32."""
    x = x.detach().cpu()
    return (x.float() if x.dtype is torch.bfloat16 else x).numpy().copy()


def arange(stop: int, like: Tensor) -> Tensor:
    return torch.arange(stop, device=like.device)  # int64


def zeros(shape: Sequence[int], like: Tensor, dtype: str = "float32") -> Tensor:
    return torch.zeros(shape, dtype=getattr(torch, dtype), device=like.device)


def ones(shape: Sequence[int], like: Tensor, dtype: str = "float32") -> Tensor:
    return torch.ones(shape, dtype=getattr(torch, dtype), device=like.device)


def cast(x: Tensor, dtype: str) -> Tensor:
    return x.to(getattr(torch, dtype))


def cast_like(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


def cat(tensors: Sequence[Tensor], axis: int) -> Tensor:
    return torch.cat(tuple(tensors), dim=axis)


def take_rows(x: Tensor, rows: Sequence[int]) -> Tensor:
    """(N, ...) -> (len(rows), ...): the rows of those indices, in that order."""
    return x[list(rows)]


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(tuple(shape))


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    return x.permute(tuple(axes))


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(tuple(shape))


def cumsum(x: Tensor, axis: int) -> Tensor:
    return torch.cumsum(x, dim=axis)


def sum(x: Tensor, axis: int) -> Tensor:
    return x.sum(dim=axis)


def mean(x: Tensor) -> Tensor:
    return x.mean()


def argmax(x: Tensor, axis: int) -> Tensor:
    return x.argmax(dim=axis)


def cos(x: Tensor) -> Tensor:
    return torch.cos(x)


def sin(x: Tensor) -> Tensor:
    return torch.sin(x)


def softmax(x: Tensor, axis: int) -> Tensor:
    return torch.softmax(x, dim=axis)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x)  # exact, with erf


def gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias for x (..., in), weight (out, in), bias (out,)."""
    return F.linear(x, weight, bias)


def linear_by_head(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T head by head, (B, heads, T, N), for x (B, heads, T, D) and weight (heads, N, D)."""
    return torch.matmul(x, weight.transpose(-1, -2))


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    return F.dropout(x, p, training)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of logits (N, C) and class indices (N,) that are not -100; 0 is the mean of none."""
    return F.cross_entropy(logits, labels, reduction="sum") / (labels != -100).sum().clamp(min=1)


def mse(x: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of two tensors of one shape."""
    return F.mse_loss(x, target)


def bce_with_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross entropy of logits and targets from 0 to 1, of one shape."""
    return F.binary_cross_entropy_with_logits(logits, target)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float = 0.0,
    training: bool = False,
    bias: Tensor | None = None,
) -> Tensor:
    """softmax(Q K^T / sqrt(head_dim) + mask + bias) V.

    query (B, heads, T, head_dim), key and value (B, heads, S, head_dim), mask additive (B or 1, heads or 1, 1 or T, S)
    or None. So is bias, which has a gradient, where a mask has none.
    Returns (B, heads, T, head_dim).
    """
    dropout_p = dropout_p if training else 0.0
    if bias is not None:
        mask = bias if mask is None else mask + bias
    if plain_is_faster(query, key, dropout_p):
        return plain_attention(query, key, value, mask, dropout_p, query.shape[-1] ** -0.5)
    return F.scaled_dot_product_attention(query, key, value, mask, dropout_p)


def gradients(loss: Tensor, parameters: Sequence[Tensor], keep_graph: bool = False) -> list[numpy.ndarray]:
    """d loss / d parameter for each parameter; zeros where the loss does not depend on it.

    Args:
        keep_graph: `loss` is to be differentiated again.
    """
    found = torch.autograd.grad(loss, parameters, retain_graph=keep_graph, allow_unused=True)
    return [
        numpy.zeros(tuple(p.shape), "float32") if g is None else to_numpy(g)
        for p, g in zip(parameters, found, strict=True)
    ]
