"""Steps on JAX, on one device and on a mesh of a single one; flow/test_hosts.py has more."""

import keras
import numpy as np
import pytest

from convscope.scale.devices import ONE
from convscope.training.batches import Batches
from convscope.training.objective import build_state
from convscope.training.passes import evaluate_epoch, steps_on_one_device, train_epoch
from convscope.training.steps import ByKeras

if keras.config.backend() != "jax":
    pytest.skip("only JAX trains on several devices", allow_module_level=True)

from convscope.training.parallel import ManyDevices

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
LABELS = RNG.integers(0, 4, 40)


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(8),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(4, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    build_state(model, 4, flags=False)
    return model


@pytest.mark.parametrize("kind", [steps_on_one_device, lambda model: ManyDevices(model, ONE)])
def test_the_steps_are_those_of_keras(kind):
    mine, theirs = network(), network()
    batches = Batches(X, LABELS, 16)
    steps, alone = kind(mine), ByKeras(theirs)
    for _ in range(3):
        learnt, expected = train_epoch(steps, batches), train_epoch(alone, batches)
        assert learnt == pytest.approx(expected, rel=1e-5)
    judged = evaluate_epoch(steps, batches)
    assert judged == pytest.approx(evaluate_epoch(alone, batches), rel=1e-5)
    assert int(mine.optimizer.iterations) == 9
    for of in (lambda model: model.variables, lambda model: model.optimizer.variables):
        for one, other in zip(of(mine), of(theirs), strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-6)


def test_whoever_stops_a_pass_leaves_a_model_that_can_be_used():
    model, batches = network(), Batches(X, LABELS, 16)
    before = [weight.copy() for weight in model.get_weights()]

    def stop(*news):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_epoch(steps_on_one_device(model), batches, stop)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
