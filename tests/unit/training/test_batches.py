import random

import numpy as np
import pytest

from convscope.recipe import Recipe, resolve
from convscope.scale.devices import Devices
from convscope.training.batches import (
    Batches,
    Examples,
    balanced_order,
    epoch_order,
    order_of,
    validation_batches,
)
from convscope.types import Split


def numbered(n_images: int, images=None) -> Split:
    if images is None:
        images = np.arange(n_images, dtype="<u2").view(np.uint8).reshape(-1, 2, 1, 1)
    return Split(images, np.arange(n_images) % 7, np.arange(n_images).astype(str))


def numbers(images: np.ndarray) -> list[int]:
    return images.reshape(-1, 2).copy().view("<u2").ravel().tolist()


@pytest.mark.parametrize(("n_images", "batch_size"), [(1, 8), (8, 8), (9, 8), (300, 32), (5, 1)])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_image_comes_once_the_last_batch_may_be_short(n_images, batch_size, shuffled):
    order = epoch_order(n_images, 83, 0) if shuffled else None
    split = numbered(n_images)
    batches = Batches(split.images, split.labels, batch_size, order)
    parts = [batches[index] for index in range(len(batches))]
    sizes = [len(images) for images, _ in parts]
    assert sizes[:-1] == [batch_size] * (len(parts) - 1)
    assert 1 <= sizes[-1] <= batch_size
    seen = [number for images, _ in parts for number in numbers(images)]
    assert seen == (order.tolist() if shuffled else list(range(n_images)))
    assert sorted(seen) == list(range(n_images))
    for images, labels in parts:
        # Labels stay with their images, and pixels are raw.
        assert labels.tolist() == [number % 7 for number in numbers(images)]
        assert images.dtype == np.uint8
        assert images.shape[1:] == (2, 1, 1)


def test_a_memory_mapped_array_gives_the_same_batches(tmp_path):
    n_images = 50
    split = numbered(n_images)
    np.save(tmp_path / "images.npy", split.images)
    mapped = numbered(n_images, np.load(tmp_path / "images.npy", mmap_mode="r"))
    order = epoch_order(n_images, 1, 2)
    for wanted in (None, order):
        here = Batches(split.images, split.labels, 16, wanted)
        there = Batches(mapped.images, mapped.labels, 16, wanted)
        for index in range(len(here)):
            np.testing.assert_array_equal(there[index][0], here[index][0])
            np.testing.assert_array_equal(there[index][1], here[index][1])
            assert there[index][0].flags.c_contiguous
    assert isinstance(mapped.images, np.memmap)


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    first = epoch_order(100, 83, 3)
    np.random.default_rng(0).random(10)
    np.random.seed(5)  # noqa: NPY002 - the global generator must not matter
    np.testing.assert_array_equal(epoch_order(100, 83, 3), first)
    assert sorted(first) == list(range(100))
    others = [epoch_order(100, 83, 4), epoch_order(100, 84, 3), epoch_order(100, 3, 83)]
    for other in others:
        assert (other != first).any()


def test_the_order_stays_the_same_from_version_to_version():
    # A run that is resumed by a later convscope has to see the images in the same order.
    assert epoch_order(8, 83, 0).tolist() == [7, 1, 5, 0, 4, 6, 3, 2]
    assert epoch_order(8, 83, 1).tolist() == [6, 3, 7, 2, 1, 5, 4, 0]


def test_a_balanced_order_shows_each_class_equally_often_and_its_images_evenly():
    labels = np.repeat([0, 1, 2], [70, 25, 5])
    order = balanced_order(labels, 83, 3)
    np.testing.assert_array_equal(order, balanced_order(labels, 83, 3))
    assert (order != balanced_order(labels, 83, 4)).any()
    assert len(order) == 100
    assert sorted(np.bincount(labels[order]).tolist()) == [33, 33, 34]
    times = np.bincount(order, minlength=100)
    for index in range(3):
        shown = times[labels == index]
        assert shown.max() - shown.min() <= 1


def test_the_order_leaves_the_shared_random_numbers_alone():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - that one is meant
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    epoch_order(100, 83, 0)
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize(
    ("n_images", "batch_size", "shown"),
    [(20, 8, 24), (24, 8, 24), (25, 8, 32), (8, 8, 8), (5, 8, 5), (9, 1, 9)],
)
def test_the_last_batch_is_filled_up_with_the_first_images(n_images, batch_size, shown, balance):
    labels = np.arange(n_images) % 5
    settings = {"batch_size": batch_size, "balance": balance}
    plain, full = (
        order_of(resolve(Recipe(full_batches=wanted), settings), labels, 3)
        for wanted in (False, True)
    )
    assert len(plain) == n_images
    assert full.tolist() == [*plain, *plain[: shown - n_images]]
    batches = Batches(labels, labels, batch_size, full)
    assert batches.n_images == shown
    assert sum(len(batches[index][1]) for index in range(len(batches))) == shown


def test_the_last_touch_is_put_to_each_batch_with_its_number():
    split = numbered(20)

    def finish(inputs, labels, index):
        return inputs.astype("float32") + index, labels * 10 + index

    plain = Batches(split.images, split.labels, 8)
    touched = Batches(split.images, split.labels, 8, finish=finish)
    for index in range(3):
        np.testing.assert_array_equal(touched[index][0], plain[index][0].astype("float32") + index)
        np.testing.assert_array_equal(touched[index][1], plain[index][1] * 10 + index)


def test_examples_of_a_split_are_its_pixels_in_every_epoch():
    split = numbered(20)
    examples = Examples.of(split)
    assert len(examples) == 20
    assert examples.labels is split.labels
    assert examples.inputs(0) is examples.inputs(7) is split.images


def test_views_take_turns():
    views = [np.full(5, view) for view in range(3)]
    examples = Examples.alternating(views, np.arange(5))
    assert [examples.inputs(epoch)[0] for epoch in range(7)] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("n_processes", [2, 3])
def test_processes_together_load_the_batches_of_one(n_processes, mixed):
    labels = np.arange(26)
    order = epoch_order(26, 83, 0)

    def finish(inputs, labels, index):
        # As MixUp does, if an image may depend on the whole batch.
        return (inputs + inputs.sum() if mixed else inputs + index), labels

    whole = Batches(labels, labels, 12, order, finish)
    parts = [
        Batches(labels, labels, 12, order, finish, Devices(n_processes, n_processes, index), mixed)
        for index in range(n_processes)
    ]
    for index in range(2):  # 12 images each
        assert parts[0].size(index) == whole.size(index) == 12
        loaded = [part[index] for part in parts]
        assert [len(inputs) for inputs, _ in loaded] == [12 // n_processes] * n_processes
        for kind in (0, 1):
            together = np.concatenate([batch[kind] for batch in loaded])
            np.testing.assert_array_equal(together, whole[index][kind])


def test_the_last_batch_is_loaded_whole_where_it_cannot_be_shared():
    labels = np.arange(27)
    for index in range(2):
        batches = Batches(labels, labels, 12, devices=Devices(2, 2, index))
        assert batches.size(2) == 3
        assert batches[2][1].tolist() == [24, 25, 26]


def test_validation_batches_can_be_shared_but_for_the_last():
    val = Examples(lambda epoch: np.arange(1030), np.arange(1030))
    batches = validation_batches(val, devices=Devices(4, 2, 1))
    # A third of 1,030 is 344; of the last, 342, each process loads all.
    assert [batches.size(index) for index in range(len(batches))] == [344, 344, 342]
    assert [len(batches[index][1]) for index in range(len(batches))] == [172, 172, 342]
