"""Sentences for differences of which every number is given."""

import pytest

from convscope.evaluation.statistics import Difference, Variation
from convscope.studies.comparison.comparison import Arm, Pair, Trial
from convscope.studies.comparison.verdicts import conclude, rank

OF_THREE_ARMS = 1 - 0.05 / 3


def pair(
    first: str,
    second: str,
    mean: float,
    low: float,
    high: float,
    variation: Variation | None = None,
) -> Pair:
    """A pair of a comparison of three arms with three seeds each."""
    found = Difference(
        mean=mean,
        low=low,
        high=high,
        p=0.1,
        p_seeds=0.1,
        p_images=0.1,
        of_ways=True,
        paired=True,
        identical=False,
        variation=variation or Variation(1e-4, 0.05, 0.1, 2000),
        confidence=OF_THREE_ARMS,
    )
    return Pair(first, second, (3, 3), found)


# The numbers of seeds are from an integration of the power over chi-squared by scipy's `quad`. With
# the confidence of a single comparison they would be 8 seeds for 2 points, and 7 for 4 points; with
# the normal distribution in place of Student's over seven groups, 9 for 4 points.
@pytest.mark.parametrize(
    ("mean", "variation", "said"),
    [
        (
            0.012,
            Variation(1e-4, 0.05, 0.1, 2000),
            "Seeds per configuration needed to show a difference: 15 for 2 points and 4 for 5 "
            "points. No number of seeds would show 1 point: 2,000 test images are too few.",
        ),
        (
            -0.04,
            Variation(4e-4, 4e-4, 8e-4, 7, True),
            "If it is as large as measured here (4.0 points), 12 seeds of each would show it. "
            "Seeds per configuration needed to show a difference: 7 for 5 points. No number of "
            "seeds would show 2 points: 7 groups of test images are too few.",
        ),
    ],
)
def test_what_would_settle_a_difference_is_of_all_comparisons_and_of_groups(mean, variation, said):
    assert pair("a", "b", mean, mean - 0.1, mean + 0.1, variation).outlook == said


def test_none_that_is_shown_to_be_worse_is_ranked_first_whatever_its_leads():
    pairs = [
        pair("a", "b", 0.01, 0.005, 0.015),  # b is shown to be better than a,
        pair("a", "c", -0.2, -0.5, 0.1),  # which leads by most over c
        pair("b", "c", -0.02, -0.3, 0.26),
    ]
    leads = {name: -rank(name, pairs)[1] for name in "abc"}
    assert leads == pytest.approx({"a": 0.19, "b": 0.03, "c": -0.22})
    assert sorted("abc", key=lambda name: rank(name, pairs)) == ["b", "c", "a"]
    trials = (Trial("r", 1, test_accuracy=0.8), Trial("r", 2, test_accuracy=0.8))
    arms = [Arm(name, "m", "r", trials) for name in "abc"]
    assert conclude(arms, pairs) == (
        "b has the highest test accuracy (80.0%); no difference to c is shown."
    )


@pytest.mark.parametrize("turned", [False, True])
def test_an_interval_that_ends_at_0_shows_no_difference(turned):
    trials = (Trial("r", 1, test_accuracy=0.8), Trial("r", 2, test_accuracy=0.8))
    arms = [Arm(name, "m", "r", trials) for name in "abc"]
    pairs = [
        pair("a", "c", 0.1, 0.05, 0.15),
        pair("c", "b", -0.02, -0.04, 0.0) if turned else pair("b", "c", 0.02, 0.0, 0.04),
        pair("a", "b", 0.08, 0.03, 0.13),
    ]
    assert not pairs[1].found.shown
    assert conclude(arms, pairs) == (
        "c has the highest test accuracy (80.0%); no difference to b is shown."
    )
