"""Ways of turning pictures, put one after another and taken back."""

import itertools

import numpy as np
import pytest

from convscope.images.orientation import followed_by, spell_way, turn, undone

N_WAYS = 8
PICTURE = np.arange(9).reshape(3, 3)


def test_the_eight_ways_give_eight_pictures() -> None:
    pictures = {turn(PICTURE, way).tobytes() for way in range(N_WAYS)}
    assert len(pictures) == N_WAYS
    assert len({spell_way(way) for way in range(N_WAYS)}) == N_WAYS


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (0, np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]])),
        (1, np.array([[2, 5, 8], [1, 4, 7], [0, 3, 6]])),
        (3, np.array([[6, 3, 0], [7, 4, 1], [8, 5, 2]])),
        (4, np.array([[2, 1, 0], [5, 4, 3], [8, 7, 6]])),
        (6, np.array([[6, 7, 8], [3, 4, 5], [0, 1, 2]])),
    ],
)
def test_a_way_does_what_its_words_say(way: int, expected: np.ndarray) -> None:
    words = {
        0: "",
        1: "turned left by 90 degrees",
        3: "turned right by 90 degrees",
        4: "mirrored",
        6: "mirrored top to bottom",
    }
    assert (turn(PICTURE, way) == expected).all()
    assert spell_way(way) == words[way]


@pytest.mark.parametrize("second", range(N_WAYS))
@pytest.mark.parametrize("first", range(N_WAYS))
def test_two_ways_one_after_the_other_are_one(first: int, second: int) -> None:
    both = turn(turn(PICTURE, first), second)
    assert (turn(PICTURE, followed_by(first, second)) == both).all()


@pytest.mark.parametrize("way", range(N_WAYS))
def test_a_way_is_undone(way: int) -> None:
    assert (turn(turn(PICTURE, way), undone(way)) == PICTURE).all()


def test_many_pictures_with_channels_are_turned_at_once() -> None:
    pictures = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 4))
    for way in range(N_WAYS):
        turned = turn(pictures, way)
        for image, channel in itertools.product(range(2), range(3)):
            assert (turned[image, channel] == turn(pictures[image, channel], way)).all()
