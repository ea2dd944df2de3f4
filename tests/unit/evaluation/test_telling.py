"""Which images of a run are the most telling."""

import numpy as np

from convscope.evaluation.telling import Seen, most_telling
from convscope.types import Predictions

NAMES = ("cat", "dog")


def test_right_answers_are_right_and_the_surest_come_first():
    probs = np.array([[0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.45, 0.55]], np.float32)
    said = Predictions(probs, np.array([0, 1, 0, 0]), np.array(list("abcd")), "val")
    assert most_telling(said, "right", NAMES, None, None) == [1, 0]
    assert most_telling(said, "right", NAMES, "cat", "dog") == []
    assert most_telling(said, "losses", NAMES, None, None) == [2, 3, 0, 1]


def test_a_caption_is_certain_of_nothing():
    assert Seen("1.png", "cat", "cat", 0.9941, 0.9941).caption == "cat\n99%"
    assert Seen("1.png", "cat", "dog", 0.9996, 0.0004).caption == "cat?\ndog >99%"
