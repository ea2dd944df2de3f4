"""Shares of classes and of confidences."""

import numpy as np
import pytest

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


def test_where_an_answer_may_name_several_classes_each_is_counted():
    probs = np.array([[0.7, 0.6, 0.1], [0.2, 0.6, 0.1], [0.2, 0.3, 0.1]], np.float32)
    found = shares_of(probs, [0.5, 0.3, 0.5])
    assert found.classes == (pytest.approx(1 / 3, abs=1e-6), 1.0, 0.0)
    assert sum(found.confidences) == pytest.approx(1, abs=1e-5)


def test_drift_is_the_share_of_answers_that_would_have_to_be_others():
    assert drift([1, 0], [0, 1]) == 1
    assert drift([0.3, 0.7], [0.3, 0.7]) == 0
    assert drift([1, 1], [1, 0], exclusive=False) == 1
    assert drift([1, 0.5], [1, 0.5], exclusive=False) == 0
