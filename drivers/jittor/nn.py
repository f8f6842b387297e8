"""Jittor layers under the names and layouts of a Hugging Face checkpoint, and access to a module's tensors.

A public `Var` attribute of a module is a parameter; what is none goes under a `_name`.
"""

import copy
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastprompt.drivers.jittor import kernels, ops
from fastprompt.drivers.jittor.runtime import configure, use_device
from fastprompt.errors import CheckpointError
from fastprompt.framework import require

import jittor
import numpy
from jittor import Var

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

configure()


class Module(jittor.nn.Module):
    """A jittor module written as a torch one: `forward` is what a call runs, and `eval` leaves gradients alone."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in vars(cls):

            @functools.wraps(cls.forward)  # fastNLP matches a batch with the signature of `execute`
            def execute(self: Module, *args: Any, **kwargs: Any) -> Any:
                return self.forward(*args, **kwargs)

            cls.execute = execute

    def train(self, mode: bool = True) -> "Module":
        # jittor's own eval() stops the gradient of every parameter, and its train() starts some of them again.
        for module in self.modules():
            module.is_train = mode
        return self

    def eval(self) -> "Module":
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> "Module":
        # jittor's own would run this module without gradients, its inputs' included.
        for parameter in self.parameters():
            (unfreeze if requires_grad else freeze)(parameter)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Module":
        # jittor's copy of a frozen parameter is one that trains.
        memo[id(self)] = copied = type(self).__new__(type(self))
        for name, value in vars(self).items():
            vars(copied)[name] = made = copy.deepcopy(value, memo)
            if isinstance(value, Var) and not is_trainable(value):
                freeze(made)
        return copied


class ModuleList(Module, jittor.nn.Sequential):
    """Modules by index."""

    def __init__(self, modules: Iterable[jittor.nn.Module] | None = None) -> None:
        jittor.nn.Sequential.__init__(self, list(modules or ()))


class Dropout(Module):
    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def forward(self, x: Var) -> Var:
        return ops.dropout(x, self.p, self.is_training())


def _normal(shape: tuple[int, ...]) -> Var:
    return jittor.randn(shape)


def _uniform(shape: tuple[int, ...], bound: float) -> Var:
    return (jittor.rand(shape) * 2 - 1) * bound


class _Lookup(jittor.Function):
    """Rows of a table. jittor's own gradient of an indexed read scatters with atomics, one element at a time."""

    def __init__(self, padding_idx: int | None) -> None:
        self.padding = -1 if padding_idx is None else padding_idx

    def execute(self, ids: Var, table: Var) -> Var:
        self.ids, self.shape = ids, table.shape
        return table[ids]  # (N, C)

    def grad(self, d_rows: Var) -> tuple[None, Var]:
        return None, kernels.run(kernels.EMBEDDING_GRAD, [self.shape], [self.ids, d_rows], padding=self.padding)


class Embedding(Module):
    """weight (num_embeddings, embedding_dim); the row `padding_idx` starts at zero and gets no gradient."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.weight = _normal((num_embeddings, embedding_dim))
        if padding_idx is not None:
            self.padding_idx = padding_idx % num_embeddings
            self.weight[self.padding_idx] = 0

    def forward(self, ids: Var) -> Var:
        flat = ids.reshape((-1,))
        if kernels.usable(self.weight):
            rows = _Lookup(self.padding_idx)(flat, self.weight)
        else:
            rows = self.weight[flat]
            if self.padding_idx is not None:
                padding = (flat == self.padding_idx).reshape((-1, 1)).expand(rows.shape)
                rows = jittor.where(padding, rows.detach(), rows)
        return rows.reshape((*ids.shape, self.embedding_dim))


class Linear(Module):
    """weight (out_features, in_features), as in torch; bias (out_features,) or None."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features)
        self.weight = _uniform((out_features, in_features), bound)
        self.bias = _uniform((out_features,), bound) if bias else None

    def forward(self, x: Var) -> Var:
        return ops.linear(x, self.weight, self.bias)


class _Normalize(jittor.Function):
    def __init__(self, eps: float) -> None:
        self.eps = eps

    def execute(self, x: Var, weight: Var, bias: Var) -> Var:
        y, statistics = kernels.run(kernels.LAYER_NORM, [x.shape, (x.shape[0], 2)], [x, weight, bias], eps=self.eps)
        self.saved = x, statistics, weight
        return y

    def grad(self, d_y: Var) -> tuple[Var, Var, Var]:
        x, statistics, weight = self.saved
        d_weight, d_bias = kernels.run(kernels.LAYER_NORM_GRAD_W, [weight.shape, weight.shape], [x, statistics, d_y])
        return kernels.run(kernels.LAYER_NORM_GRAD_X, [x.shape], [x, statistics, weight, d_y]), d_weight, d_bias


