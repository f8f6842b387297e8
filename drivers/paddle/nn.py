"""PaddlePaddle layers under the names and layouts of a Hugging Face checkpoint, and access to a module's tensors."""

from collections.abc import Callable, Sequence

from fastprompt.drivers.paddle import ops
from fastprompt.errors import BackendError, CheckpointError
from fastprompt.framework import require

import numpy
import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute
from paddle.nn import Layer as Module
from paddle.nn import LayerList as ModuleList
from paddle.nn.initializer import Constant

__all__ = [
    "Dropout",
    "Embedding",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "checkpoint",
    "device_of",
    "freeze",
    "is_trainable",
    "modules",
    "move",
    "named_parameters",
    "parameter",
    "quantize",
    "set_value",
    "to_bf16",
    "unfreeze",
]

# Every parameter is overwritten from a checkpoint or by our own initialiser: random values would be drawn in vain.
_ZEROS, _ONES = Constant(0.0), Constant(1.0)


class Dropout(Module):
    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.training)


class Embedding(Module):
    """weight (num_embeddings, embedding_dim); as in torch, the row of `padding_idx` is read but never trained."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.padding_idx = padding_idx
        self.weight = self.create_parameter([num_embeddings, embedding_dim], default_initializer=_ZEROS)

    def forward(self, ids: Tensor) -> Tensor:
        rows = F.embedding(ids, self.weight)  # its own padding_idx would give zeros for that row
        if self.padding_idx is None or self.weight.stop_gradient:
            return rows
        return paddle.where((ids == self.padding_idx).unsqueeze(-1), rows.detach(), rows)


class Linear(Module):
    """y = x W^T + b with weight (out_features, in_features), as torch and every checkpoint have it."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = self.create_parameter([out_features, in_features], default_initializer=_ZEROS)
        self.bias = self.create_parameter([out_features], is_bias=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


class LayerNorm(Module):
    """Normalises the last axis.

    Paddle's own gives a wrong gradient for its input where the weight is frozen (3.3.1, CPU), so the gradient is ours.
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-5, *, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = self.create_parameter([normalized_shape], default_initializer=_ONES)
        self.bias = self.create_parameter([normalized_shape], is_bias=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if not ops.on_cpu(x):
            y = F.layer_norm(x, x.shape[-1:], epsilon=self.eps) * self.weight
            return y if self.bias is None else y + self.bias
        if self.weight.stop_gradient and (self.bias is None or self.bias.stop_gradient):
            return _LayerNorm.apply(x, self.weight, self.bias, self.eps)
        # Not as arguments of one PyLayer: it must return gradients for exactly those that paddle.grad is asked for.
        rows = x.shape[:-1]
        y = _LayerNorm.apply(x, None, None, self.eps) * ops.repeat_rows(self.weight, rows)
        return y if self.bias is None else y + ops.repeat_rows(self.bias, rows)


class _LayerNorm(PyLayer):
    """weight and bias are frozen, or None for 1 and 0."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        ctx.eps = eps
        ctx.weight = weight
        ctx.frozen = [parameter for parameter in (weight, bias) if parameter is not None]
        ctx.save_for_backward(x)
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    @staticmethod
    def backward(ctx, grad):
        """(g - mean(g) - x mean(g x)) / std, where g = weight * grad and x is normalised."""
        (x,) = ctx.saved_tensor()
        average = paddle.full([x.shape[-1], 1], 1 / x.shape[-1], x.dtype)  # a mean as a product runs on all cores
        x = x - paddle.matmul(x, average)
        inverse_std = paddle.rsqrt(paddle.matmul(x * x, average) + ctx.eps)
        x = x * inverse_std
        g = grad if ctx.weight is None else grad * ctx.weight
        input_grad = (g - paddle.matmul(g, average) - x * paddle.matmul(g * x, average)) * inverse_std
        return (input_grad, *(None for _ in ctx.frozen)) if ctx.frozen else input_grad


def parameter(shape: Sequence[int]) -> Tensor:
    """A trainable tensor of zeros, for a module to hold as an attribute."""
    return paddle.create_parameter(list(shape), "float32", default_initializer=_ZEROS)


def modules(module: Module) -> list[Module]:
    """`module` and every module in it, each once."""
    return module.sublayers(include_self=True)


def named_parameters(module: Module) -> dict[str, Tensor]:
    """Every parameter of `module` by its dotted name, shared ones once."""
    return dict(module.named_parameters())


def set_value(parameter: Tensor, value: numpy.ndarray) -> None:
    """Overwrite a parameter in place, keeping its device and dtype.

    Raises:
        CheckpointError: the shapes differ.
    """
    if tuple(parameter.shape) != numpy.shape(value):
        raise CheckpointError(f"A tensor of shape {numpy.shape(value)} does not fit {tuple(parameter.shape)}.")
    parameter.set_value(paddle.to_tensor(value, dtype=parameter.dtype, place=parameter.place))


def freeze(parameter: Tensor) -> None:
    parameter.stop_gradient = True


def unfreeze(parameter: Tensor) -> None:
    parameter.stop_gradient = False


def is_trainable(parameter: Tensor) -> bool:
    return not parameter.stop_gradient


def to_bf16(module: Module) -> None:
    """Cast a (frozen) module's tensors to bfloat16.

    Raises:
        BackendError: the module is on the CPU, for which paddle has no bfloat16 kernels.
    """
    if device_of(module).is_cpu_place():
        raise BackendError("Paddle cannot compute in bfloat16 on the CPU: keep float32, or move the model to a GPU.")
    module.to(dtype="bfloat16")


def quantize(module: Module, bits: int) -> None:
    """Raises BackendError: bitsandbytes is for torch."""
    require("quantization", f"load_in_{bits}bit")


def device_of(module: Module) -> paddle.base.core.Place:
    return next(iter(module.parameters())).place


def move(module: Module, device: str | paddle.base.core.Place) -> None:
    module.to(device.replace("cuda", "gpu") if isinstance(device, str) else device)


def checkpoint(function: Callable, *inputs: Tensor) -> Tensor:
    """Call `function(*inputs)` without keeping its activations; they are computed again in the backward pass."""
    # Paddle warns where no input needs a gradient, which says nothing here: `function` may hold what does.
    needs_gradient = paddle.zeros([1])
    needs_gradient.stop_gradient = False
    return recompute(lambda _, *inputs: function(*inputs), needs_gradient, *inputs, use_reentrant=False)
