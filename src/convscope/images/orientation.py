"""The eight orientations of a picture: mirrored or not, and rotated by quarter turns.

An orientation is a whole number: 4 for "mirrored left to right first", plus the number of quarter
turns to the left that follow.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

AS_IT_IS = 0
MIRRORED = 4

_WORDS = (
    "",
    "turned left by 90 degrees",
    "turned by 180 degrees",
    "turned right by 90 degrees",
    "mirrored",
    "mirrored and turned left by 90 degrees",
    "mirrored top to bottom",
    "mirrored and turned right by 90 degrees",
)


def orientations(*, mirrored: bool, turned: bool) -> list[int]:
    """Return the orientations that mirroring and quarter turns make, that of the picture first.

    Examples:
        >>> orientations(mirrored=True, turned=False), orientations(mirrored=False, turned=True)
        ([0, 4], [0, 1, 2, 3])
    """
    turns = range(4 if turned else 1)
    return [
        start + way
        for start in ((AS_IT_IS, MIRRORED) if mirrored else (AS_IT_IS,))
        for way in turns
    ]


def turn(
    pictures: npt.NDArray[Any], way: int, axes: tuple[int, int] = (-2, -1)
) -> npt.NDArray[Any]:
    """Return pictures in another orientation.

    Args:
        pictures: Any shape; those that are turned by 90 degrees get the sides of each other.
        way: Orientation in [0, 8).
        axes: Axes of the rows and of the columns.

    Examples:
        >>> turn(np.array([[1, 2], [3, 4]]), 4).tolist()
        [[2, 1], [4, 3]]
        >>> turn(np.array([[1, 2], [3, 4]]), 1).tolist()
        [[2, 4], [1, 3]]
    """
    if way >= MIRRORED:
        pictures = np.flip(pictures, axes[1])
    return np.rot90(pictures, way % 4, axes)


def followed_by(first: int, second: int) -> int:
    """Return the orientation that equals a first and then a second.

    Examples:
        >>> followed_by(1, 1), followed_by(4, 4), followed_by(1, 4), followed_by(4, 1)
        (2, 0, 7, 5)
    """
    mirrored = (first >= MIRRORED) != (second >= MIRRORED)
    # A mirror turns earlier turns to the left into turns to the right.
    turns = second - first if second >= MIRRORED else second + first
    return MIRRORED * mirrored + turns % 4


def undone(way: int) -> int:
    """Return the orientation that undoes another."""
    return way if way >= MIRRORED else -way % 4


def spell_way(way: int) -> str:
    """Return an orientation in words; "" for 0.

    Examples:
        >>> spell_way(2)
        'turned by 180 degrees'
    """
    return _WORDS[way]
