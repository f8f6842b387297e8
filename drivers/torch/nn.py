"""PyTorch layers under the names and layouts of a Hugging Face checkpoint, and access to a module's tensors."""

from collections.abc import Callable, Sequence

from fastprompt.drivers.torch.quantization import quantize
from fastprompt.errors import CheckpointError

import numpy
import torch
from torch.nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList
from torch.utils.checkpoint import checkpoint as _checkpoint

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


def parameter(shape: Sequence[int]) -> torch.nn.Parameter:
    """A trainable tensor of zeros, for a module to hold as an attribute."""
    return torch.nn.Parameter(torch.zeros(tuple(shape)))


def modules(module: Module) -> list[Module]:
    """`module` and every module in it, each once."""
    return list(module.modules())


def named_parameters(module: Module) -> dict[str, torch.nn.Parameter]:
    """Every parameter of `module` by its dotted name, shared ones once."""
    return dict(module.named_parameters())


def set_value(parameter: torch.Tensor, value: numpy.ndarray) -> None:
    """Overwrite a parameter in place, keeping its device and dtype.

    Raises:
        CheckpointError: the shapes differ.
    """
    if tuple(parameter.shape) != numpy.shape(value):
        raise CheckpointError(f"A tensor of shape {numpy.shape(value)} does not fit {tuple(parameter.shape)}.")
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(numpy.array(value)))


def freeze(parameter: torch.nn.Parameter) -> None:
    parameter.requires_grad_(False)


def unfreeze(parameter: torch.nn.Parameter) -> None:
    parameter.requires_grad_(True)


def is_trainable(parameter: torch.nn.Parameter) -> bool:
    return parameter.requires_grad


def to_bf16(module: Module) -> None:
    """Cast a (frozen) module's tensors to bfloat16."""
    module.to(torch.bfloat16)


def device_of(module: Module) -> torch.device:
    return next(module.parameters()).device


def move(module: Module, device: str | torch.device) -> None:
    module.to(device)


def checkpoint(function: Callable, *inputs: torch.Tensor) -> torch.Tensor:
    """Call `function(*inputs)` without keeping its activations; they are computed again in the backward pass."""
    return _checkpoint(function, *inputs, use_reentrant=False)
