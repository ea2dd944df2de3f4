"""Images in several arrays, indexed like one; parts of a dataset."""

import numpy as np
import pytest

from convscope.types import Dataset, ImageView, SealedSplit, Split, Stacked

RNG = np.random.default_rng(83)
ROWS = RNG.integers(0, 256, (7, 4, 4, 1)).astype(np.uint8)
PARTS = [ROWS[:3], ImageView(ROWS, np.arange(3, 4)), ROWS[4:]]


@pytest.mark.parametrize(
    "key",
    [slice(None), slice(2, 5), slice(0, 0), slice(None, None, -2), np.array([6, 0, 3, 3])],
    ids=["all", "across", "none", "backwards", "some"],
)
def test_stacked_arrays_are_indexed_like_one(key):
    np.testing.assert_array_equal(Stacked(PARTS)[key], ROWS[key])


def test_stacked_arrays_have_the_form_of_one():
    stacked = Stacked(PARTS)
    assert (stacked.shape, stacked.ndim, stacked.dtype) == (ROWS.shape, 4, ROWS.dtype)
    np.testing.assert_array_equal(np.asarray(stacked), ROWS)
    np.testing.assert_array_equal(np.asarray(stacked, np.float32), ROWS.astype(np.float32))
    np.testing.assert_array_equal(np.stack(list(stacked)), ROWS)


def test_joined_splits_hold_all_images_with_their_names():
    ids, labels = np.array(list("abcdefg")), np.arange(7)
    whole = Split(ROWS, labels, ids)
    parts = [whole.select(np.arange(3)), whole.select(np.arange(3, 7))]
    joined = Split.joined(parts)
    assert joined.hashes == whole.hashes
    np.testing.assert_array_equal(joined.ids, ids)
    chosen = joined.select(np.array([5, 0]))
    np.testing.assert_array_equal(chosen.images, ROWS[[5, 0]])
    np.testing.assert_array_equal(chosen.labels, [5, 0])
    assert Split.joined([whole]) is whole


def test_the_parts_of_a_dataset_are_those_that_there_are_in_order():
    whole = Split(ROWS, np.arange(7), np.array(list("abcdefg")))
    test = SealedSplit(whole)
    assert Dataset("made", ("a",), whole).parts == {"train": whole}
    assert list(Dataset("made", ("a",), whole, test=test).parts) == ["train", "test"]
    parts = Dataset("made", ("a",), whole, whole, test).parts
    assert list(parts) == ["train", "val", "test"]
    assert parts["test"] is test
    assert test.unjudged() is whole
