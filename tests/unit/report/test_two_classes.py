"""What the page of a run says where there are two classes."""

import numpy as np

from convscope.report.page import Picture, Points
from convscope.report.two_classes import roc_blocks


def probs_of(second: list[float]) -> np.ndarray:
    return np.array([[1 - p, p] for p in second], np.float32)


def test_thresholds_are_of_unseen_images_and_what_they_do_of_the_evaluated_ones():
    unseen = probs_of([0.9, 0.25, 0.1, 0.2, 0.3]), np.array([1, 1, 0, 0, 0])
    judged = probs_of([0.8, 0.26, 0.24, 0.1, 0.4, 0.6]), np.array([1, 1, 1, 0, 0, 0])
    blocks = roc_blocks(*judged, ["fine", "defect"], *unseen, "validation images")
    picture, points = blocks
    assert isinstance(picture, Picture)
    assert isinstance(points, Points)
    # Five of the nine pairs are in order; both classes are as rare, so the first is drawn.
    assert picture.caption.startswith("ROC AUC 0.556: in 55.6% of all pairs of a fine image and a")
    (first, about), second = points.items
    assert first == (
        "With a threshold of 25.0% for defect, 66.7% of the defect images are detected, and 66.7% "
        "of the fine images are false alarms."
    )
    assert about == "The threshold was chosen on 2 validation images, to detect 95%."
    assert second[1].endswith("to detect 99%.")
    assert len(points.items) == 2, "fine is detected by the plain rule"


def test_there_is_no_curve_without_images_of_both_classes():
    part = probs_of([0.8, 0.3]), np.array([1, 0])
    single = probs_of([0.8, 0.3]), np.array([1, 1])
    for judged, unseen in ((part, single), (single, part)):
        assert roc_blocks(*judged, ["fine", "defect"], *unseen, "validation images") == []
