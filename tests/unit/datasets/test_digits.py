"""scikit-learn's digits."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits as load_bunch

from convscope.datasets import DataRequest
from convscope.datasets.digits import load_digits
from convscope.errors import MissingExtraError


def test_digits_are_scaled_to_bytes():
    dataset, bunch = load_digits(DataRequest()), load_bunch()
    images = dataset.train.images
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    for grey in range(17):
        there = images[bunch.images == grey]
        assert np.unique(there).tolist() == [round(grey * 255 / 16)]
    np.testing.assert_array_equal(dataset.train.labels, bunch.target)


def test_digits_have_no_test_part_and_stable_names():
    dataset = load_digits(DataRequest())
    assert dataset.val is None
    assert dataset.test is None
    assert dataset.train.ids[0] == "train/0000"
    assert dataset.train.ids[-1] == "train/1796"
    assert dataset.class_names == tuple("0123456789")
    assert dataset.train.labels.dtype == np.int64
    assert dataset.provenance["licence"] == "CC BY 4.0"
    assert dataset.provenance["checksum"] == load_digits(DataRequest()).provenance["checksum"]


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'convscope\[train\]'"):
        load_digits(DataRequest())
