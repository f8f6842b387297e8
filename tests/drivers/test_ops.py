"""The operations of every framework against their definitions in NumPy."""

import math

import fastprompt as fp
from fastprompt.framework import ops, runtime

import numpy as np
import pytest

from support.operations import central_differences, normal, output_weights, trainable


def value_and_gradients(function, arrays):
    """function(*arrays) and the gradients of its sum, weighted by fixed random numbers, as arrays."""
    leaves = [trainable(array) for array in arrays]
    out = function(*(ops.reshape(leaf, array.shape) for leaf, array in zip(leaves, arrays, strict=True)))
    weights = output_weights(out.shape)
    loss = ops.sum(ops.reshape(out * ops.tensor(weights), (-1,)), 0)
    gradients = ops.gradients(loss, leaves)
    return ops.to_numpy(out), [g.reshape(a.shape) for g, a in zip(gradients, arrays, strict=True)]


def check(function, reference, *arrays):
    value, gradients = value_and_gradients(function, arrays)
    expected = reference(*(array.astype("float64") for array in arrays))
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=2e-6)
    for gradient, wanted in zip(gradients, central_differences(reference, arrays), strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=2e-5, atol=2e-6 * max(1, np.abs(wanted).max()))


erf = np.vectorize(math.erf)


def gelu(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2


def gelu_tanh(x):
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def attention(query, key, value, mask=0.0):
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    return softmax(scores + mask, -1) @ value


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("relu", lambda x: np.maximum(x, 0)),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("gelu", gelu),
        ("gelu_tanh", gelu_tanh),
    ],
)
def test_activations(name, reference):
    check(getattr(ops, name), reference, 2 * normal(3, 2, 5))


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def gelu_slope(x):
    return (1 + erf(x / math.sqrt(2))) / 2 + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu_tanh_slope(x):
    twice = math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)
    inner = math.sqrt(8 / math.pi) * (x + 3 * 0.044715 * x**3)
    return sigmoid(twice) + inner * sigmoid(twice) * sigmoid(-twice)


# name -> the function and its derivative
FAR_OUT = {
    "tanh": (np.tanh, lambda x: 4 * sigmoid(2 * x) * sigmoid(-2 * x)),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "relu": (lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0)),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) + x * sigmoid(x) * sigmoid(-x)),
    "gelu": (gelu, gelu_slope),
    "gelu_tanh": (gelu_tanh, gelu_tanh_slope),
}


def vectors_and_single_numbers(x):
    """Shapes of `x` that a compiler's vector code and the scalar code for its remainder compute; threads choose too."""
    return [np.tile(x, 16), *np.split(x, len(x))]


