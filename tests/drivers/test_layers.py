"""The layers and parameters of every framework."""

import fastprompt as fp
from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops, runtime

import numpy as np
import pytest

from support.operations import central_differences, normal, output_weights, trainable


def layer_norm(x, weight, bias, eps=1e-12):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight + bias


def layer_check(layer, reference, x, frozen=()):
    """`layer(x)` and the gradients of x and of its tensors that are not frozen, against reference(x, **tensors)."""
    parameters = nn.named_parameters(layer)
    arrays = {name: normal(*parameter.shape) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        nn.set_value(parameter, arrays[name])
        if name in frozen:
            nn.freeze(parameter)
    trained = [name for name in arrays if name not in frozen]
    leaf = trainable(x)
    out = layer(ops.reshape(leaf, x.shape))
    np.testing.assert_allclose(ops.to_numpy(out), reference(x, **arrays), rtol=2e-6, atol=5e-6)
    loss = ops.sum(ops.reshape(out * ops.tensor(output_weights(out.shape)), (-1,)), 0)
    got = ops.gradients(loss, [leaf, *(parameters[name] for name in trained)])

    def with_trained(x, *tensors):
        return reference(x, **{**arrays, **dict(zip(trained, tensors, strict=True))})

    wanted = central_differences(with_trained, [x, *(arrays[name] for name in trained)])
    for gradient, expected in zip(got, wanted, strict=True):
        np.testing.assert_allclose(gradient.reshape(expected.shape), expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", [(), ("weight",), ("weight", "bias")])
def test_linear(frozen):
    layer_check(nn.Linear(3, 4), lambda x, weight, bias: x @ weight.T + bias, normal(2, 5, 3), frozen)


def test_a_layer_whose_input_asks_for_no_gradient_still_trains():
    """The first layer of a backbone whose biases alone are tuned."""
    for layer in (nn.LayerNorm(3), nn.Linear(3, 3)):
        nn.freeze(layer.weight)
        (gradient,) = ops.gradients(ops.mean(layer(ops.tensor(normal(4, 3)))), [layer.bias])
        np.testing.assert_allclose(gradient, np.full(3, 1 / 3), atol=1e-6)


def test_linear_without_bias():
    layer_check(nn.Linear(3, 4, bias=False), lambda x, weight: x @ weight.T, normal(5, 3))


def test_a_gradient_may_be_asked_for_alone():
    """Of the input, while the layer's own tensors could have theirs, or of one of them."""
    layer, leaf = nn.LayerNorm(4), trainable(normal(4))
    nn.set_value(layer.weight, normal(4))

    def loss():
        return ops.mean(ops.gelu(layer(ops.reshape(leaf, (1, 4)))) * ops.tensor(output_weights((1, 4))))

    together = ops.gradients(loss(), [leaf, layer.weight, layer.bias])
    for parameter, expected in zip((leaf, layer.weight, layer.bias), together, strict=True):
        (alone,) = ops.gradients(loss(), [parameter])
        assert alone.any()
        np.testing.assert_allclose(alone, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")])
def test_layer_norm_has_the_right_gradient_frozen_or_not(frozen):
    layer_check(nn.LayerNorm(6, eps=1e-12), layer_norm, normal(2, 3, 6), frozen)


@pytest.mark.parametrize("frozen", [(), ("weight",)])
def test_layer_norm_without_bias(frozen):
    layer = nn.LayerNorm(6, eps=1e-12, bias=False)
    assert list(nn.named_parameters(layer)) == ["weight"]
    layer_check(layer, lambda x, weight: layer_norm(x, weight, 0.0), normal(2, 3, 6), frozen)


@pytest.mark.parametrize("width", [6, 48])
def test_layer_norm_far_out_and_at_zero(width):
    """Rows that are constant, huge, tiny or far from zero; what rounding makes of the mean is no deviation."""
    layer = nn.LayerNorm(width, eps=1e-12)
    spread = normal(1, width)
    rows = [0 * spread, spread * 0 + 1e8, spread * 0 + 0.1, 1e4 * spread, 1e15 * spread, 1e-20 * spread, 1e4 + spread]
    x = np.concatenate(rows).astype("float32")
    weight, bias = normal(width), normal(width)
    nn.set_value(layer.weight, weight)
    nn.set_value(layer.bias, bias)
    leaf = trainable(x)
    out = layer(ops.reshape(leaf, x.shape))
    (gradient,) = ops.gradients(ops.sum(ops.reshape(out * ops.tensor(output_weights(x.shape)), (-1,)), 0), [leaf])
    expected = layer_norm(x.astype("float64"), weight, bias)
    np.testing.assert_allclose(ops.to_numpy(out), expected, rtol=2e-6, atol=2e-2)  # 1e4 + spread has 3 digits
    exact = slice(3, -1) if fp.backend() == "paddle" else slice(-1)  # paddle's leaves its mean's rounding in a constant
    np.testing.assert_allclose(ops.to_numpy(out)[exact], expected[exact], rtol=2e-6, atol=1e-5)
    assert np.isfinite(gradient).all()


def test_layer_norm_keeps_nan_in_its_row():
    x = normal(3, 48)
    x[1, 5] = np.nan
    got = ops.to_numpy(nn.LayerNorm(48)(ops.tensor(x)))
    np.testing.assert_array_equal(np.isnan(got), np.arange(3)[:, None] == np.ones((1, 48)))


def test_embedding():
    layer = nn.Embedding(5, 3)
    table, ids = normal(5, 3), np.array([[4, 0, 4]])
    nn.set_value(layer.weight, table)
    out = layer(ops.tensor(ids))
    np.testing.assert_array_equal(ops.to_numpy(out), table[ids])
    weights = output_weights(out.shape)
    (gradient,) = ops.gradients(ops.sum(ops.reshape(out * ops.tensor(weights), (-1,)), 0), [layer.weight])
    expected = np.zeros_like(table)
    np.add.at(expected, ids, weights)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    nn.freeze(layer.weight)
    np.testing.assert_array_equal(ops.to_numpy(layer(ops.tensor(ids))), table[ids])


def test_padding_row_of_an_embedding_is_read_and_never_trained():
    layer = nn.Embedding(3, 2, padding_idx=1)
    table = normal(3, 2)
    nn.set_value(layer.weight, table)
    out = layer(ops.tensor(np.array([1, 2])))
    np.testing.assert_array_equal(ops.to_numpy(out), table[[1, 2]])
    (gradient,) = ops.gradients(ops.mean(out * out), [layer.weight])
    assert not gradient[1].any()
    assert gradient[2].all()


def test_dropout_layer_follows_train_and_eval():
    layer, x = nn.Dropout(0.5), np.ones((40, 40), "float32")
    layer.train()
    assert (ops.to_numpy(layer(ops.tensor(x))) == 0).any()
    layer.eval()
    np.testing.assert_array_equal(ops.to_numpy(layer(ops.tensor(x))), x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.self = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2, bias=False)])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()
        self.norm = nn.LayerNorm(2)
        self.shared = self.attention.self[0]

    def forward(self, x):
        for linear in self.attention.self:
            x = ops.tanh(linear(x))
        return self.norm(x)


def test_names_are_those_of_a_checkpoint():
    assert list(nn.named_parameters(Block())) == [
        "attention.self.0.weight",
        "attention.self.0.bias",
        "attention.self.1.weight",
        "norm.weight",
        "norm.bias",
    ]


def test_a_parameter_of_a_modules_own_trains_under_its_name():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.parameter((2, 3))

    tensors = nn.named_parameters(Scale())
    assert list(tensors) == ["scale"]
    assert (ops.to_numpy(tensors["scale"]) == np.zeros((2, 3), "float32")).all()
    (gradient,) = ops.gradients(ops.mean(tensors["scale"] * ops.tensor(normal(2, 3))), [tensors["scale"]])
    assert gradient.all()


def test_set_value_is_in_place_and_refuses_another_shape():
    layer = nn.Linear(2, 3)
    weight = layer.weight
    nn.set_value(weight, np.arange(6).reshape(3, 2))
    np.testing.assert_array_equal(ops.to_numpy(layer.weight), np.arange(6, dtype="float32").reshape(3, 2))
    with pytest.raises(CheckpointError, match=r"\(2, 3\).*\(3, 2\)|\(3, 2\).*\(2, 3\)"):
        nn.set_value(weight, normal(2, 3))
    with pytest.raises(CheckpointError):
        nn.set_value(weight, normal(1, 2))  # would broadcast


def test_freeze_and_unfreeze():
    layer = nn.Linear(2, 3)
    assert nn.is_trainable(layer.weight)
    nn.freeze(layer.weight)
    assert not nn.is_trainable(layer.weight)
    assert nn.is_trainable(layer.bias)
    nn.unfreeze(layer.weight)
    assert nn.is_trainable(layer.weight)


def test_move_to_where_it_is():
    layer = nn.Linear(2, 3)
    before = nn.device_of(layer)
    nn.move(layer, "cpu")
    assert str(nn.device_of(layer)) == str(before) or runtime.has_gpu()
    nn.move(layer, before)
    assert str(nn.device_of(layer)) == str(before)


def test_checkpoint_has_the_gradients_of_a_plain_call():
    """For its input, for the block's own tensors, and for a tensor computed from a parameter it closes over."""
    block = Block()
    for parameter in nn.named_parameters(block).values():
        nn.set_value(parameter, normal(*parameter.shape))
    nn.freeze(block.attention.self[1].weight)
    x, prompt = trainable(normal(3, 2)), trainable(normal(2))
    leaves = [x, prompt, *(p for p in nn.named_parameters(block).values() if nn.is_trainable(p))]

    def loss(recomputed):
        shift = ops.tanh(prompt)  # (1, 2)
        hidden = ops.reshape(x, (3, 2))
        for _ in range(2):
            hidden = nn.checkpoint(lambda h: block(h + shift), hidden) if recomputed else block(hidden + shift)
        return ops.mean(hidden * hidden * hidden)

    for plain, again in zip(ops.gradients(loss(False), leaves), ops.gradients(loss(True), leaves), strict=True):
        assert plain.any()
        np.testing.assert_allclose(again, plain, rtol=1e-6, atol=1e-7)


def test_checkpoint_draws_the_same_dropout_again():
    x = trainable(np.ones(4000, "float32"))
    out = nn.checkpoint(lambda x: ops.dropout(x, 0.5, True) * 1.0, x * 1.0)
    (gradient,) = ops.gradients(ops.sum(ops.reshape(out, (-1,)), 0), [x])
    np.testing.assert_allclose(gradient, ops.to_numpy(out), rtol=1e-6)


def test_bf16_is_offered_exactly_where_it_works():
    from fastprompt.errors import BackendError

    device = "gpu" if runtime.has_gpu() else "cpu"
    block = Block()
    if not runtime.supports_bf16(device):
        with pytest.raises(BackendError):
            nn.to_bf16(block)
        return
    nn.move(block, device)
    nn.to_bf16(block)
    for parameter in nn.named_parameters(block).values():
        nn.set_value(parameter, normal(*parameter.shape))
        nn.freeze(parameter)
    x = trainable(normal(3, 2))
    reference = normal(3, 2)
    out = block(ops.cast_like(ops.reshape(x, (3, 2)), nn.named_parameters(block)["norm.weight"]))
    (gradient,) = ops.gradients(ops.mean(ops.cast(out, "float32") * ops.tensor(reference)), [x])
    assert gradient.dtype == np.float32
    assert gradient.any()
