"""AdamW takes the documented step, the same under every framework."""

from fastprompt.framework import nn, ops, optim

import numpy as np
import pytest


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4, bias=False), nn.Linear(5, 2, bias=False)


def build(start):
    model = Two()
    parameters = list(nn.named_parameters(model).values())
    for parameter, value in zip(parameters, start, strict=True):
        nn.set_value(parameter, value)
    return model, parameters


def arrays(rng, scale=1.0):
    return [(scale * rng.standard_normal(shape)).astype("float32") for shape in ((4, 3), (2, 5))]


def reference(start, steps, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """The parameters after every step; lr is one number a step."""
    p = [x.astype("float64") for x in start]
    m, v = [0 * x for x in p], [0 * x for x in p]
    for t, grads in enumerate(steps, 1):
        for i, grad in enumerate(grads):
            m[i] = betas[0] * m[i] + (1 - betas[0]) * grad
            v[i] = betas[1] * v[i] + (1 - betas[1]) * grad.astype("float64") ** 2
            p[i] = p[i] - lr[t - 1] * weight_decay * p[i]
            m_hat, v_hat = m[i] / (1 - betas[0] ** t), v[i] / (1 - betas[1] ** t)
            p[i] = p[i] - lr[t - 1] * m_hat / (np.sqrt(v_hat) + eps)
        yield [x.copy() for x in p]


OTHERS = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.0}, OTHERS])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-7])  # at 1e-7 eps is a tenth of the root of v_hat
def test_adamw_takes_the_documented_step(options, scale):
    rng = np.random.default_rng(0)
    start, steps = arrays(rng), [arrays(rng, scale) for _ in range(30)]
    rates = [1e-2] * 20 + [1e-3] * 10
    _, parameters = build(start)
    optimizer = optim.AdamW(parameters, lr=rates[0], **options)
    for lr, grads, wanted in zip(rates, steps, reference(start, steps, rates, **options), strict=True):
        optim.set_learning_rate(optimizer, lr)
        optim.step_with(optimizer, parameters, grads)
        for parameter, expected in zip(parameters, wanted, strict=True):
            np.testing.assert_allclose(ops.to_numpy(parameter), expected, rtol=0, atol=1e-6)
            nn.set_value(parameter, expected)  # each step alone is measured, not their sum


def test_parameters_may_come_as_a_generator():
    _, parameters = build(arrays(np.random.default_rng(0)))
    before = ops.to_numpy(parameters[0])
    optim.step_with(optim.AdamW((p for p in parameters), lr=0.1), parameters, arrays(np.random.default_rng(1)))
    assert (ops.to_numpy(parameters[0]) != before).all()
