"""Answering only when sure."""

import numpy as np
import pytest

from convscope.evaluation.selective import Selection, coverage_curve, threshold_for


def test_images_of_equal_confidence_are_answered_together():
    sure = np.array([0.9, 0.9, 0.6, 0.6], np.float32)
    curve = coverage_curve(np.stack([sure, 1 - sure], axis=1), np.array([0, 1, 0, 0]))
    assert [(each.coverage, each.accuracy) for each in curve] == [(1.0, 0.75), (0.5, 0.5)]
    assert [each.threshold for each in curve] == pytest.approx([0.6, 0.9])


def test_the_threshold_is_the_lowest_that_reaches_the_accuracy():
    curve = [Selection(0.5, 1.0, 0.75), Selection(0.7, 0.6, 0.9), Selection(0.9, 0.2, 1.0)]
    assert threshold_for(curve, 0.75) is curve[0]
    assert threshold_for(curve, 0.76) is curve[1]
    assert threshold_for(curve, 0.9) is curve[1]
    assert threshold_for(curve, 1.0) is curve[2]
    assert threshold_for(curve[:2], 0.95) is None
