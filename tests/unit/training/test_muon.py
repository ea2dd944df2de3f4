"""Muon against steps that are worked out here with singular values and by hand."""

import keras
import numpy as np
import pytest

from convscope.recipe import OptimizerSettings
from convscope.training.muon import Muon, orthogonalised
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
    result = numbers(orthogonalised(matrix))
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
