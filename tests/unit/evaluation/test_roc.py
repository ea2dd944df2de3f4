"""The ROC curve of one class among two, and thresholds that detect a share of it."""

import numpy as np
import pytest

from convscope.evaluation.metrics import compute_metrics
from convscope.evaluation.roc import (
    OperatingPoint,
    operating_point,
    roc_auc,
    roc_curve,
    threshold_to_detect,
)
from convscope.types import Predictions

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
POSITIVE = np.array([True, True, False, True, False, False, True, False])


def test_the_area_is_the_share_of_pairs_in_order():
    pairs = [a > b for a in SCORES[POSITIVE] for b in SCORES[~POSITIVE]]
    assert roc_auc(SCORES, POSITIVE) == pytest.approx(np.mean(pairs))
    assert roc_auc(np.ones(8), POSITIVE) == 0.5
    false_alarms, detected = roc_curve(SCORES, POSITIVE)
    assert np.trapezoid(detected, false_alarms) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("share", "threshold", "detected", "false_alarms"),
    [(0.25, 0.9, 0.25, 0), (0.5, 0.8, 0.5, 0), (0.51, 0.6, 0.75, 0.25), (1, 0.3, 1, 0.75)],
)
def test_a_threshold_detects_what_was_asked_with_the_fewest_false_alarms(
    share, threshold, detected, false_alarms
):
    assert threshold_to_detect(SCORES[POSITIVE], share) == threshold
    point = OperatingPoint(threshold, detected, false_alarms)
    assert operating_point(SCORES, POSITIVE, threshold) == point


def test_a_share_that_is_no_exact_binary_fraction_is_no_image_too_many():
    scores = np.arange(100) / 100
    assert threshold_to_detect(scores, 0.07) == 0.93


@pytest.mark.parametrize(("labels", "has_it"), [([0, 0, 1], True), ([0, 0, 0], False)])
def test_metrics_of_two_classes_have_the_area_if_both_have_images(labels, has_it):
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6]], np.float32)
    said = Predictions(probs, np.array(labels), np.array(["a", "b", "c"]), "val")
    metrics = compute_metrics(said, ["fine", "defect"])
    assert metrics.get("roc_auc") == (0.5 if has_it else None)
