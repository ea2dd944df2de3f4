"""Rows of features with the largest cosines, in parts."""

import numpy as np

from convscope.evaluation import neighbours
from convscope.evaluation.neighbours import most_similar


def test_the_nearest_are_those_of_the_largest_cosine_in_order(monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", 3)
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(2, 5)).astype(np.float32)
    features = rng.normal(size=(11, 5)).astype(np.float32)
    places, cosines = most_similar(queries, [features[:4], features[4:]], 3)
    for query, rows, values in zip(queries, places, cosines, strict=True):
        by_hand = features @ query / np.linalg.norm(query) / np.linalg.norm(features, axis=1)
        np.testing.assert_array_equal(rows, np.argsort(-by_hand)[:3])
        np.testing.assert_allclose(values, by_hand[rows], rtol=1e-5)


def test_length_does_not_count_and_nothing_is_like_zeros():
    features = np.array([[0, 0], [3, 4], [4, 3], [-3, -4]], np.float32)
    places, cosines = most_similar(np.array([[30, 40]], np.float32), [features], 9)
    assert places.tolist() == [[1, 2, 0, 3]]
    np.testing.assert_allclose(cosines, [[1, 0.96, 0, -1]], atol=1e-6)
