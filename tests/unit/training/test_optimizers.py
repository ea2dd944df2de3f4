"""Optimisers against steps that are worked out here by hand."""

import keras
import numpy as np
import pytest

from convscope.recipe import OptimizerSettings
from convscope.training.optimizers import averaged_weights, build_optimizer

RATE, DECAY = 0.1, 0.05
X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")


def network() -> keras.Model:
    """Two linear layers, whose gradients are easy to write down."""
    keras.utils.set_random_seed(83)
    x = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="low", bias_initializer="ones")(x)
    return keras.Model(x, keras.layers.Dense(2, name="high", bias_initializer="ones")(hidden))


def gradients(weights) -> list[np.ndarray]:
    """Of the mean squared error, by hand."""
    w1, b1, w2, b2 = (np.asarray(w, np.float64) for w in weights)
    hidden = X @ w1 + b1
    error = 2 * (hidden @ w2 + b2 - Y) / Y.size
    back = error @ w2.T
    return [X.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


def by_hand(weights, shares, settings, steps) -> list[list[np.ndarray]]:
    """The weights after each step, as the papers have it."""
    weights = [np.asarray(w, np.float64) for w in weights]
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    history = []
    for step in range(1, steps + 1):
        for i, gradient in enumerate(gradients(weights)):
            rate = RATE * shares[i]
            # Decoupled (Loshchilov and Hutter, 2019): with the weights before the step.
            decayed = weights[i] * (1 - rate * settings.weight_decay)
            if settings.name == "sgd":
                first[i] = settings.momentum * first[i] - rate * gradient
                move = first[i]
                if settings.nesterov:
                    move = settings.momentum * first[i] - rate * gradient
            else:
                first[i] = 0.9 * first[i] + 0.1 * gradient
                second[i] = 0.999 * second[i] + 0.001 * gradient**2
                mean, spread = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
                move = -rate * mean / (np.sqrt(spread) + 1e-7)
            weights[i] = decayed + move
        history.append([w.copy() for w in weights])
    return history


def shares_of(model, low=0.25) -> tuple[dict[str, float], list[float]]:
    paths = {v.path: low for v in model.get_layer("low").variables}
    return paths, [paths.get(v.path, 1.0) for v in model.trainable_variables]


def learn(model, steps=3):
    for _ in range(steps):
        model.train_on_batch(X, Y)


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize(
    "chosen",
    [
        {"name": "sgd"},
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "momentum": 0.9, "nesterov": True},
        {"name": "sgd", "momentum": 0.9, "weight_decay": DECAY},
        {"name": "adam"},
        {"name": "adam", "weight_decay": DECAY},
        {"name": "adamw", "weight_decay": DECAY},
        {"name": "adamw", "weight_decay": 0.0},
        {"name": "adamw", "weight_decay": DECAY, "ema": 0.9},
    ],
    ids=lambda chosen: "-".join(f"{value}" for value in chosen.values()),
)
def test_steps_are_those_of_the_formula(chosen, share):
    settings = OptimizerSettings(learning_rate=RATE, **chosen)
    model = network()
    paths, each = shares_of(model, share)
    expected = by_hand(model.get_weights(), each, settings, 3)[-1]
    model.compile(build_optimizer(settings, None, paths if share < 1 else None), "mse")
    learn(model)
    for mine, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)


def test_a_share_scales_the_step_of_its_variables_alone():
    start = network().get_weights()
    moves = []
    for paths in (None, shares_of(network(), 0.25)[0]):
        model = network()
        model.compile(
            build_optimizer(OptimizerSettings(name="sgd", learning_rate=RATE), None, paths), "mse"
        )
        learn(model, steps=1)
        moves.append([new - old for new, old in zip(model.get_weights(), start, strict=True)])
    for index, share in enumerate((0.25, 0.25, 1.0, 1.0)):
        np.testing.assert_allclose(moves[1][index], share * moves[0][index], rtol=1e-4, atol=1e-6)


def test_shares_hold_with_a_schedule():
    rates = []

    class Falling(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            rates.append(step)
            return 0.1 / (1 + keras.ops.cast(step, "float32"))

    model = network()
    paths, _ = shares_of(model, 0.5)
    before = model.get_weights()
    model.compile(build_optimizer(OptimizerSettings(name="sgd"), Falling(), paths), "mse")
    learn(model, steps=1)
    first = model.get_weights()
    learn(model, steps=1)
    for i, share in enumerate((0.5, 0.5, 1, 1)):
        expected = before[i] - 0.1 * share * gradients(before)[i]
        np.testing.assert_allclose(first[i], expected, rtol=1e-4, atol=1e-6)
        expected = first[i] - 0.05 * share * gradients(first)[i]
        np.testing.assert_allclose(model.get_weights()[i], expected, rtol=1e-4, atol=1e-6)
    assert rates


def test_the_average_is_the_one_worked_out_by_hand():
    settings = OptimizerSettings(name="sgd", learning_rate=RATE, ema=0.8)
    model = network()
    history = by_hand(model.get_weights(), [1] * 4, settings, 4)
    model.compile(build_optimizer(settings), "mse")
    learn(model, steps=4)
    for mine, theirs in zip(model.get_weights(), history[-1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)
    average = history[0]
    for weights in history[1:]:
        average = [0.8 * a + 0.2 * w for a, w in zip(average, weights, strict=True)]
    for mine, theirs in zip(averaged_weights(model), average, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)


def test_what_does_not_learn_has_no_average_but_comes_as_it_is():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(4, name="still"),
            keras.layers.Dense(2),
        ]
    )
    model.get_layer("still").trainable = False
    model.compile(build_optimizer(OptimizerSettings(learning_rate=RATE, ema=0.5)), "mse")
    learn(model, steps=4)
    averages = averaged_weights(model)
    weights = model.get_weights()
    assert len(averages) == len(weights) == len(model.weights)
    for variable, average, weight in zip(model.weights, averages, weights, strict=True):
        assert average.shape == weight.shape
        assert np.array_equal(average, weight) == (not variable.trainable), variable.path


def test_there_is_no_average_without_the_setting_or_before_the_first_step():
    model = network()
    model.compile(build_optimizer(OptimizerSettings()), "mse")
    learn(model, steps=1)
    assert averaged_weights(model) is None
    model = network()
    model.compile(build_optimizer(OptimizerSettings(ema=0.9)), "mse")
    model.optimizer.build(model.trainable_variables)
    assert averaged_weights(model) is None


@pytest.mark.parametrize("ema", [None, 0.9])
def test_its_state_can_be_kept_and_gone_on_with(ema):
    settings = OptimizerSettings(name="adamw", learning_rate=RATE, weight_decay=DECAY, ema=ema)

    def compiled():
        model = network()
        paths, _ = shares_of(model)
        model.compile(build_optimizer(settings, None, paths), "mse")
        model.optimizer.build(model.trainable_variables)
        return model

    straight = compiled()
    learn(straight, steps=4)
    first, second = compiled(), compiled()
    learn(first, steps=2)
    for mine, theirs in zip(
        [*second.variables, *second.optimizer.variables],
        [*first.variables, *first.optimizer.variables],
        strict=True,
    ):
        mine.assign(theirs)
    learn(second, steps=2)
    for mine, theirs in zip(second.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    if ema:
        pair = zip(averaged_weights(second), averaged_weights(straight), strict=True)
        for mine, theirs in pair:
            np.testing.assert_array_equal(mine, theirs)