@pytest.mark.parametrize("name", FAR_OUT)
def test_activations_far_out_and_at_zero(name):
    """Whatever the length: a difference that ought to vanish does so in vector code and in scalar code."""
    sizes = [1.0, 3.0, 4.0, 5.0, 9.0, 15.0, 30.0, 50.0, 100.0, 1e4, 1e10, 1e-3, 1e-20, 0.0]
    value, slope = FAR_OUT[name]
    for x in vectors_and_single_numbers(np.array([side * size for size in sizes for side in (1, -1)], "float32")):
        got, (gradient,) = value_and_gradients(getattr(ops, name), [x])
        exact = x.astype("float64")
        np.testing.assert_allclose(got, value(exact), rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(gradient, slope(exact) * output_weights(x.shape), rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("name", FAR_OUT)
def test_activations_of_denormal_numbers_are_those_of_zero(name):
    value, slope = FAR_OUT[name]
    for x in vectors_and_single_numbers(np.array([1e-40, 1e-44, 0.0, 1e-38], "float32")):
        got, (gradient,) = value_and_gradients(getattr(ops, name), [x])
        np.testing.assert_allclose(got, value(x.astype("float64")), atol=1e-37)
        if name != "relu":  # whose slope of a denormal number is 0 where those count as 0
            np.testing.assert_allclose(gradient, slope(0 * x) * output_weights(x.shape), rtol=1e-6)


@pytest.mark.parametrize("name", FAR_OUT)
def test_activations_keep_nan_and_infinity(name):
    """A run that diverges must show it; the slope of relu alone is defined without its input."""
    if (name, fp.backend()) == ("relu", "paddle"):
        pytest.skip("paddle's relu of NaN is 0")
    for x in vectors_and_single_numbers(np.array([np.nan, 1.0, np.inf], "float32")):
        got, (gradient,) = value_and_gradients(getattr(ops, name), [x])
        assert np.isnan(got[np.isnan(x)]).all()
        assert np.isfinite(got[np.isfinite(x)]).all()
        assert name == "relu" or np.isnan(gradient[np.isnan(x)]).all()
        if name in ("tanh", "sigmoid"):
            assert (got[np.isinf(x)] == 1).all()
        else:
            assert not np.isfinite(got[np.isinf(x)]).any()


def test_reductions():
    check(lambda x: ops.sum(x, 1), lambda x: x.sum(1), normal(2, 3, 4))
    check(lambda x: ops.reshape(ops.mean(x), (1,)), lambda x: x.mean().reshape(1), normal(2, 3, 4))
    check(lambda x: ops.cumsum(x, 1), lambda x: x.cumsum(1), normal(2, 3, 4))


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(axis):
    check(lambda x: ops.softmax(x, axis), lambda x: softmax(x, axis), 3 * normal(2, 3, 4))


def test_linear_operation():
    arrays = [normal(2, 5, 3), normal(4, 3), normal(4)]
    check(ops.linear, lambda x, weight, bias: x @ weight.T + bias, *arrays)
    check(ops.linear, lambda x, weight: x @ weight.T, *arrays[:2])


def test_linear_by_head():
    arrays = [normal(2, 3, 5, 4), normal(3, 6, 4)]
    check(ops.linear_by_head, lambda x, weight: x @ weight.transpose(0, 2, 1), *arrays)


def test_softmax_of_large_numbers_stays_finite():
    x = np.array([[1000.0, 999.0, -3e38]], "float32")
    got = ops.to_numpy(ops.softmax(ops.tensor(x), -1))
    np.testing.assert_allclose(got, softmax(x.astype("float64"), -1), atol=1e-6)


def test_softmax_keeps_nan_in_its_row_and_gives_what_is_infinitely_low_nothing():
    x = np.array([[1.0, np.nan, 2.0], [1.0, -np.inf, 2.0], [-1e4, -1e30, 1e4]] * 4, "float32")
    got = ops.to_numpy(ops.softmax(ops.tensor(x), -1))
    rows = np.arange(len(x)) % 3
    assert np.isnan(got[rows == 0]).all()
    np.testing.assert_allclose(got[rows == 1], np.tile(softmax(np.array([1, -np.inf, 2]), -1), (4, 1)), atol=1e-6)
    np.testing.assert_allclose(got[rows == 2], np.tile([0.0, 0.0, 1.0], (4, 1)), atol=1e-20)


def test_shapes():
    check(lambda x: ops.transpose(x, (0, 2, 3, 1)), lambda x: x.transpose(0, 2, 3, 1), normal(2, 3, 4, 2))
    check(lambda x: ops.reshape(ops.transpose(x, (1, 0)), (-1,)), lambda x: x.T.reshape(-1), normal(2, 3))
    check(lambda x: ops.expand(x, (3, 2, 4)), lambda x: np.broadcast_to(x, (3, 2, 4)), normal(1, 2, 4))
    check(lambda x, y: ops.cat([x, y], 1), lambda x, y: np.concatenate([x, y], 1), normal(2, 3, 2), normal(2, 1, 2))
    check(lambda x: ops.take_rows(x, [2, 0, 2]), lambda x: x[[2, 0, 2]], normal(3, 2, 2))
    check(lambda x: x[:, 0] * 2.0 - x[:, 1], lambda x: x[:, 0] * 2 - x[:, 1], normal(2, 3, 4))


def test_dtypes_are_preserved():
    integers, truths = np.array([[3, 0, 2]]), np.array([[True, False, True]])
    for array in (integers, truths, normal(2, 2)):
        back = ops.to_numpy(ops.tensor(array))
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
    ids, mask = ops.tensor(integers), ops.tensor(truths)
    expected = {
        "arange": (ops.arange(4, ids), np.arange(4)),
        "zeros": (ops.zeros((2, 1), ids), np.zeros((2, 1), "float32")),
        "ones": (ops.ones((1, 2), ids, "int64"), np.ones((1, 2), "int64")),
        "no mask": (ops.ones((1, 2), ids, "bool"), np.ones((1, 2), "bool")),
        "cast": (ops.cast(ids, "float32"), integers.astype("float32")),
        "cast from bool": (ops.cast(mask, "int64"), truths.astype("int64")),
        "cast to bool": (ops.cast(ids, "bool"), integers.astype("bool")),
        "cast_like": (ops.cast_like(mask, ids), truths.astype("int64")),
        "cat": (ops.cat([mask, mask], 1), np.concatenate([truths, truths], 1)),
        "cat of ids": (ops.cat([ids, ids], 0), np.concatenate([integers, integers], 0)),
        "expand": (ops.expand(mask, (2, 3)), np.broadcast_to(truths, (2, 3))),
        "expand ids": (ops.expand(ids, (2, 3)), np.broadcast_to(integers, (2, 3))),
        "take_rows": (ops.take_rows(ids, [0, 0]), integers[[0, 0]]),
        "sum": (ops.sum(ids, 1), integers.sum(1)),
        "cumsum": (ops.cumsum(ids, 1), integers.cumsum(1)),
        "argmax": (ops.argmax(ids, -1), integers.argmax(-1)),
    }
    for name, (got, wanted) in expected.items():
        got = ops.to_numpy(got)
        assert got.dtype == wanted.dtype, name
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def test_to_numpy_gives_an_array_of_its_own():
    x = ops.tensor(normal(2, 2))
    ops.to_numpy(x)[:] = 7
    assert not (ops.to_numpy(x) == 7).any()


def scalar(loss):
    return ops.reshape(loss, (1,))


@pytest.mark.parametrize("labels", [[2, 0, 1, 2], [-100, 0, -100, 2]], ids=["all", "some ignored"])
def test_cross_entropy_is_the_mean_of_the_labels_that_count(labels):
    labels = np.array(labels)
    counted = labels != -100

    def reference(logits):
        picked = softmax(logits, -1)[np.arange(4), np.where(counted, labels, 0)]
        return -np.log(picked[counted]).mean(keepdims=True)

    check(lambda x: scalar(ops.cross_entropy(x, ops.tensor(labels))), reference, 3 * normal(4, 3))


def test_cross_entropy_far_out():
    """Finite where the label is unlikely, exactly 0 where it is certain, NaN where a logit is."""
    labels = np.array([0, 1, 2, 0, 1])
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [-1e30, -1e30, 1e30], [0, 0, 0], [-50, 50, 49]], "float32")

    def reference(x):
        shifted = x - x.max(-1, keepdims=True)
        return (np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(5), labels]).mean(keepdims=True)

    leaf = trainable(logits)
    loss = ops.cross_entropy(ops.reshape(leaf, logits.shape), ops.tensor(labels))
    if fp.backend() != "paddle":  # which stops the loss of one label at 64; the gradient is right
        np.testing.assert_allclose(ops.to_numpy(loss).reshape(1), reference(logits.astype("float64")), rtol=1e-6)
    (gradient,) = ops.gradients(loss, [leaf])
    expected = (softmax(logits.astype("float64"), -1) - np.eye(3)[labels]) / 5
    np.testing.assert_allclose(gradient.reshape(logits.shape), expected, atol=1e-7)
    logits[3, 1] = np.nan
    assert np.isnan(ops.to_numpy(ops.cross_entropy(ops.tensor(logits), ops.tensor(labels)))).all()


