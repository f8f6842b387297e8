"""Jittor operations that prompts, backbones and heads are written in; every driver has the same names.

Where jittor's own operator is slow or inexact on the CPU, kernels.py has a better one; on a GPU, and for other types
than float32, the plain jittor expression runs instead.
"""

import math
from collections.abc import Sequence

from fastprompt.drivers.jittor import kernels
from fastprompt.drivers.jittor.runtime import TURN

import jittor
import numpy
from jittor import Var

no_grad = jittor.no_grad


def tensor(array: numpy.ndarray, like: Var | None = None) -> Var:
    """A Var of `array`'s dtype (int64, float32 or bool); `like` is there for the other frameworks' devices."""
    with TURN, jittor.flag_scope(auto_convert_64_to_32=0):
        return jittor.array(numpy.ascontiguousarray(array)).stop_grad()


def to_numpy(x: Var) -> numpy.ndarray:
    """`x` as an array of its own; bfloat16 comes out as float32."""
    with TURN:
        return x.numpy()


def arange(stop: int, like: Var) -> Var:
    return jittor.arange(stop).int64()


def zeros(shape: Sequence[int], like: Var, dtype: str = "float32") -> Var:
    return jittor.zeros(tuple(shape), dtype)


def ones(shape: Sequence[int], like: Var, dtype: str = "float32") -> Var:
    return jittor.ones(tuple(shape), dtype)


def cast(x: Var, dtype: str) -> Var:
    return x.cast(dtype)


def cast_like(x: Var, like: Var) -> Var:
    return x.cast(like.dtype)


def cat(tensors: Sequence[Var], axis: int) -> Var:
    return jittor.concat(list(tensors), axis)


def take_rows(x: Var, rows: Sequence[int]) -> Var:
    """(N, ...) -> (len(rows), ...): the rows of those indices, in that order."""
    return x[jittor.array(list(rows))]


def reshape(x: Var, shape: Sequence[int]) -> Var:
    return x.reshape(tuple(shape))


def transpose(x: Var, axes: Sequence[int]) -> Var:
    return x.transpose(tuple(axes))


def expand(x: Var, shape: Sequence[int]) -> Var:
    return x.expand(tuple(shape))


def cumsum(x: Var, axis: int) -> Var:
    return jittor.cumsum(x, axis % x.ndim)


def sum(x: Var, axis: int) -> Var:
    return x.sum(axis)


def mean(x: Var) -> Var:
    return x.mean()


def argmax(x: Var, axis: int) -> Var:
    return jittor.argmax(x, axis)[0].int64()


def cos(x: Var) -> Var:
    return x.cos()


def sin(x: Var) -> Var:
    return x.sin()


def softmax(x: Var, axis: int) -> Var:
    return jittor.nn.softmax(x, axis)


class _Unary(jittor.Function):
    """An elementwise kernel and its derivative, which takes x and d_out."""

    def __init__(self, forward: str, backward: str) -> None:
        self.forward, self.backward = forward, backward

    def execute(self, x: Var) -> Var:
        self.x = x
        return kernels.run(self.forward, [x.shape], [x])

    def grad(self, d_out: Var) -> Var:
        return kernels.run(self.backward, [self.x.shape], [self.x, d_out])


def tanh(x: Var) -> Var:
    if kernels.usable(x):
        return _Unary(kernels.TANH, kernels.TANH_GRAD)(x)
    return x.tanh()


def sigmoid(x: Var) -> Var:
    if kernels.usable(x):
        return _Unary(kernels.SIGMOID, kernels.SIGMOID_GRAD)(x)
    return x.sigmoid()


def relu(x: Var) -> Var:
    if kernels.usable(x):
        return _Unary(kernels.RELU, kernels.RELU_GRAD)(x)
    return jittor.nn.relu(x)


def silu(x: Var) -> Var:
    if kernels.usable(x):
        return _Unary(kernels.SILU, kernels.SILU_GRAD)(x)
    return x * x.sigmoid()


def gelu(x: Var) -> Var:
    """Exact, with erf."""
    if kernels.usable(x):
        return _Unary(kernels.GELU, kernels.GELU_GRAD)(x)
    return 0.5 * x * (1 + jittor.erf(x * math.sqrt(0.5)))


