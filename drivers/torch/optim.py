"""AdamW on PyTorch, with the update that all three drivers share."""

from collections.abc import Iterable, Sequence

import numpy
import torch
from torch import Tensor


class AdamW(torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    p <- p - lr * weight_decay * p;  p <- p - lr * m_hat / (sqrt(v_hat) + eps)

    Args:
        params: the tensors to train, normally `model.trainable_parameters()`; or groups, each a dict with "params" and
            settings of its own.
        lr: step size; may be changed between steps by `set_learning_rate`.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter] | Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(list(params), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def learning_rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """The step size of each group of parameters."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float, ratios: Sequence[float] | None = None) -> None:
    """Give every group of parameters the step size `lr`, or its own share of it."""
    for group, ratio in zip(optimizer.param_groups, ratios or [1.0] * len(optimizer.param_groups), strict=True):
        group["lr"] = lr * ratio


def step_with(optimizer: AdamW, parameters: Sequence[torch.nn.Parameter], grads: Sequence[numpy.ndarray]) -> None:
    """One step of `optimizer` from gradients given as arrays."""
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = torch.from_numpy(grad).to(parameter)
    optimizer.step()
    optimizer.zero_grad()


def gradient(parameter: torch.nn.Parameter, optimizers: Sequence[torch.optim.Optimizer]) -> Tensor | None:
    return parameter.grad


def set_gradient(parameter: torch.nn.Parameter, value: Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    parameter.grad = value.to(parameter)
