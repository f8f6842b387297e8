"""AdamW on Jittor, with the update that all three drivers share."""

from collections.abc import Iterable, Sequence
from typing import Any

import jittor
import numpy
from jittor import Var
from jittor.optim import Optimizer

_SETTINGS = ("lr", "betas", "eps", "weight_decay")


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    p <- p - lr * weight_decay * p;  p <- p - lr * m_hat / (sqrt(v_hat) + eps)

    jittor's own counts a step at every `backward`, which is wrong when gradients are accumulated.

    Args:
        params: the tensors to train, normally `model.trainable_parameters()`; or groups, each a dict with "params" and
            settings of its own.
        lr: step size; may be changed between steps by `set_learning_rate`.
    """

    def __init__(
        self,
        params: Iterable[Var] | Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        super().__init__(list(params), lr)
        self.updates = 0
        groups, self.param_groups = self.param_groups, []
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: dict) -> None:
        """Add tensors with settings of their own: `lr`, `betas`, `eps`, `weight_decay` default to the optimizer's."""
        for name in _SETTINGS:
            group.setdefault(name, getattr(self, name))
        group["params"] = list(group["params"])
        group["m"] = [_zeros(p) for p in group["params"]]
        group["v"] = [_zeros(p) for p in group["params"]]
        if any("grads" in other for other in self.param_groups):  # backward() has run: it fills these in by place
            group["grads"] = [_zeros(p) for p in group["params"]]
        self.param_groups.append(group)

    def step(self, loss: Var | None = None, retain_graph: bool = False) -> None:
        """Update from the gradients of `backward`, or of `loss` where it is given."""
        self.pre_step(loss, retain_graph)
        self.updates += 1
        changed = []
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            correction1, correction2 = 1 - beta1**self.updates, 1 - beta2**self.updates
            for p, g, m, v in zip(group["params"], group["grads"], group["m"], group["v"], strict=True):
                if p.is_stop_grad():
                    continue
                m.update(beta1 * m + (1 - beta1) * g)
                v.update(beta2 * v + (1 - beta2) * g * g)
                step = m * (lr / correction1) / (v.sqrt() / correction2**0.5 + group["eps"])
                p.update(p * (1 - lr * group["weight_decay"]) - step)
                changed += [p, m, v]
        self.post_step()
        jittor.sync(changed)  # now: what is left lazy piles up from step to step

    def state_dict(self) -> dict[str, Any]:
        """Everything but the tensors themselves, with the moments as arrays."""
        groups = [
            {name: group[name] for name in _SETTINGS} | {name: [x.numpy() for x in group[name]] for name in ("m", "v")}
            for group in self.param_groups
        ]
        return {"updates": self.updates, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`; groups and shapes must be those it was made with.

        Raises:
            ValueError: they are not.
        """
        shapes = [[tuple(p.shape) for p in group["params"]] for group in self.param_groups]
        found = [[x.shape for x in group["m"]] for group in state["param_groups"]]
        if shapes != found:
            raise ValueError(f"The saved optimizer state is of tensors {found}, this optimizer trains {shapes}.")
        self.updates = state["updates"]
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({name: saved[name] for name in _SETTINGS})
            for name in ("m", "v"):
                group[name] = [jittor.array(x).stop_grad() for x in saved[name]]


def _zeros(parameter: Var) -> Var:
    return jittor.zeros(parameter.shape, parameter.dtype).stop_grad()


def learning_rates(optimizer: Optimizer) -> list[float]:
    """The step size of each group of parameters."""
    return [float(group.get("lr", optimizer.lr)) for group in optimizer.param_groups]


def set_learning_rate(optimizer: Optimizer, lr: float, ratios: Sequence[float] | None = None) -> None:
    """Give every group of parameters the step size `lr`, or its own share of it."""
    optimizer.lr = lr
    for group, ratio in zip(optimizer.param_groups, ratios or [1.0] * len(optimizer.param_groups), strict=True):
        group["lr"] = lr * ratio


def step_with(optimizer: AdamW, parameters: Sequence[Var], grads: Sequence[numpy.ndarray]) -> None:
    """One step of `optimizer` from gradients given as arrays; its other tensors get a gradient of zero."""
    given = {id(p): g for p, g in zip(parameters, grads, strict=True)}
    for group in optimizer.param_groups:
        group["grads"] = [
            jittor.array(given[id(p)]).stop_grad() if id(p) in given else _zeros(p) for p in group["params"]
        ]
    optimizer.step()


def gradient(parameter: Var, optimizers: Sequence[Optimizer]) -> Var | None:
    """Jittor has the gradients in the optimizers."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for held, grad in zip(group["params"], group.get("grads", ()), strict=False):
                if held is parameter:
                    return grad
    return None


def set_gradient(parameter: Var, value: Var, optimizers: Sequence[Optimizer]) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if "grads" not in group:  # before the first backward(), which would make them like this
                group["grads"] = [_zeros(p).stop_fuse() for p in group["params"]]
            for held, grad in zip(group["params"], group["grads"], strict=True):
                if held is parameter:
                    grad.update(value)
                    optimizer._Optimizer__zero_grad = False  # else the next backward() overwrites it