def gelu_tanh(x: Var) -> Var:
    if kernels.usable(x):
        return _Unary(kernels.GELU_TANH, kernels.GELU_TANH_GRAD)(x)
    return 0.5 * x * (1 + jittor.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


class _Affine(jittor.Function):
    """x weight^T + bias by oneDNN, reading weight as it lies; what nobody asks for of the gradient is never run."""

    def execute(self, x: Var, weight: Var, bias: Var | None) -> Var:
        self.x, self.weight, self.has_bias = x, weight, bias is not None  # (N, in), (out, in)
        inputs = [x, weight] if bias is None else [x, weight, bias]
        kernel = kernels.LINEAR if bias is None else kernels.LINEAR_BIAS
        return kernels.run(kernel, [(x.shape[0], weight.shape[0])], inputs)

    def grad(self, d_out: Var) -> tuple[Var, Var, Var | None]:
        return (
            kernels.run(kernels.LINEAR_GRAD_X, [self.x.shape], [d_out, self.weight]),
            kernels.run(kernels.LINEAR_GRAD_W, [self.weight.shape], [d_out, self.x]),
            d_out.sum(0) if self.has_bias else None,
        )


def linear(x: Var, weight: Var, bias: Var | None = None) -> Var:
    """x weight^T + bias for x (..., in), weight (out, in), bias (out,)."""
    rows = x.reshape((-1, x.shape[-1]))
    if kernels.usable(x, weight):
        y = _Affine()(rows, weight, bias)
    else:
        y = jittor.nn.matmul_transpose(rows, weight)
        y = y if bias is None else y + bias
    return y.reshape((*tuple(x.shape)[:-1], weight.shape[0]))


class _ByHead(jittor.Function):
    """x weight^T for every head, by oneDNN; jittor's own product of more than two axes is a plain loop."""

    def execute(self, x: Var, weight: Var) -> Var:
        self.x, self.weight = x, weight  # (heads, N, in), (heads, out, in)
        return self._each(kernels.LINEAR, (x.shape[1], weight.shape[1]), x, weight)

    def grad(self, d_out: Var) -> tuple[Var, Var]:
        return (
            self._each(kernels.LINEAR_GRAD_X, tuple(self.x.shape)[1:], d_out, self.weight),
            self._each(kernels.LINEAR_GRAD_W, tuple(self.weight.shape)[1:], d_out, self.x),
        )

    @staticmethod
    def _each(kernel: str, shape: tuple[int, int], first: Var, second: Var) -> Var:
        """(heads, *shape): what the kernel makes of every head's share of both."""
        heads = range(first.shape[0])
        return jittor.stack([kernels.run(kernel, [shape], [first[head], second[head]]) for head in heads])


def linear_by_head(x: Var, weight: Var) -> Var:
    """x weight^T head by head, (B, heads, T, N), for x (B, heads, T, D) and weight (heads, N, D)."""
    batch, heads, length, width = x.shape
    if not kernels.usable(x, weight):
        return jittor.matmul(x, weight.transpose((0, 2, 1)).reshape((1, heads, width, weight.shape[1])))
    rows = x.transpose((1, 0, 2, 3)).reshape((heads, batch * length, width))
    return _ByHead()(rows, weight).reshape((heads, batch, length, weight.shape[1])).transpose((1, 0, 2, 3))


def _dropout_data(p: float) -> dict[str, float]:
    """A kernel's dropout; its seeds come from NumPy's generator, which whatever seeds jittor seeds too."""
    seeds = numpy.random.randint(2**31, size=2) if p > 0 else (0, 0)
    return {"p": p, "seed0": seeds[0], "seed1": seeds[1]}


class _Dropout(jittor.Function):
    def __init__(self, p: float) -> None:
        self.data = _dropout_data(p)

    def execute(self, x: Var) -> Var:
        return kernels.run(kernels.DROPOUT, [x.shape], [x], **self.data)

    def grad(self, d_out: Var) -> Var:
        return kernels.run(kernels.DROPOUT, [d_out.shape], [d_out], **self.data)


def dropout(x: Var, p: float, training: bool) -> Var:
    if not training or p == 0:
        return x
    if p < 1 and kernels.usable(x):
        return _Dropout(p)(x)
    return jittor.nn.dropout(x, p, is_train=True)


def cross_entropy(logits: Var, labels: Var) -> Var:
    """Mean cross entropy of logits (N, C) and class indices (N,) that are not -100; 0 is the mean of none.

    Where torch and paddle refuse an index that is no class, the mean is not finite.
    """
    shifted = logits - logits.detach().max(1, keepdims=True)
    log_sum = shifted.exp().sum(1).log()  # (N,)
    counts = labels != -100
    chosen = jittor.index(logits.shape, 1) == labels.reshape((-1, 1))  # (N, C)
    picked = jittor.ternary(chosen, shifted, jittor.zeros_like(shifted)).sum(1)  # 0 x -inf would be NaN
    weight = counts.cast(logits.dtype)
    known = chosen.cast(logits.dtype).sum(1).maximum(1 - weight)  # 0 for an index that is no class
    return ((log_sum - picked) * weight / known).sum() / weight.sum().maximum(1)


def mse(x: Var, target: Var) -> Var:
    """Mean squared difference of two tensors of one shape."""
    difference = x - target
    return (difference * difference).mean()


def bce_with_logits(logits: Var, target: Var) -> Var:
    """Mean binary cross entropy of logits and targets from 0 to 1, of one shape."""
    largest = relu(logits.detach())  # so that no exponential overflows; it cancels
    return (largest - logits * target + ((-largest).exp() + (logits - largest).exp()).log()).mean()


class _Attention(jittor.Function):
    """`biased`: what is added to the scores has a gradient."""

    def __init__(self, dropout_p: float, biased: bool) -> None:
        self.data, self.biased = {**_dropout_data(dropout_p), "biased": biased}, biased

    def execute(self, query: Var, key: Var, value: Var, mask: Var) -> Var:
        rows = tuple(query.shape)[:3]  # (B, heads, T)
        out, statistics = kernels.run(
            kernels.ATTENTION, [query.shape, (*rows, 2)], [query, key, value, mask], **self.data
        )
        self.saved = [query, key, value, mask, out, statistics]
        return out

    def grad(self, d_out: Var) -> tuple[Var | None, ...]:
        query, key, _, mask = self.saved[:4]
        shapes = [x.shape for x in self.saved[:3]]
        shapes.append((*tuple(query.shape)[:3], key.shape[2]) if self.biased else (1,))
        *found, d_scores = kernels.run(kernels.ATTENTION_GRAD, shapes, [*self.saved, d_out], **self.data)
        if not self.biased:
            return *found, None
        for axis, size in enumerate(mask.shape):
            if size == 1:
                d_scores = d_scores.sum(axis, keepdims=True)
        return *found, d_scores


def attention(
    query: Var,
    key: Var,
    value: Var,
    mask: Var | None,
    dropout_p: float = 0.0,
    training: bool = False,
    bias: Var | None = None,
) -> Var:
    """softmax(Q K^T / sqrt(head_dim) + mask + bias) V.

    query (B, heads, T, head_dim), key and value (B, heads, S, head_dim), mask additive (B or 1, heads or 1, 1 or T, S)
    or None. So is bias, which has a gradient, where a mask has none.
    Returns (B, heads, T, head_dim).
    """
    dropout_p = dropout_p if training else 0.0
    if dropout_p < 1 and kernels.usable(query, key, value):
        if mask is None:
            mask = jittor.zeros((1, 1, 1, key.shape[2]))
        added = mask.float32().stop_grad()
        biased = bias is not None and not bias.is_stop_grad()
        if bias is not None:
            added = added + bias.float32()
        return _Attention(dropout_p, biased)(query, key, value, added if biased else added.stop_grad())
    scores = jittor.matmul(query, key.transpose((0, 1, 3, 2))) / math.sqrt(query.shape[-1])  # (B, heads, T, S)
    for added in (mask, bias):
        if added is not None:
            scores = scores + added
    return jittor.matmul(dropout(softmax(scores, -1), dropout_p, training), value)


def gradients(loss: Var, parameters: Sequence[Var], keep_graph: bool = False) -> list[numpy.ndarray]:
    """d loss / d parameter for each parameter; zeros where the loss does not depend on it.

    Args:
        keep_graph: `loss` is to be differentiated again; jittor always keeps it.
    """
    return [g.numpy() for g in jittor.grad(loss, list(parameters))]
