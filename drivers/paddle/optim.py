"""AdamW on PaddlePaddle, with the update that all three drivers share."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from fastprompt.errors import ConfigError

import numpy
import paddle
from paddle import Tensor, _C_ops
from paddle.optimizer import Optimizer


class AdamW(paddle.optimizer.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    p <- p - lr * weight_decay * p;  p <- p - lr * m_hat / (sqrt(v_hat) + eps)

    Its state goes by the tensors' positions, not by paddle's own names, which change with every model built before.

    Args:
        params: the tensors to train, normally `model.trainable_parameters()`; or groups, each a dict with "params" and
            settings of its own: "lr", "betas", "eps", "weight_decay", as in torch.
        lr: step size; may be changed between steps by `set_learning_rate`.

    Raises:
        ConfigError: a group has another setting.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        groups = _groups(list(params), settings)
        tensors = [tensor for group in groups for tensor in group["params"]]
        super().__init__(float(lr), *betas, eps, parameters=tensors, weight_decay=weight_decay)
        self._groups = groups
        self._group_of = [group for group in groups for _ in group["params"]]
        self._steps = [0] * len(self._parameter_list)
        self._moments: list[tuple[Tensor, Tensor] | None] = [None] * len(self._parameter_list)

    @paddle.no_grad()
    def step(self) -> None:
        for index, parameter in enumerate(self._parameter_list):
            if (grad := parameter.grad) is not None and not parameter.stop_gradient:
                self._update(index, parameter, grad)

    def _update(self, index: int, parameter: Tensor, grad: Tensor) -> None:
        self._steps[index] += 1
        group = self._group_of[index]
        if self._moments[index] is None:
            self._moments[index] = (paddle.zeros_like(parameter), paddle.zeros_like(parameter))
        # The kernel's own bias correction is in float32, where 1 - 0.999 has four digits. With its powers of beta at 0
        # it makes none; ours goes into the step size and eps, and the decay is divided by what the step size gained.
        lr = self.get_lr() * group["ratio"]
        first, second = (1 - beta ** self._steps[index] for beta in group["betas"])
        gain = math.sqrt(second) / first
        no_power = [paddle.zeros([1]), paddle.zeros([1])]
        _C_ops.adamw_(
            parameter,
            grad,
            paddle.full([1], lr * gain),
            *self._moments[index],
            None,  # no AMSGrad
            *no_power,
            None,  # no float32 copy of the parameter
            None,  # no check for infinities
            *group["betas"],
            group["eps"] * math.sqrt(second),
            1.0,  # the same rate for every layer
            group["weight_decay"] / gain,
            True,  # decay
            False,  # every row, not only those with a gradient
            1000,
            False,
            False,
            False,
        )

    def clear_grad(self, set_to_zero: bool = False) -> None:
        """Drop the gradients; as in torch, a tensor that gets none afterwards is left alone by `step`."""
        super().clear_grad(set_to_zero)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"learning_rate": self.get_lr()}
        if len(self._groups) > 1:
            state["ratios"] = [group["ratio"] for group in self._groups]
        for index, (steps, moments) in enumerate(zip(self._steps, self._moments, strict=True)):
            if moments is not None:
                state[f"{index}.steps"] = steps
                state[f"{index}.first"], state[f"{index}.second"] = moments
        return state

    def set_state_dict(self, state_dict: dict[str, Any]) -> None:
        set_learning_rate(self, state_dict["learning_rate"], state_dict.get("ratios"))
        for index, parameter in enumerate(self._parameter_list):
            self._steps[index] = int(state_dict.get(f"{index}.steps", 0))
            self._moments[index] = None
            if self._steps[index]:
                self._moments[index] = tuple(
                    paddle.assign(state_dict[f"{index}.{moment}"]).to(parameter.place) for moment in ("first", "second")
                )


def _groups(params: list[Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups of parameters with the settings that each has, or `settings` where it has none of its own.

    A group's "ratio" is its step size over the optimizer's.
    """
    made = []
    for given in params if params and isinstance(params[0], dict) else [{"params": params}]:
        if unknown := sorted(given.keys() - {"params", *settings}):
            raise ConfigError(f"A group of parameters has {unknown[0]!r}; it takes params, {', '.join(settings)}.")
        group = {**settings, **given, "params": list(given["params"])}
        # What the kernel makes of them: with the exact 0.999 the corrections would be off by 1e-5.
        group["betas"] = [float(numpy.float32(beta)) for beta in group["betas"]]
        group["ratio"] = float(group["lr"]) / float(settings["lr"]) if "lr" in given else 1.0
        made.append(group)
    return made


def learning_rates(optimizer: paddle.optimizer.Optimizer) -> list[float]:
    """The step size of each group of parameters; of paddle's own optimizers that of all, whose groups are shares."""
    groups = optimizer._groups if isinstance(optimizer, AdamW) else [{"ratio": 1.0}]
    return [optimizer.get_lr() * group["ratio"] for group in groups]


def set_learning_rate(optimizer: paddle.optimizer.Optimizer, lr: float, ratios: Sequence[float] | None = None) -> None:
    """Give every group of parameters the step size `lr`, or its own share of it."""
    if isinstance(optimizer, AdamW):
        for group, ratio in zip(optimizer._groups, ratios or [1.0] * len(optimizer._groups), strict=True):
            group["ratio"] = ratio
    elif ratios:
        lr *= ratios[0]
    optimizer.set_lr(float(lr))


def step_with(optimizer: AdamW, parameters: Sequence[Tensor], grads: Sequence[numpy.ndarray]) -> None:
    """One step of `optimizer` from gradients given as arrays."""
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = paddle.to_tensor(grad, place=parameter.place)
    optimizer.step()
    optimizer.clear_grad()


def gradient(parameter: Tensor, optimizers: Sequence[Optimizer]) -> Tensor | None:
    return parameter.grad


def set_gradient(parameter: Tensor, value: Tensor, optimizers: Sequence[Optimizer]) -> None:
    parameter.grad = value.to(parameter.place)
