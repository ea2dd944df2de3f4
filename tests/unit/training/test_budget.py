"""Plans for a time or an accuracy, and the deadline that training keeps to."""

import pytest

from convscope.training.budget import (
    CURVE_IMAGES,
    Deadline,
    Pace,
    contenders,
    plan_for_accuracy,
    plan_for_time,
)

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
    assert plan_for_time(CURVES, SPEEDS, CURVE_IMAGES, 85, overhead_epochs=1.5).epochs == 7


def test_between_two_measurements_accuracy_grows_with_the_logarithm_of_epochs():
    between = plan_for_time({"small": {4: 0.8, 16: 0.9}}, SPEEDS, CURVE_IMAGES, 85)
    assert between.epochs == 8
    assert between.accuracy == pytest.approx(0.85)


def test_fewer_images_are_seen_more_often():
    plan = plan_for_time(CURVES, {"small": 0.1, "large": 0.4}, CURVE_IMAGES // 100, 1e6)
    assert (plan.model, plan.epochs) == ("large", 1600)


def test_however_short_the_time_there_is_an_epoch():
    plan = plan_for_time(CURVES, SPEEDS, CURVE_IMAGES, -5, overhead_epochs=1)
    assert plan.epochs == 1
    assert plan.accuracy is None  # nobody knows


def test_the_quickest_that_reached_an_accuracy():
    plan = plan_for_accuracy(CURVES, SPEEDS, CURVE_IMAGES, 0.88)
    assert (plan.model, plan.epochs, plan.seconds) == ("small", 8, 80)
    slow = plan_for_accuracy(CURVES, {"small": 90, "large": 40}, CURVE_IMAGES, 0.88)
    assert (slow.model, slow.epochs) == ("large", 8)


def trained(planned, seconds, compiling, each, most=None, overhead_s=0.0):
    """Return epochs, seconds and changes of a run; `each` gives the seconds of an epoch."""
    now = [compiling]
    pace = Pace(Deadline(seconds - compiling, clock=lambda: now[0]), most or planned, overhead_s)
    done, current, changes = 0, planned, 0
    while done < current:
        now[0] += each(done)
        done += 1
        fitting = pace.fitting(done, current)
        changes += fitting != current
        current = fitting
    return done, now[0], changes


def test_a_machine_that_is_as_fast_as_planned_trains_what_was_planned():
    assert trained(12, 372, 12, lambda done: 30) == (12, 372, 0)


def test_an_epoch_that_is_quicker_than_those_after_it_changes_nothing():
    assert trained(10, 1000, 0, lambda done: 10 if done == 0 else 40) == (10, 370, 0)


@pytest.mark.parametrize(
    ("planned", "seconds", "each"),
    [
        (15, 450, lambda done: 33),
        (12, 372, lambda done: 30 if done < 1 else 48),
        (30, 612, lambda done: 20 if done < 2 else 60),
    ],
)
def test_where_epochs_get_dearer_there_are_fewer(planned, seconds, each):
    done, took, changes = trained(planned, seconds, 15, each)
    assert 1 <= changes <= 4
    assert done < planned
    # No time is left lying for another epoch, and it is late by a small part of one at most.
    assert seconds - each(done) < took <= seconds + each(done) / 10


def test_what_comes_after_training_has_its_time():
    done, took, _ = trained(15, 450, 0, lambda done: 30, overhead_s=70)
    assert (done, took) == (12, 360)


def test_training_once_more_has_its_time():
    now = [0.0]
    pace = Pace(Deadline(480, clock=lambda: now[0]), 30, again=1.5)
    done, current = 0, 20
    while done < current:
        now[0] += 16
        done += 1
        current = pace.fitting(done, current)
    # An epoch is 16 s now and 24 s later.
    assert done == 12


@pytest.mark.parametrize(("most", "reached"), [(12, 12), (20, 17)])
def test_where_epochs_get_cheaper_there_are_more_up_to_what_is_known(most, reached):
    done, took, changes = trained(8, 372, 12, lambda done: 40 if done < 1 else 20, most)
    assert (done, changes) == (reached, 1)
    assert 8 * 20 + 20 < took <= 372


def test_short_epochs_of_uneven_length_change_little():
    uneven = (0.05, 0.2, 0.1, 0.25, 0.08)
    done, took, changes = trained(245, 30, 1.5, lambda done: uneven[done % 5])
    assert changes <= 15
    assert 29 < took <= 30.3
    assert done > 190


def test_shorter_epochs_later_are_allowed_for():
    def lengths_of(epochs):
        return [1.0 if epoch < epochs // 2 else 0.5 for epoch in range(epochs)]

    now = [0.0]
    # Whole epochs take 20 s where 30 s were measured: 12 of them, half of them short, in 180 s.
    pace = Pace(Deadline(270, clock=lambda: now[0]), 100)
    done, current = 0, 12
    while done < current:
        now[0] += 20 * lengths_of(current)[done]
        done += 1
        current = pace.fitting(done, current, lengths_of)
    assert current == 18
    assert now[0] == 270


def test_past_the_deadline_one_last_epoch_lets_the_learning_rate_come_down():
    done, _, changes = trained(10, 50, 1, lambda done: 40)
    assert (done, changes) == (3, 1)
