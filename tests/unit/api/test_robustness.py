"""Which images are corrupted."""

import numpy as np
import pytest

from convscope.api.robustness import _taken
from convscope.errors import DataError
from convscope.types import Dataset, SealedSplit, Split


def images_of(labels: np.ndarray) -> Split:
    ids = np.arange(len(labels)).astype(str)
    return Split(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, ids)


def test_images_without_any_class_are_refused_before_the_test_images_are_opened():
    labels = np.zeros((9, 2), np.uint8)
    labels[1] = 1
    part, none = images_of(labels), images_of(np.zeros((3, 2), np.uint8))
    data = Dataset("some", ("cat", "dog"), part, none, SealedSplit(part), {})
    assert len(_taken(data, "test", 9)) == 9
    with pytest.raises(DataError, match="none of the 3 test images that would be taken"):
        _taken(data, "test", 3)
    with pytest.raises(DataError, match="no validation image of some has any class"):
        _taken(data, "val", 3)