def test_cross_entropy_of_a_class_that_is_ruled_out():
    """A logit of minus infinity, of a class that is not the label, adds nothing."""
    logits, labels = np.array([[1.0, -np.inf, 2.0], [0.5, 1.0, -np.inf]], "float32"), np.array([0, 1])
    loss = ops.to_numpy(ops.cross_entropy(ops.tensor(logits), ops.tensor(labels))).reshape(())
    np.testing.assert_allclose(loss, (np.log1p(math.e) + np.log1p(math.exp(-0.5))) / 2, rtol=1e-6)


def test_cross_entropy_of_no_labels_is_zero_and_trains_nothing():
    leaf = trainable(normal(2, 3))
    loss = ops.cross_entropy(ops.reshape(leaf, (2, 3)), ops.tensor(np.array([-100, -100])))
    assert float(ops.to_numpy(loss).reshape(())) == 0
    (gradient,) = ops.gradients(loss, [leaf])
    assert (gradient == 0).all()


def test_cross_entropy_of_a_class_that_is_not_there_is_no_loss():
    try:
        loss = ops.to_numpy(ops.cross_entropy(ops.tensor(normal(2, 3)), ops.tensor(np.array([0, 3]))))
    except (IndexError, ValueError):
        return
    assert not np.isfinite(loss).any()


