"""Which images of a run are the most telling."""

import numpy as np
import pytest

from convscope.evaluation.telling import Seen, most_telling, seen_at
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


@pytest.fixture
def several() -> Predictions:
    """Images with any number of classes, some of them wrong at a half."""
    probs = np.array([[0.9, 0.2], [0.8, 0.3], [0.4, 0.1], [0.7, 0.7]], np.float32)
    labels = np.array([[1, 0], [0, 0], [1, 0], [1, 1]], np.uint8)
    return Predictions(probs, labels, np.array(list("abcd")), "val")


def test_of_several_classes_the_worst_losses_or_the_surest_right_answers_come_first(several):
    losses = -np.log([[0.9, 0.8], [0.2, 0.7], [0.4, 0.9], [0.7, 0.7]]).mean(axis=1)
    assert np.argsort(-losses).tolist() == [1, 2, 3, 0]
    half = (0.5, 0.5)
    assert most_telling(several, "losses", NAMES, None, None, half) == [1, 2, 3, 0]
    assert most_telling(several, "right", NAMES, None, None, half) == [0, 3]
    # Of those with a class, and of those that are said to have it.
    assert most_telling(several, "losses", NAMES, "cat", None, half) == [2, 3, 0]
    assert most_telling(several, "losses", NAMES, None, "cat", half) == [1, 3, 0]
    assert most_telling(several, "losses", NAMES, "dog", "dog", half) == [3]
    # Its threshold decides what is right.
    assert most_telling(several, "right", NAMES, None, None, (0.4, 0.5)) == [0, 3, 2]


def test_of_several_classes_the_worst_mistake_is_shown(several):
    seen = [seen_at(several, index, NAMES, (0.5, 0.5)) for index in range(4)]
    assert [each.prob for each in seen] == pytest.approx([0.2, 0.8, 0.6, 0.3])
    assert [each.prob_label for each in seen] == pytest.approx([0.8, 0.2, 0.4, 0.7])
    assert [each.image_id for each in seen] == list("abcd")
    assert (seen[0].answer, seen[3].class_name) == ("cat", "cat + dog")
    assert all(each.multi_label for each in seen)
