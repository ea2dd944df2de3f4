"""The deadline that training keeps to."""

import pytest

from convscope.training.pace import Deadline, Pace


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