def bce(logits, target):
    loss = np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))
    return loss.mean(keepdims=True).reshape(1)


def test_losses_of_numbers_and_of_several_labels():
    target = np.array([[0, 1, 1], [1, 0, 0.25]], "float32")
    check(
        lambda x: scalar(ops.mse(x, ops.tensor(target))), lambda x: ((x - target) ** 2).mean().reshape(1), normal(2, 3)
    )
    check(lambda x: scalar(ops.bce_with_logits(x, ops.tensor(target))), lambda x: bce(x, target), 3 * normal(2, 3))


def test_binary_cross_entropy_far_out_and_at_zero():
    logits = np.array([[-200.0, 200.0, 0.0, 0.0, -200.0, 200.0]], "float32")
    target = np.array([[0, 1, 0, 1, 1, 0]], "float32")
    check(lambda x: scalar(ops.bce_with_logits(x, ops.tensor(target))), lambda x: bce(x, target), logits)


MASKS = {
    "none": None,
    "padding": (2, 1, 1, 5),
    "per query": (2, 1, 3, 5),
    "causal": (1, 1, 3, 5),
    "per head": (2, 2, 3, 5),
}


@pytest.mark.parametrize("kind", MASKS)
def test_attention(kind):
    query, key, value = normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4)
    if MASKS[kind] is None:
        check(lambda q, k, v: ops.attention(q, k, v, None), attention, query, key, value)
    else:
        mask = np.where(np.random.default_rng(2).random(MASKS[kind]) < 0.4, -1e4, 0.0).astype("float32")
        mask[..., 0] = 0  # every query sees something
        check(
            lambda q, k, v: ops.attention(q, k, v, ops.tensor(mask)),
            lambda q, k, v: attention(q, k, v, mask),
            query, key, value,
        )  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(1, 2, 3, 5), (2, 2, 3, 5), (2, 1, 3, 5), (1, 2, 1, 5)], ids=str)
def test_attention_with_a_bias_that_is_learned(shape, masked):
    query, key, value, bias = normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4), normal(*shape)
    mask = np.array([[0, 0, 0, 0, 0], [0, 0, -1e9, 0, -1e9]], "float32").reshape(2, 1, 1, 5) if masked else None
    check(
        lambda q, k, v, b: ops.attention(q, k, v, None if mask is None else ops.tensor(mask), bias=b),
        lambda q, k, v, b: attention(q, k, v, b if mask is None else mask + b),
        query, key, value, bias,
    )  # fmt: skip


