from contextlib import nullcontext
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from convscope.errors import ConfigError
from convscope.models import MODELS
from convscope.models.preprocessing import preprocessing_layers, working_at
from convscope.recipe import FilterSettings, ProgressiveSettings
from convscope.training.batches import Batches
from convscope.training.objective import build_state
from convscope.training.passes import steps_on_one_device, train_epoch
from convscope.training.progressive import (
    Done,
    n_smaller,
    relative_times,
    share_of_pixels,
    smaller_size,
)
from convscope.types import InputSpec

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 32, 24, 3)).astype("uint8")
LABELS = RNG.integers(0, 4, 24)


def network(height=32, width=24, *, flat=False) -> keras.Model:
    keras.utils.set_random_seed(0)
    spec = InputSpec(height, width, 3, "unit")
    pixels = keras.Input((None, None, 3))
    x = pixels
    for layer in preprocessing_layers(spec):
        x = layer(x)
    x = keras.layers.Conv2D(5, 3, name="conv")(x)
    x = keras.layers.Flatten()(x) if flat else keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(4, activation="softmax")(x)
    model = keras.Model(pixels, x, name="net")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    build_state(model, 4, flags=False)
    return model


@pytest.mark.parametrize(
    ("side", "scale", "smaller"),
    [
        (32, 0.75, 24),
        (31, 0.75, 23),
        (28, 0.75, 21),
        (64, 0.5, 32),
        (20, 0.75, 16),
        (224, 0.5, 112),
    ],
)
def test_sides_are_a_share_and_at_least_16_pixels(side, scale, smaller):
    model = network(side, 224)
    other = round(224 * scale)
    assert smaller_size(ProgressiveSettings(scale=scale), model) == (smaller, other)
    assert share_of_pixels(model, (smaller, other)) == pytest.approx(smaller * other / (side * 224))


@pytest.mark.parametrize(("side", "scale"), [(8, 0.75), (16, 0.5), (32, 1.0)])
def test_no_image_is_smaller_if_it_is_small_already(side, scale):
    model = network(side, side)
    assert smaller_size(ProgressiveSettings(scale=scale), model) is None
    assert share_of_pixels(model, None) == 1


def test_a_network_of_one_size_is_refused_in_one_line():
    for model in (network(flat=True), MODELS.get("cnn-functional")(InputSpec(32, 24, 3), 4)):
        with pytest.raises(ConfigError, match=r"works at 32x24 pixels only.*fast-medium$"):
            smaller_size(ProgressiveSettings(scale=0.75), model)


def test_each_fast_network_works_at_the_smaller_size():
    for name in ("fast-small", "fast-medium", "fast-large", "fast-deep"):
        for side in (17, 28, 32, 64):
            model = MODELS.get(name)(InputSpec(side, side, 3), 4)
            assert smaller_size(ProgressiveSettings(scale=0.5), model) is not None


@pytest.mark.parametrize(
    ("scale", "until", "epochs", "smaller"),
    [
        (0.75, 0.5, 12, 6),
        (0.75, 0.5, 11, 5),
        (0.75, 0.5, 1, 0),
        (0.75, 0.29, 100, 29),
        (0.75, 0.99, 3, 2),
        (1.0, 0.5, 12, 0),
    ],
)
def test_the_first_share_of_the_epochs_is_of_smaller_images(scale, until, epochs, smaller):
    assert n_smaller(ProgressiveSettings(scale=scale, until=until), epochs) == smaller


@pytest.mark.parametrize(
    ("epochs", "done", "smaller"),
    [
        (12, Done(3, 3), 6),
        (4, Done(3, 3), 3),  # fewer epochs than planned: those are over
        (30, Done(12, 6), 6),  # more epochs after the fact: none is smaller again
        (30, Done(6, 6), 15),
        (8, Done(5, 0), 0),
    ],
)
def test_after_an_epoch_at_full_size_none_is_smaller_again(epochs, done, smaller):
    settings = ProgressiveSettings(scale=0.75)
    assert n_smaller(settings, epochs, done) == smaller
    config = SimpleNamespace(progressive=settings, filter=FilterSettings())
    times = relative_times(config, epochs, 0.5, done=done)
    assert times == [0.5] * smaller + [1] * (epochs - smaller)


def test_a_network_that_does_not_resize_is_refused_in_one_line():
    inputs = keras.Input((32, 24, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4)(x), name="net")
    with pytest.raises(ConfigError, match=r"no step of its own that resizes.*scale=1$"):
        smaller_size(ProgressiveSettings(scale=0.75), model)


def test_the_time_of_an_epoch_is_that_of_its_images_and_of_their_size():
    config = SimpleNamespace(
        progressive=ProgressiveSettings(scale=0.75, until=0.4),
        filter=FilterSettings(share=0.5, start=0.6),
    )
    assert relative_times(config, 5, 0.7) == [0.7, 0.7, 1, 0.5, 0.5]
    config.progressive = ProgressiveSettings()
    assert relative_times(config, 5, 0.7) == [1, 1, 1, 0.5, 0.5]


def test_a_smaller_step_learns_what_a_network_of_that_size_learns():
    mine, theirs = network(32, 24), network(24, 18)
    for size, each in (((24, 18), mine), (None, theirs)):
        steps = steps_on_one_device(each)
        learnt = train_epoch(steps, Batches(PIXELS, LABELS, 8), size=size)
        assert np.isfinite(learnt.loss)
    for one, other in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_steps_of_both_sizes_take_turns_with_the_same_weights():
    model, reference = network(), network()
    steps = steps_on_one_device(model)
    batches = Batches(PIXELS, LABELS, 8)
    sizes = [(24, 18), None, (24, 18), None]
    for size in sizes:
        train_epoch(steps, batches, size=size)
    for size in sizes:
        # New steps each time: nothing that was compiled before.
        train_epoch(steps_on_one_device(reference), batches, size=size)
    for one, other in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_model_has_its_own_size_again_even_after_a_failure():
    model = network()
    convolution = model.get_layer("conv")
    seen: list[tuple[int, ...]] = []
    usual = convolution.call
    convolution.call = lambda inputs: (seen.append(tuple(inputs.shape[1:3])), usual(inputs))[1]
    for context in (working_at(model, (20, 15)), nullcontext(), working_at(model, None)):
        with context:
            model(PIXELS[:1])
    with pytest.raises(ZeroDivisionError), working_at(model, (20, 15)):
        raise ZeroDivisionError
    model(PIXELS[:1])
    assert seen == [(20, 15), (32, 24), (32, 24), (32, 24)]
