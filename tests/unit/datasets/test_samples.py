import numpy as np
import pytest

from convscope.datasets.samples import FIRST, N_IMAGES, sample_images
from convscope.types import Dataset, Split


def dataset_of(n_images: int) -> Dataset:
    images = np.arange(n_images, dtype="<u2").view(np.uint8).reshape(-1, 2, 1, 1)
    ids = np.arange(n_images).astype(str)
    return Dataset("some", ("a", "b", "c"), Split(images, np.arange(n_images) % 3, ids))


@pytest.mark.parametrize(
    ("n_images", "first", "count"),
    [(1000, 190, 20), (210, 190, 20), (209, 0, 20), (20, 0, 20), (7, 0, 7), (1, 0, 1)],
)
def test_images_190_to_209_where_there_are_so_many(n_images, first, count):
    images, names = sample_images(dataset_of(n_images))
    numbers = images.reshape(-1, 2).copy().view("<u2").ravel()
    assert numbers.tolist() == list(range(first, first + count))
    assert names == ["abc"[number % 3] for number in numbers]


def test_these_are_the_tutorials():
    # Its grid: idx - 10 to idx + 10 with idx 200.
    assert range(FIRST, FIRST + N_IMAGES) == range(200 - 10, 200 + 10)
