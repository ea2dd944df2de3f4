import keras
import numpy as np
import pytest
from keras import layers

from convscope.models import MODELS
from convscope.training import passes
from convscope.training.batches import Batches
from convscope.training.halves import pays_in_halves
from convscope.training.objective import build_state
from convscope.training.passes import steps_on_one_device, train_epoch
from convscope.types import InputSpec

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="halves are TensorFlow's"
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (170, 8, 8, 3)).astype("uint8")
LABELS = RNG.integers(0, 4, 170)


def network(*, soft: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            # The sum of the squares belongs to each step once, not once for each half.
            layers.Conv2D(4, 3, activation="relu", kernel_regularizer=keras.regularizers.L2(0.1)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    kind = "categorical_crossentropy" if soft else "sparse_categorical_crossentropy"
    # Not Adam, which turns a rounding error of a tiny gradient into a whole step.
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), kind, metrics=["accuracy"])
    build_state(model, 4, flags=soft)
    return model


@pytest.mark.parametrize("soft", [False, True])
def test_steps_in_halves_are_those_of_keras(monkeypatch, soft):
    labels = np.eye(4, dtype="float32")[LABELS] * 0.8 + 0.05 if soft else LABELS
    halved: list[int] = []
    in_halves = passes.train_in_halves
    monkeypatch.setattr(
        passes,
        "train_in_halves",
        lambda model, batch: (halved.append(1), in_halves(model, batch))[1],
    )
    mine, theirs = network(soft=soft), network(soft=soft)
    steps = steps_on_one_device(mine)
    batches = Batches(IMAGES, labels, 67)  # halves of 33 and 34 images; the last batch has 36
    for _ in range(3):
        learnt = train_epoch(steps, batches)
        past = theirs.fit(IMAGES, labels, batch_size=67, shuffle=False, verbose=0).history
        assert learnt.loss == pytest.approx(past["loss"][-1], rel=1e-5)
        assert learnt.accuracy == pytest.approx(past["accuracy"][-1])
    assert halved
    for one, other in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_same_weights_in_each_repetition():
    def trained() -> list[np.ndarray]:
        model = network()
        train_epoch(steps_on_one_device(model), Batches(IMAGES, LABELS, 67))
        return model.get_weights()

    for one, other in zip(trained(), trained(), strict=True):
        np.testing.assert_array_equal(one, other)


def convolutions(*between: layers.Layer, dtype: str = "float32", trainable: bool = True):
    convolution = layers.Conv2D(4, 3, dtype=dtype, trainable=trainable)
    return keras.Sequential(
        [keras.Input((8, 8, 3)), convolution, *between, layers.Flatten(), layers.Dense(4)]
    )


class Centred(layers.Layer):
    def call(self, inputs):
        return inputs - keras.ops.mean(inputs, axis=0)


def test_only_where_it_is_the_same_and_quicker():
    assert pays_in_halves(convolutions())
    assert pays_in_halves(convolutions(layers.Dropout(0.5), layers.LayerNormalization()))
    # Statistics of the batch
    assert not pays_in_halves(convolutions(layers.BatchNormalization()))
    assert not pays_in_halves(
        keras.Sequential([keras.Input((8, 8, 3)), convolutions(layers.BatchNormalization())])
    )
    assert not pays_in_halves(convolutions(Centred()))
    assert not pays_in_halves(convolutions(layers.Lambda(lambda x: x - x[:1])))
    assert not pays_in_halves(convolutions(layers.TimeDistributed(layers.BatchNormalization())))
    # No gain
    assert not pays_in_halves(convolutions(dtype="mixed_bfloat16"))
    assert not pays_in_halves(convolutions(trainable=False))
    assert not pays_in_halves(keras.Sequential([keras.Input((8,)), layers.Dense(4)]))


@pytest.mark.parametrize("name", ["cnn-sequential", "cnn-functional", "cnn-subclassing"])
def test_the_tutorial_s_network_trains_so_in_each_style(name):
    assert pays_in_halves(MODELS.get(name)(InputSpec(32, 32, 3), 10))
