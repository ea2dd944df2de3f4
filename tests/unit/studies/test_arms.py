"""Arms and seeds of a comparison, as they may be given in Python."""

import numpy as np
import pytest

from convscope.errors import ConfigError
from convscope.studies.comparison.arms import plan_arms, seeds_of


@pytest.mark.parametrize(
    ("seeds", "found"),
    [
        (2, [83, 84]),
        (np.int64(2), [83, 84]),
        (np.arange(5, 7), [5, 6]),
        ([np.int32(7), 3], [3, 7]),
        ((seed for seed in (2, 1)), [1, 2]),
        (range(4, 6), [4, 5]),
    ],
)
def test_seeds_are_whole_numbers_of_whatever_kind(seeds, found):
    assert seeds_of(seeds) == found
    assert {type(seed) for seed in seeds_of(found)} == {int}


@pytest.mark.parametrize("seeds", [0, -1, [], [3, 3], "83", [1.5], 2.0, None])
def test_other_seeds_are_refused(seeds):
    with pytest.raises(ConfigError, match="--seeds"):
        seeds_of(seeds)


def test_a_name_alone_is_one_name():
    found = plan_arms(
        "cnn-functional", "tutorial", 83, "cifar10", None, None, {}, {"batch_size": [8, 16]}
    )
    assert [request.given["model"] for request in found.values()] == ["cnn-functional"] * 2
    assert {request.given["recipe"] for request in found.values()} == {"tutorial"}
    with pytest.raises(ConfigError, match="at least two configurations"):
        plan_arms("cnn-functional", None, 83, "cifar10", None, None, {}, {"optimizer.name": "sgd"})
