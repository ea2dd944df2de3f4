"""Plans for a time or an accuracy, and the deadline that training keeps to."""

import pytest

from convscope.errors import ConfigError
from convscope.training.budget import CURVE_IMAGES, Deadline, plan_for_accuracy, plan_for_time

CURVES = {"small": {4: 0.8, 8: 0.88, 16: 0.9}, "large": {4: 0.86, 8: 0.92, 16: 0.94}}
SPEEDS = {"small": 10.0, "large": 40.0}


def test_more_time_is_spent_on_more_epochs_then_on_a_larger_network():
    plans = [plan_for_time(CURVES, SPEEDS, CURVE_IMAGES, t) for t in (45, 85, 170, 330, 5000)]
    assert [(p.model, p.epochs) for p in plans] == [
        ("small", 4),
        ("small", 8),
        ("small", 16),
        ("large", 8),
        ("large", 16),
    ]
    assert [p.accuracy for p in plans] == sorted(p.accuracy for p in plans)
    assert all(p.seconds == p.epochs * SPEEDS[p.model] for p in plans)


def test_what_comes_after_training_is_taken_off():
    assert plan_for_time(CURVES, SPEEDS, CURVE_IMAGES, 85, besides=1.5).epochs == 7


def test_between_two_measurements_accuracy_grows_with_the_logarithm_of_epochs():
    between = plan_for_time({"small": {4: 0.8, 16: 0.9}}, SPEEDS, CURVE_IMAGES, 85)
    assert between.epochs == 8
    assert between.accuracy == pytest.approx(0.85)


def test_fewer_images_are_seen_more_often():
    plan = plan_for_time(CURVES, {"small": 0.1, "large": 0.4}, CURVE_IMAGES // 100, 1e6)
    assert (plan.model, plan.epochs) == ("large", 1600)


def test_however_short_the_time_there_is_an_epoch():
    assert plan_for_time(CURVES, SPEEDS, CURVE_IMAGES, -5, besides=1).epochs == 1


def test_the_quickest_that_reached_an_accuracy():
    plan = plan_for_accuracy(CURVES, SPEEDS, CURVE_IMAGES, 0.88)
    assert (plan.model, plan.epochs, plan.seconds) == ("small", 8, 80)
    slow = plan_for_accuracy(CURVES, {"small": 90, "large": 40}, CURVE_IMAGES, 0.88)
    assert (slow.model, slow.epochs) == ("large", 8)


def test_an_accuracy_that_nothing_reached_is_refused():
    with pytest.raises(ConfigError, match=r"the best is 94\.0%"):
        plan_for_accuracy(CURVES, SPEEDS, CURVE_IMAGES, 0.96)


def test_a_deadline_leaves_away_what_does_not_fit():
    now = [0.0]
    deadline = Deadline(100, clock=lambda: now[0])
    assert deadline.fitting_epochs(1, 10, 9.0) == 10
    now[0] = 50.0
    assert deadline.left() == 50
    # Twice as slow as planned; faster again later, the planned ones come back.
    assert deadline.fitting_epochs(3, 10, 16.0) == 6
    assert deadline.fitting_epochs(3, 10, 5.0) == 10
    now[0] = 120.0
    # The learning rate has to come down.
    assert deadline.fitting_epochs(4, 10, 16.0) == 5
    assert deadline.fitting_epochs(10, 10, 16.0) == 10
