"""PaddlePaddle operations that prompts, backbones and heads are written in; every driver has the same names.

On the CPU several of paddle's kernels run on one thread: broadcasts, row sums, random numbers. Where it shows in a
training step, the same result is put together from kernels that MKL runs on all cores.
"""

import math
from collections.abc import Sequence

from fastprompt.drivers.paddle import runtime

import numpy
import paddle
import paddle.nn.functional as F
from paddle import Tensor

runtime.configure()

tanh, sigmoid, relu = paddle.tanh, F.sigmoid, F.relu
no_grad = paddle.no_grad


def tensor(array: numpy.ndarray, like: Tensor | None = None) -> Tensor:
    """A tensor of `array`'s dtype (int64, float32 or bool), on the device of `like`."""
    return paddle.to_tensor(array, place=None if like is None else like.place)


def to_numpy(x: Tensor) -> numpy.ndarray:
    """`x` as an array of its own; bfloat16 comes out as float32."""
    x = x.detach()
    return (x.astype("float32") if x.dtype == paddle.bfloat16 else x).numpy()


def arange(stop: int, like: Tensor) -> Tensor:
    return paddle.arange(stop, dtype="int64")


def zeros(shape: Sequence[int], like: Tensor, dtype: str = "float32") -> Tensor:
    return paddle.zeros(list(shape), dtype=dtype)


def ones(shape: Sequence[int], like: Tensor, dtype: str = "float32") -> Tensor:
    return paddle.ones(list(shape), dtype=dtype)


def cast(x: Tensor, dtype: str) -> Tensor:
    return x.astype(dtype)


def cast_like(x: Tensor, like: Tensor) -> Tensor:
    return x.astype(like.dtype)


def cat(tensors: Sequence[Tensor], axis: int) -> Tensor:
    return paddle.concat(list(tensors), axis=axis)


def take_rows(x: Tensor, rows: Sequence[int]) -> Tensor:
    """(N, ...) -> (len(rows), ...): the rows of those indices, in that order."""
    return paddle.index_select(x, paddle.to_tensor(rows, dtype="int64", place=x.place))


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    return paddle.reshape(x, list(shape))


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    return paddle.transpose(x, list(axes))


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    return paddle.expand(x, list(shape))


def cumsum(x: Tensor, axis: int) -> Tensor:
    return paddle.cumsum(x.astype("int64") if x.dtype == paddle.bool else x, axis=axis)


def sum(x: Tensor, axis: int) -> Tensor:
    return paddle.sum(x, axis=axis)


def mean(x: Tensor) -> Tensor:
    return paddle.mean(x)


def argmax(x: Tensor, axis: int) -> Tensor:
    return paddle.argmax(x, axis=axis)


def silu(x: Tensor) -> Tensor:
    return x * F.sigmoid(x)  # the gradient of paddle's own (3.3.1) is NaN below -88


def cos(x: Tensor) -> Tensor:
    return paddle.cos(x)


def sin(x: Tensor) -> Tensor:
    return paddle.sin(x)


def softmax(x: Tensor, axis: int) -> Tensor:
    return F.softmax(x, axis=axis)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x)  # exact, with erf


def gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate=True)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias for x (..., in), weight (out, in), bias (out,)."""
    y = paddle.matmul(x, weight, transpose_y=True)
    if bias is None:
        return y
    return y + (repeat_rows(bias, y.shape[:-1]) if on_cpu(y) else bias)


def linear_by_head(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T head by head, (B, heads, T, N), for x (B, heads, T, D) and weight (heads, N, D)."""
    return paddle.matmul(x, weight.unsqueeze(0), transpose_y=True)  # of unequal ranks the gradient fails (3.3.1)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    if p == 0 or not training:
        return x
    return x * _dropout_mask(x.shape, p) if on_cpu(x) and p < 1 else F.dropout(x, p)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of logits (N, C) and class indices (N,) that are not -100; 0 is the mean of none."""
    counted = (labels != -100).astype(logits.dtype).sum().clip(min=1)
    return F.cross_entropy(logits, labels, reduction="sum") / counted


def mse(x: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of two tensors of one shape."""
    return F.mse_loss(x, target)


def bce_with_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross entropy of logits and targets from 0 to 1, of one shape."""
    # Paddle's own (3.3.1) has the gradient of relu at 0 in it: -target there, where 1/2 - target is right.
    largest = F.relu(logits.detach())  # so that no exponential overflows; it cancels
    return (largest - logits * target + (paddle.exp(-largest) + paddle.exp(logits - largest)).log()).mean()


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
    scores = paddle.matmul(query * (query.shape[-1] ** -0.5), key, transpose_y=True)  # (B, heads, T, S)
    if mask is not None:
        scores = scores + (_expand_mask(mask, scores.shape) if on_cpu(scores) else mask)
    if bias is not None:
        scores = scores + bias
    return paddle.matmul(dropout(F.softmax(scores), dropout_p, training), value)


def gradients(loss: Tensor, parameters: Sequence[Tensor], keep_graph: bool = False) -> list[numpy.ndarray]:
    """d loss / d parameter for each parameter; zeros where the loss does not depend on it.

    Args:
        keep_graph: `loss` is to be differentiated again.
    """
    found = paddle.grad(loss, list(parameters), retain_graph=keep_graph, allow_unused=True)
    return [
        numpy.zeros(tuple(p.shape), "float32") if g is None else to_numpy(g)
        for p, g in zip(parameters, found, strict=True)
    ]


# --- the CPU's shorter ways -------------------------------------------------------------------------------------------


def on_cpu(x: Tensor) -> bool:
    return x.place.is_cpu_place()


def repeat_rows(row: Tensor, times: Sequence[int]) -> Tensor:
    """(N,) -> (*times, N). A product with ones runs on all cores: a fifth of a broadcast's time."""
    return paddle.matmul(paddle.ones([*times, 1], row.dtype), row.reshape([1, -1]))


def _expand_mask(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """mask (B or 1, heads or 1, T or 1, S) -> (B, heads, T, S), or as it is where it has all heads already; a broadcast
    over inner axes costs as much as the attention."""
    if mask.shape[1] > 1:
        return mask
    batch, _, queries, keys = mask.shape
    row = queries * keys
    times = math.prod(shape) // (batch * row)
    return paddle.matmul(paddle.ones([1, times, 1], mask.dtype), mask.reshape([batch, 1, row])).reshape(shape)


def _dropout_mask(shape: Sequence[int], p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p).

    Paddle draws 10 ns a number, on one thread; NumPy draws the 16 bits that are enough here in 0.6 ns. The seed is
    paddle's, so paddle.seed governs dropout and recomputation (see `nn.checkpoint`) draws the same mask again.
    """
    seed = paddle.randint(0, 2**31 - 1, [1]).item()
    random = numpy.random.Generator(numpy.random.SFC64(seed))
    drop = round(p * 2**16)  # p to 8e-6; what stays is scaled by the share that really stays
    bits = numpy.frombuffer(random.bytes(2 * math.prod(shape)), "uint16")
    scaled = numpy.multiply(bits >= drop, 2**16 / (2**16 - drop), dtype="float32")
    return paddle.to_tensor(scaled.reshape(shape))
