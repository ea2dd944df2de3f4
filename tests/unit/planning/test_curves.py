"""Efforts for a time or an accuracy."""

import pytest

from convscope.planning.curves import (
    CURVE_IMAGES,
    contenders,
    effort_for_accuracy,
    effort_for_time,
)

CURVES = {"small": {4: 0.8, 8: 0.88, 16: 0.9}, "large": {4: 0.86, 8: 0.92, 16: 0.94}}
SPEEDS = {"small": 10.0, "large": 40.0}


def test_more_time_is_spent_on_more_epochs_then_on_a_larger_network():
    efforts = [effort_for_time(CURVES, SPEEDS, CURVE_IMAGES, t) for t in (45, 85, 170, 330, 5000)]
    assert [(p.model, p.epochs) for p in efforts] == [
        ("small", 4),
        ("small", 8),
        ("small", 16),
        ("large", 8),
        ("large", 16),
    ]
    assert [p.accuracy for p in efforts] == sorted(p.accuracy for p in efforts)
    assert all(p.seconds == p.epochs * SPEEDS[p.model] for p in efforts)


@pytest.mark.parametrize(
    ("accuracy", "networks"),
    [
        # As many epochs of the larger network are never quicker.
        (0.8, ["small"]),
        (0.86, ["small", "large"]),
        (0.94, ["large"]),
        (0.95, []),
    ],
)
def test_only_networks_that_may_be_the_quickest_are_in_question(accuracy, networks):
    assert list(contenders(CURVES, accuracy)) == networks


def test_what_comes_after_training_is_taken_off():
    assert (
        effort_for_time(
            CURVES, SPEEDS, CURVE_IMAGES, 85, overhead_s={"small": 15, "large": 60}
        ).epochs
        == 7
    )


def test_between_two_measurements_accuracy_grows_with_the_logarithm_of_epochs():
    between = effort_for_time({"small": {4: 0.8, 16: 0.9}}, SPEEDS, CURVE_IMAGES, 85)
    assert between.epochs == 8
    assert between.accuracy == pytest.approx(0.85)
    # 16 epochs of half as many images are as much training.
    curve = {"small": {4: 0.8, 16: 0.9}}
    half = effort_for_time(curve, SPEEDS, CURVE_IMAGES // 2, 165)
    assert half.epochs == 16
    assert half.accuracy == pytest.approx(0.85)


def test_fewer_images_are_seen_more_often():
    effort = effort_for_time(CURVES, {"small": 0.1, "large": 0.4}, CURVE_IMAGES // 100, 1e6)
    assert (effort.model, effort.epochs) == ("large", 1600)
    # One epoch of ten times as many is more than was measured, and the least that there is.
    effort = effort_for_time({"small": {1: 0.8}}, SPEEDS, 10 * CURVE_IMAGES, 1e6)
    assert (effort.epochs, effort.most_epochs, effort.accuracy) == (1, 1, 0.8)


def test_however_short_the_time_there_is_an_epoch():
    effort = effort_for_time(
        CURVES, SPEEDS, CURVE_IMAGES, -5, overhead_s={"small": 10, "large": 40}
    )
    assert effort.epochs == 1
    assert effort.accuracy is None  # nobody knows
    # Of the network that sees most images in that time, wherever it comes.
    assert effort.model == "small"
    turned = dict(reversed(CURVES.items()))
    assert effort_for_time(turned, SPEEDS, CURVE_IMAGES, 30).model == "small"


def test_the_quickest_that_reached_an_accuracy():
    effort = effort_for_accuracy(CURVES, SPEEDS, CURVE_IMAGES, 0.88)
    assert (effort.model, effort.epochs, effort.seconds) == ("small", 8, 80)
    slow = effort_for_accuracy(CURVES, {"small": 90, "large": 40}, CURVE_IMAGES, 0.88)
    assert (slow.model, slow.epochs) == ("large", 8)