def test_masked_keys_and_values_change_nothing():
    query, key, value = normal(1, 2, 3, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4)
    mask = np.zeros((1, 1, 1, 5), "float32")
    mask[..., 3:] = np.finfo("float32").min
    full = ops.attention(*map(ops.tensor, (query, key, value, mask)))
    short = ops.attention(ops.tensor(query), ops.tensor(key[:, :, :3]), ops.tensor(value[:, :, :3]), None)
    np.testing.assert_allclose(ops.to_numpy(full), ops.to_numpy(short), atol=1e-6)


LOWEST = float(np.finfo("float32").min)


@pytest.mark.parametrize("masked", [-1e4, LOWEST])
def test_a_query_that_sees_nothing_sees_all_alike(masked):
    """As the softmax of equal numbers is; padding of a causal batch is such a query, and NaN would spread from it."""
    query, key, value = normal(1, 2, 3, 4), normal(1, 2, 21, 4), normal(1, 2, 21, 4)
    mask = np.zeros((1, 1, 3, 21), "float32")
    mask[:, :, 1] = masked
    got, gradients = value_and_gradients(lambda q, k, v: ops.attention(q, k, v, ops.tensor(mask)), [query, key, value])
    expected = attention(query.astype("float64"), key, value, mask)
    # scores near -1e4 are 1e-3 apart in float32
    np.testing.assert_allclose(got, expected, atol=2e-3 if masked == -1e4 else 2e-6)
    if masked == LOWEST:
        np.testing.assert_allclose(got[:, :, 1], value.mean(2), atol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_attention_of_scores_far_out():
    query, key, value = 200 * normal(1, 2, 3, 4), 200 * normal(1, 2, 21, 4), normal(1, 2, 21, 4)  # scores up to 1e5
    got, gradients = value_and_gradients(lambda q, k, v: ops.attention(q, k, v, None), [query, key, value])
    np.testing.assert_allclose(got, attention(query.astype("float64"), key, value), atol=1e-4)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_attention_keeps_nan_in_the_query_that_has_it():
    query, key, value = normal(1, 2, 3, 4), normal(1, 2, 21, 4), normal(1, 2, 21, 4)
    clean = ops.to_numpy(ops.attention(*map(ops.tensor, (query, key, value)), None))
    query[:, :, 1] = np.nan
    got = ops.to_numpy(ops.attention(*map(ops.tensor, (query, key, value)), None))
    assert np.isnan(got[:, :, 1]).all()
    np.testing.assert_allclose(got[:, :, ::2], clean[:, :, ::2], atol=1e-6)


def test_dropout_drops_its_share_and_keeps_the_mean():
    x = np.ones((200, 300), "float32")
    out, (gradient,) = value_and_gradients(lambda x: ops.dropout(x, 0.1, True), [x])
    kept = out != 0
    assert (~kept).mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_allclose(out[kept], 1 / 0.9, rtol=1e-4)
    np.testing.assert_allclose(gradient, out * output_weights(x.shape), rtol=1e-5)  # the same mask in both passes


def test_dropout_follows_the_seed():
    def draw():
        return ops.to_numpy(ops.dropout(ops.tensor(np.ones((40, 40), "float32")), 0.1, True))

    runtime.seed(3)
    first, second = draw(), draw()
    runtime.seed(3)
    np.testing.assert_array_equal(draw(), first)
    assert (first != second).any()


def test_dropout_without_training_or_at_zero_is_nothing():
    x = normal(3, 4)
    for p, training in ((0.5, False), (0.0, True)):
        np.testing.assert_array_equal(ops.to_numpy(ops.dropout(ops.tensor(x), p, training)), x)


def test_gradients_are_zero_where_the_loss_does_not_reach():
    used, unused = trainable(normal(3)), trainable(normal(4))
    gradient, nothing = ops.gradients(ops.mean(used * used), [used, unused])
    assert gradient.any()
    assert nothing.shape == tuple(unused.shape)
    assert not nothing.any()


def test_no_grad_keeps_values():
    x = trainable(normal(3))
    with ops.no_grad():
        y = ops.tanh(x)
    np.testing.assert_allclose(ops.to_numpy(y), np.tanh(ops.to_numpy(x)), atol=1e-6)
