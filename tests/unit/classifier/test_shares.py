"""Shares of classes and of confidences."""

import numpy as np

from convscope.classifier.shares import CONFIDENCES, Shares, drift, shares_of


def test_answers_are_counted_by_class_and_by_interval_of_confidence():
    probs = np.array([[0.7, 0.3, 0], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3], [0, 0, 1 + 1e-6]])
    found = shares_of(probs.astype(np.float64))
    assert (found.n_images, found.classes) == (4, (0.5, 0.0, 0.5))
    assert dict(zip(CONFIDENCES, found.confidences, strict=True)) == {
        **dict.fromkeys(CONFIDENCES, 0),
        **{0.4: 0.25, 0.7: 0.5, 1: 0.25},
    }
    assert shares_of(probs[:0]) == Shares()


def test_drift_is_the_share_of_answers_that_would_have_to_be_others():
    assert drift([1, 0], [0, 1]) == 1
    assert drift([0.3, 0.7], [0.3, 0.7]) == 0
