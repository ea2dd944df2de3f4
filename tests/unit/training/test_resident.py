"""Images in an accelerator's memory; here JAX's CPU, with the same operations, stands for it."""

import keras
import numpy as np
import pytest

from convscope.recipe import AugmentSettings
from convscope.training import resident
from convscope.training.augment import AugmentedView
from convscope.training.batches import Batches, epoch_order
from convscope.training.objective import build_state
from convscope.training.passes import evaluate_epoch, steps_on_one_device, train_epoch
from convscope.types import ImageView, Stacked

if keras.config.backend() != "jax":
    pytest.skip("only JAX keeps images on the device", allow_module_level=True)

from convscope.training.resident import Resident

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 10, 20, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


def batches(inputs, **options) -> Batches:
    return Batches(inputs, LABELS, 16, epoch_order(40, 83, 0), **options)


def view(images=IMAGES, **settings) -> AugmentedView:
    return AugmentedView(images, AugmentSettings(**settings), 83, 3)


def is_on_device(given: Batches) -> bool:
    return not isinstance(given[0][0], np.ndarray)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"flip": True},
        {"crop": 0.2},
        {"cutout": 0.3},
        {"flip": True, "crop": 0.2, "cutout": 0.3},
        {"crop": 0.95, "cutout": 0.95},
        {"turn": True},
        {"flip": True, "turn": True, "crop": 0.2, "cutout": 0.3},
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_host(settings, channels):
    images = IMAGES[:, :, :10] if "turn" in settings else IMAGES
    inputs = view(images[..., :channels], **settings)
    expected, found = batches(inputs), Resident(10**9).placed(batches(inputs))
    assert is_on_device(found)
    for index in range(3):  # the last batch holds 8
        for mine, theirs in zip(found[index], expected[index], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert found[index][0].dtype == np.uint8


@pytest.mark.parametrize("order", [None, epoch_order(40, 83, 0)])
def test_arrays_and_views_of_arrays_are_read_alike(order):
    features = np.random.default_rng(1).normal(size=(40, 7)).astype("float32")
    for inputs in (features, ImageView(IMAGES, np.arange(40)[::-1])):
        expected = Batches(inputs, LABELS, 16, order)
        found = Resident(10**9).placed(expected)
        assert is_on_device(found)
        for index in range(3):
            np.testing.assert_array_equal(found[index][0], expected[index][0])


def test_images_are_put_there_once_and_only_while_there_is_room():
    place = Resident(int(1.5 * IMAGES.nbytes))
    assert is_on_device(place.placed(batches(view(crop=0.2))))
    assert is_on_device(place.placed(batches(view(flip=True))))
    assert is_on_device(place.placed(batches(IMAGES)))
    assert not is_on_device(place.placed(batches(IMAGES.copy())))


@pytest.mark.parametrize("case", ["mixed", "randaugment", "several files"])
def test_what_is_made_on_the_host_stays_there(case):
    if case == "mixed":
        given = batches(view(flip=True), mixed=True)
    elif case == "randaugment":
        given = batches(view(flip=True, randaugment=1))
    else:
        given = batches(Stacked([IMAGES[:30], IMAGES[30:]]))
    assert Resident(10**9).placed(given) is given


def test_a_cpu_has_its_images_already():
    given = batches(IMAGES)
    assert Resident().placed(given) is given
    assert resident._room() == 0


def trained():
    """Return all that was told during two epochs, and the weights after them."""
    keras.utils.set_random_seed(83)
    model = keras.Sequential(
        [
            keras.Input((10, 20, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    build_state(model, 4, flags=False)
    steps, told = steps_on_one_device(model), []
    for epoch in range(2):
        inputs = AugmentedView(IMAGES, AugmentSettings(flip=True, crop=0.2), 83, epoch)
        train_epoch(steps, batches(inputs), lambda *news: told.append(news))
        told.append(evaluate_epoch(steps, Batches(IMAGES, LABELS, 25)))
    return told, model.get_weights(), is_on_device(steps.placed(batches(IMAGES)))


def test_training_and_judging_give_the_same_numbers(monkeypatch):
    told, weights, there = trained()
    assert not there
    assert [size for size, *_ in told[:3]] == [16, 16, 8]
    monkeypatch.setattr(resident, "_room", lambda: 10**9)
    same, as_well, there = trained()
    assert there
    assert same == told
    for one, other in zip(weights, as_well, strict=True):
        np.testing.assert_array_equal(one, other)
