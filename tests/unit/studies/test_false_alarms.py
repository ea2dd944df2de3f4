"""Verdicts of whole studies in which no way of training is better than another.

An alarm is a sentence about ways of training. A sentence about two networks is no such alarm: with
one seed each, the two networks do differ, by their seeds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from convscope.studies.comparison.comparison import Arm, Pair, Trial, pairs_of
from convscope.studies.comparison.verdicts import conclude
from convscope.types import BoolArray

N_STUDIES = 2000
MOST = 5
COUNTS = list(combinations_with_replacement(range(1, MOST + 1), 2))
EACH, OVER_ALL = 0.06, 0.05


@dataclass(frozen=True)
class Setting:
    """How runs differ. A run is right on an image where its skill, less the image's difficulty, and
    with its way's taste for the image and noise, is above 0; noise has sd 1, difficulty 1.5.

    Attributes:
        n_images: Test images.
        seeds: Standard deviation of the skill over seeds.
        taste: Of what a way of training has easier or harder than the other, image by image.
        skill: Mean skill of both ways.
        gain: What the second way's mean skill is above that.
        shared: Standard deviation of the skill that equal seeds have in common.
    """

    n_images: int
    seeds: float
    taste: float = 0.5
    skill: float = 1.2
    gain: float = 0.0
    shared: float = 0.0


USUAL = Setting(10_000, seeds=0.105)  # accuracy 0.73; sd over seeds 0.018
SETTINGS = {
    "seeds' sd 0.018": USUAL,
    "seeds' sd 0.018, no taste": Setting(10_000, seeds=0.1, taste=0.0),
    "seeds' sd 0.002": Setting(10_000, seeds=0.01),
    "equal seeds have much in common": Setting(2_000, seeds=0.06, shared=0.09),
    "200 images": Setting(200, seeds=0.105),
    "40 images": Setting(40, seeds=0.105),
    "300 images, 97 % right": Setting(300, seeds=0.1, skill=3.5),
}


def studies(
    setting: Setting, n: int, *, ways: int = 2, n_seeds: int = MOST, seed: int = 1
) -> Iterator[list[BoolArray]]:
    """Yield for each study the right answers of each way, (n_seeds, n_images)."""
    chance = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return chance.standard_normal(shape, np.float32)

    for _ in range(n):
        difficulty, shared = 1.5 * normal(setting.n_images), setting.shared * normal(n_seeds, 1)
        skills = [setting.skill, setting.skill + setting.gain, *[setting.skill] * (ways - 2)]
        yield [
            skill
            + shared
            + setting.seeds * normal(n_seeds, 1)
            + (setting.taste * normal(setting.n_images) - difficulty)
            + normal(n_seeds, setting.n_images)
            > 0
            for skill in skills
        ]


def compared(a: BoolArray, b: BoolArray, *, same_seeds: bool) -> Pair:
    """Return the pair, seeds numbered as `compare` numbers them, or all of them different."""
    first = 1 if same_seeds else 1 + MOST
    (pair,) = pairs_of([("a", dict(enumerate(a, 1))), ("b", dict(enumerate(b, first)))])
    return pair


def claims(pair: Pair) -> bool:
    """Whether it is said that a way of training is better."""
    return "is better than" in pair.verdict


def alarms(setting: Setting, n: int, counts: list[tuple[int, int]]) -> dict[tuple, float]:
    """Return the share of studies with an alarm, by numbers of seeds and whether they are equal."""
    found = dict.fromkeys(product(counts, (True, False)), 0)
    for a, b in studies(setting, n):
        for (n_a, n_b), same_seeds in found:
            pair = compared(a[:n_a], b[:n_b], same_seeds=same_seeds)
            found[(n_a, n_b), same_seeds] += claims(pair)
    return {key: number / n for key, number in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_no_seed_counts_make_a_claim_where_nothing_differs(setting):
    found = alarms(setting, N_STUDIES, COUNTS)
    print({key: f"{share:.1%}" for key, share in found.items()})
    assert max(found.values()) <= EACH, found
    assert np.mean(list(found.values())) <= OVER_ALL, found


def test_one_run_against_one_or_several_makes_no_claim_where_nothing_differs():
    n = 200
    found = alarms(Setting(500, seeds=0.14), n, [(1, 1), (1, 2), (1, 5), (5, 5)])
    # Three standard errors of such a count above 5 %.
    assert max(found.values()) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / n), found
    assert found[(1, 1), True] == found[(1, 1), False] == 0
    # Not for want of saying anything.
    assert found[(1, 5), False] > 0


@pytest.mark.parametrize(
    ("n_images", "n_studies"),
    [
        (300, 200),
        *[pytest.param(n, N_STUDIES, marks=pytest.mark.slow) for n in (40, 200, 2_000, 10_000)],
    ],
)
@pytest.mark.parametrize("skill", [1.2, 3.5])
def test_two_networks_that_are_equally_good_are_called_that(n_images, n_studies, skill):
    chosen = Setting(n_images, seeds=0.0, skill=skill)
    said = [compared(a, b, same_seeds=True) for a, b in studies(chosen, n_studies, n_seeds=1)]
    wrong = np.mean([pair.found.shown for pair in said])
    assert wrong == np.mean(["classifies more" in pair.verdict for pair in said])
    assert wrong <= (EACH if n_studies >= N_STUDIES else 0.05 + 3 * math.sqrt(0.0475 / n_studies))


@pytest.mark.parametrize(
    ("counts", "same_seeds", "least"),
    # A difference of two standard deviations over seeds.
    [((5, 5), True, 0.5), ((5, 5), False, 0.5), ((4, 5), False, 0.4), ((1, 5), False, 0.1)],
)
def test_a_difference_of_two_standard_deviations_is_found(counts, same_seeds, least):
    chosen = Setting(2_000, seeds=0.105, gain=2 * 0.105)
    n_a, n_b = counts
    said = [
        compared(a[:n_a], b[:n_b], same_seeds=same_seeds) for a, b in studies(chosen, 200, seed=3)
    ]
    assert np.mean([claims(pair) for pair in said]) >= least
    assert not any(claims(pair) and pair.found.mean < 0 for pair in said)


def test_two_networks_that_differ_are_told_apart():
    chosen = Setting(2_000, seeds=0.0, gain=0.4)
    said = [compared(a, b, same_seeds=True) for a, b in studies(chosen, 100, n_seeds=1, seed=4)]
    assert np.mean([pair.found.shown for pair in said]) > 0.95


@pytest.mark.parametrize(
    "n_studies", [60, pytest.param(N_STUDIES, marks=pytest.mark.slow)], ids=["quick", "all"]
)
@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 1, 5), (1, 3, 5), (5, 5, 5)], ids=str)
def test_of_three_ways_none_is_called_better_where_nothing_differs(counts, n_studies):
    names = "abc"
    wrong = wrong_conclusions = 0
    for ways in studies(Setting(500, seeds=0.14), n_studies, ways=3, seed=5):
        rows = {name: way[:n] for name, way, n in zip(names, ways, counts, strict=True)}
        pairs = pairs_of([(name, dict(enumerate(way))) for name, way in rows.items()])
        arms = [
            Arm(name, "m", "r", tuple(Trial("", 0, test_accuracy=row.mean()) for row in way))
            for name, way in rows.items()
        ]
        wrong += any(map(claims, pairs))
        wrong_conclusions += "is best with" in conclude(arms, pairs)
    limit = EACH if n_studies == N_STUDIES else 0.05 + 3 * math.sqrt(0.0475 / n_studies)
    assert wrong / n_studies <= limit
    assert wrong_conclusions <= wrong
