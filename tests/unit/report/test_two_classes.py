"""What the page of a run says where there are two classes."""

import numpy as np

from convscope.report.page import Picture, Points
from convscope.report.two_classes import roc_blocks


def probs_of(second: list[float]) -> np.ndarray:
    return np.array([[1 - p, p] for p in second], np.float32)


def test_thresholds_are_of_unseen_images_and_what_they_do_of_the_evaluated_ones():
    unseen = probs_of([0.9, 0.25, 0.1, 0.2, 0.3]), np.array([1, 1, 0, 0, 0])
    judged = probs_of([0.8, 0.26, 0.24, 0.1, 0.4, 0.6]), np.array([1, 1, 1, 0, 0, 0])
    blocks = roc_blocks(*judged, ["fine", "defect"], *unseen, "validation images", fitted=False)
    picture, points = blocks
    assert isinstance(picture, Picture)
    assert isinstance(points, Points)
    # Five of the nine pairs are in order; both classes are as rare, so the first is drawn.
    assert picture.caption.startswith("ROC AUC 0.556: in 55.6% of all pairs of a fine image and a")
    ((said, about),) = points.items
    assert said == (
        "With a threshold of 0.25 for defect, 66.7% of the defect images are detected, and 66.7% "
        "of the fine images are false alarms."
    )
    # Of two images 95 % are both, as 99 % are; and fine is detected by the plain rule.
    assert about == "The threshold was chosen on 2 validation images, to detect 95%."


def test_thresholds_on_the_images_of_their_choice_flatter():
    own = probs_of([0.9, 0.0004321, 0.0001]), np.array([1, 1, 0])
    _, points = roc_blocks(*own, ["fine", "defect"], *own, "validation images", fitted=True)
    ((said, _),) = points.items
    assert said.startswith("With a threshold of 0.000432 for defect, 100.0% of the defect images")
    assert said.endswith(
        "are false alarms (flattering: its thresholds were chosen on these images)."
    )


def test_there_is_no_curve_without_images_of_both_classes():
    part = probs_of([0.8, 0.3]), np.array([1, 0])
    single = probs_of([0.8, 0.3]), np.array([1, 1])
    for judged, unseen in ((part, single), (single, part)):
        assert (
            roc_blocks(*judged, ["fine", "defect"], *unseen, "validation images", fitted=False)
            == []
        )
