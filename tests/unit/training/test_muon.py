"""Muon against steps that are worked out here with singular values and by hand."""

import keras
import numpy as np
import pytest

from convscope.recipe import OptimizerSettings
from convscope.training.muon import Muon, orthogonalised, separate_kernels
from convscope.training.optimizers import build_optimizer

SETTINGS = OptimizerSettings(
    name="muon", learning_rate=0.1, momentum=0.6, nesterov=True, bias_rate=0.5, head_rate=3.0
)


def numbers(x) -> np.ndarray:
    return keras.ops.convert_to_numpy(x).astype(np.float64)


@pytest.mark.parametrize("shape", [(27, 8), (8, 27), (24, 16)])
def test_all_directions_come_out_about_equally_strong(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    result = numbers(orthogonalised(keras.ops.convert_to_tensor(matrix)))
    assert result.shape == shape
    # In the frame of the matrix's own singular vectors it is nearly the identity.
    inside = u.T @ result @ v.T
    np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-4)
    assert np.diag(inside).min() > 0.5
    assert np.diag(inside).max() < 1.3


def quintic(matrix) -> np.ndarray:
    """What the iteration makes of singular values, one by one."""
    u, values, v = np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return u @ np.diag(values) @ v


def test_kernels_turn_and_all_else_takes_steps_of_sgd():
    keras.utils.set_random_seed(83)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(5, 3), layers.Flatten(), layers.Dense(3)]
    )
    optimizer = build_optimizer(SETTINGS)
    assert isinstance(optimizer, Muon)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(1)
    kernel, bias, dense, dense_bias = (numbers(v) for v in model.trainable_variables)
    velocity = [np.zeros_like(w) for w in (kernel, bias, dense, dense_bias)]
    rates = [0.1, 0.05, 0.3, 0.05]
    for _ in range(3):
        gradients = [rng.normal(size=v.shape) for v in model.trainable_variables]
        optimizer.apply(
            [keras.ops.convert_to_tensor(g.astype("float32")) for g in gradients],
            model.trainable_variables,
        )
        velocity[0] = 0.6 * velocity[0] + gradients[0]
        ahead = gradients[0] + 0.6 * velocity[0]
        # 18 inputs by 5 outputs: the norm of five directions of length 1.
        kernel = kernel * np.sqrt(5) / np.linalg.norm(kernel)
        kernel = kernel - 0.1 * quintic(ahead.reshape(18, 5)).reshape(kernel.shape)
        others = [bias, dense, dense_bias]
        for index, (weight, rate) in enumerate(zip(others, rates[1:], strict=True), 1):
            velocity[index] = 0.6 * velocity[index] - rate * gradients[index]
            others[index - 1] = weight + 0.6 * velocity[index] - rate * gradients[index]
        bias, dense, dense_bias = others
        wanted = (kernel, bias, dense, dense_bias)
        for mine, theirs in zip(wanted, model.trainable_variables, strict=True):
            np.testing.assert_allclose(numbers(theirs), mine, atol=2e-5)


def moved(optimizer: keras.optimizers.Optimizer, model: keras.Model, gradients) -> list[np.ndarray]:
    """Return the weights after a step."""
    optimizer.build(model.trainable_variables)
    tensors = [keras.ops.convert_to_tensor(np.asarray(g, "float32")) for g in gradients]
    optimizer.apply(tensors, model.trainable_variables)
    return [numbers(v) for v in model.trainable_variables]


def mixed() -> keras.Model:
    """A network with every kind of kernel of four axes."""
    keras.utils.set_random_seed(83)
    layers = keras.layers
    pixels = keras.Input((6, 6, 4))
    inner = keras.Sequential([keras.Input((6, 6, 8)), layers.DepthwiseConv2D(3, name="inner")])
    x = layers.Conv2D(4, 3, padding="same", name="whole")(pixels)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="deep")(x)
    x = layers.Conv2D(8, 3, groups=4, padding="same", name="grouped")(x)
    x = layers.SeparableConv2D(8, 3, depth_multiplier=2, padding="same", name="parted")(x)
    return keras.Model(pixels, layers.Conv2D(1, 1, name="single")(inner(x)))


def test_kernels_that_take_channels_by_themselves_are_found():
    names = [path.split("/", 1) for path in separate_kernels(mixed())]
    assert [(layer, weight.rpartition("/")[2]) for layer, weight in names] == [
        ("deep", "kernel"),
        ("grouped", "kernel"),
        ("parted", "depthwise_kernel"),
        (names[3][0], "kernel"),
    ]
    assert "inner" in "/".join(names[3])


def test_kernels_that_take_channels_by_themselves_learn_by_plain_momentum():
    model, plain = mixed(), mixed()
    rng = np.random.default_rng(1)
    gradients = [rng.normal(size=v.shape) for v in model.trainable_variables]
    before = [numbers(v) for v in model.trainable_variables]
    turned = moved(build_optimizer(SETTINGS, separate=separate_kernels(model)), model, gradients)
    sgd = moved(build_optimizer(SETTINGS.model_copy(update={"name": "sgd"})), plain, gradients)
    turning = []
    for variable, mine, theirs, old in zip(
        model.trainable_variables, turned, sgd, before, strict=True
    ):
        if not np.allclose(mine, theirs, atol=1e-6):
            turning.append(variable.path)
            assert not np.allclose(mine, old)
    assert turning == ["whole/kernel", "parted/pointwise_kernel"]


def test_a_kernel_of_zeros_begins_to_learn_and_stays_finite():
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(5, 3, kernel_initializer="zeros", use_bias=False)]
    )
    gradient = np.random.default_rng(1).normal(size=(3, 3, 2, 5))
    (kernel,) = moved(build_optimizer(SETTINGS), model, [gradient])
    np.testing.assert_allclose(
        kernel.reshape(18, 5), -0.1 * quintic(gradient.reshape(18, 5)), atol=2e-5
    )


def test_a_kernel_that_nothing_moves_is_left_alone():
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(5, 3)])
    before = [100 * numbers(v) for v in model.trainable_variables]
    model.set_weights(before)
    optimizer = build_optimizer(SETTINGS)
    still = [np.zeros(v.shape) for v in model.trainable_variables]
    for new, old in zip(moved(optimizer, model, still), before, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6)
    # With a momentum left from before it moves, without a gradient too.
    ones = [np.ones(v.shape) for v in model.trainable_variables]
    first = moved(optimizer, model, ones)[0]
    assert not np.allclose(moved(optimizer, model, still)[0], first)
