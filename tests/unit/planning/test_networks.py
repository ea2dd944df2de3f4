"""Building networks without a trace."""

import random

import numpy as np

from convscope.planning.networks import chance_kept


def test_random_numbers_go_on_as_if_no_network_had_been_looked_at():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    with chance_kept():
        random.seed(2)
        np.random.seed(2)  # noqa: NPY002
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002