class LayerNorm(Module):
    """Over the last axis, in two passes: jittor's own takes E[x^2] - E[x]^2."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5, *, bias: bool = True) -> None:
        self.eps = eps
        self.weight = jittor.ones((normalized_shape,))
        self.bias = jittor.zeros((normalized_shape,)) if bias else None

    def forward(self, x: Var) -> Var:
        rows = x.reshape((-1, x.shape[-1]))  # (N, C)
        bias = jittor.zeros(self.weight.shape, self.weight.dtype).stop_grad() if self.bias is None else self.bias
        if kernels.usable(x, self.weight):
            y = _Normalize(self.eps)(rows, self.weight, bias)
        else:
            centred = rows - rows.mean(1, keepdims=True)
            y = centred / ((centred * centred).mean(1, keepdims=True) + self.eps).sqrt() * self.weight + bias
        return y.reshape(x.shape)


def parameter(shape: Sequence[int]) -> Var:
    """A trainable tensor of zeros, for a module to hold as an attribute."""
    return jittor.zeros(tuple(shape))


def modules(module: Module) -> list[Module]:
    """`module` and every module in it, each once."""
    return list({id(one): one for one in module.modules()}.values())


def named_parameters(module: jittor.nn.Module) -> dict[str, Var]:
    """Every parameter of `module` by its dotted name, shared ones once."""
    return dict(module.named_parameters())


def set_value(parameter: Var, value: numpy.ndarray) -> None:
    """Overwrite a parameter in place, keeping its device and dtype; shapes must be equal.

    Raises:
        CheckpointError: the shapes differ.
    """
    value = numpy.asarray(value)
    if tuple(parameter.shape) != value.shape:
        raise CheckpointError(f"A parameter of shape {tuple(parameter.shape)} cannot take values of {value.shape}.")
    trainable = is_trainable(parameter)
    parameter.update(jittor.array(numpy.array(value, dtype=str(parameter.dtype), order="C")))
    if trainable:
        parameter.start_grad()  # under no_grad the new values come without


def freeze(parameter: Var) -> None:
    parameter.stop_grad()


def unfreeze(parameter: Var) -> None:
    parameter.start_grad()


def is_trainable(parameter: Var) -> bool:
    return not parameter.is_stop_grad()


def to_bf16(module: jittor.nn.Module) -> None:
    """Raises BackendError: jittor multiplies no bf16 matrices on a CPU."""
    require("bf16")


def quantize(module: jittor.nn.Module, bits: int) -> None:
    """Raises BackendError: bitsandbytes is for torch."""
    require("quantization", f"load_in_{bits}bit")


def device_of(module: jittor.nn.Module) -> str:
    return "cuda" if jittor.flags.use_cuda else "cpu"


def move(module: jittor.nn.Module, device: str) -> None:
    """jittor computes everything on one device."""
    use_device(device)


class _Checkpoint(jittor.Function):
    """`function(*inputs)`, run now without a graph and again with one in the backward pass.

    Called with the inputs and then the trainable parameters that `function` uses, whose gradients it returns.
    """

    def __init__(self, function: Callable, parameters: list[Var]) -> None:
        self.function, self.parameters = function, parameters

    def execute(self, *args: Any) -> Var:
        self.inputs = args[: len(args) - len(self.parameters)]
        self.wanted = [isinstance(x, Var) and x.dtype.is_float() and not x.is_stop_grad() for x in self.inputs]
        self.random = numpy.random.get_state()  # dropout draws from it, and has to draw the same again
        with jittor.no_grad():
            return self.function(*self.inputs)

    def grad(self, d_out: Var) -> list[Var | None]:
        d_out = d_out.detach().stop_grad()  # it hangs on the forward pass too: that would be a second derivative
        d_out.sync()  # else the lazy executor may run every block's second forward pass before any backward pass
        inputs = [x.detach().start_grad() if wanted else x for x, wanted in zip(self.inputs, self.wanted, strict=True)]
        now = numpy.random.get_state()
        numpy.random.set_state(self.random)
        out = self.function(*inputs)
        numpy.random.set_state(now)
        targets = [x for x, wanted in zip(inputs, self.wanted, strict=True) if wanted] + self.parameters
        found = iter(jittor.grad((out * d_out).sum(), targets))
        grads = [next(found) if wanted else None for wanted in self.wanted] + list(found)
        jittor.sync([g for g in grads if g is not None])
        return grads


def _trainable_in(holder: Any, seen: set[int]) -> list[Var]:
    """The trainable Vars that a function holds: as a module, a method, a `partial`, or in its closure."""
    if id(holder) in seen:
        return []
    seen.add(id(holder))
    if isinstance(holder, Var):
        return [holder] if holder.dtype.is_float() and not holder.is_stop_grad() else []
    if isinstance(holder, jittor.nn.Module):
        inside = holder.parameters()
    elif isinstance(holder, functools.partial):
        inside = [holder.func, *holder.args, *holder.keywords.values()]
    elif isinstance(holder, (list, tuple, set)):
        inside = list(holder)
    elif isinstance(holder, dict):
        inside = list(holder.values())
    elif callable(holder):
        cells = [cell.cell_contents for cell in getattr(holder, "__closure__", None) or ()]
        inside = [getattr(holder, "__self__", None), getattr(holder, "__func__", None), *cells]
    else:
        return []
    return [parameter for item in inside for parameter in _trainable_in(item, seen)]


def checkpoint(function: Callable, *inputs: Var) -> Var:
    """Call `function(*inputs)` without keeping its activations; they are computed again in the backward pass.

    What else it trains must be found in it: it is a module, a method of one, a `partial`, or closes over them.
    """
    if jittor.flags.no_grad:
        return function(*inputs)
    parameters = _trainable_in(function, {id(x) for x in inputs})
    return _Checkpoint(function, parameters)(*inputs, *parameters)
