"""Images that are in a dataset twice: exactly, or nearly (rescaled, recompressed, recoloured).

Near duplicates are found in two steps. Perceptual hashes that differ in few bits give candidates,
and small pictures of the two, compared pixel by pixel, confirm or reject them. Neither step looks
at all pairs: hashes are sorted into buckets, so that 60,000 images take seconds.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscope.errors import MissingExtraError
from convscope.types import UInt8Array

MAX_DISTANCE = 6
"""Perceptual hashes of near duplicates differ in at most this many of their 64 bits."""

MIN_CORRELATION = 0.95
"""Over what is not background, the brightness of near duplicates correlates at least this much."""

MAX_CHROMA = 24.0
"""Over what is not background, their colours differ by at most this, on a scale of 0..255."""

_SIDE = 16
_BACKGROUND = 24.0
_FLAT = 8.0
# One more band than bits that may differ: so one band at least is equal in both hashes.
_BANDS = MAX_DISTANCE + 1
_BLOCK = 2048


@dataclass(frozen=True)
class Fingerprints:
    """What images are compared by.

    Attributes:
        hashes: Shape (n_images,), uint64, perceptual hashes.
        pictures: Shape (n_images, 16, 16, 3), uint8, the images made small.
    """

    hashes: npt.NDArray[np.uint64]
    pictures: UInt8Array


def fingerprint(pixels: UInt8Array) -> tuple[int, UInt8Array]:
    """Return the perceptual hash and the small picture of one image.

    Args:
        pixels: Shape (height, width, 1 or 3), uint8.

    Returns:
        A whole number of 64 bits, and an array of shape (16, 16, 3), uint8.

    Raises:
        MissingExtraError: If the package for perceptual hashes is not installed.
    """
    try:
        import imagehash
    except ImportError as error:
        raise MissingExtraError("imagehash", "train") from error
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    bits = imagehash.phash(image).hash
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return int.from_bytes(np.packbits(bits).tobytes()), np.array(small)


def gather(prints: Iterable[tuple[int, UInt8Array]]) -> Fingerprints:
    """Return the fingerprints of many images, from what `fingerprint` gave for each."""
    prints = list(prints)
    return Fingerprints(
        np.array([code for code, _ in prints], dtype=np.uint64),
        np.array([picture for _, picture in prints], np.uint8).reshape(-1, _SIDE, _SIDE, 3),
    )


def equal_groups(keys: Sequence[str]) -> list[list[int]]:
    """Return the places of equal keys, for each key that occurs more than once.

    Examples:
        >>> equal_groups(["a", "b", "a", "c"])
        [[0, 2]]
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return [group for group in places.values() if len(group) > 1]


def near_groups(
    prints: Fingerprints, *, max_candidates: int = 20_000_000
) -> tuple[list[list[int]], bool]:
    """Return groups of images that look alike.

    An image belongs to a group if it looks like at least one other in it.

    Args:
        prints: Of images that are not equal to each other; equal ones are found faster by
            `equal_groups`.
        max_candidates: How many pairs of pictures are compared before the search is given up.

    Returns:
        The places of the images of each group, and whether the search was complete.
    """
    groups = _Groups(len(prints.hashes))
    alike = _Comparison(prints.pictures)
    left = max_candidates
    for pairs in _candidates(prints.hashes):
        # What is in one group already needs no further proof.
        pairs = pairs[groups.find(pairs[:, 0]) != groups.find(pairs[:, 1])]
        left -= len(pairs)
        if left < 0:
            return groups.members(), False
        for start in range(0, len(pairs), _BLOCK):
            groups.join(alike(pairs[start : start + _BLOCK]))
    return groups.members(), True


def _candidates(hashes: npt.NDArray[np.uint64]) -> Iterator[npt.NDArray[np.intp]]:
    """Yield pairs of images whose hashes differ in at most MAX_DISTANCE bits, each pair once.

    Yields:
        Shape (n_pairs, 2), the places of both.
    """
    edges = np.linspace(0, 64, _BANDS + 1).astype(int)
    masks = [
        np.uint64(((1 << int(high)) - 1) ^ ((1 << int(low)) - 1))
        for low, high in itertools.pairwise(edges)
    ]
    for band, mask in enumerate(masks):
        order = np.argsort(hashes & mask, kind="stable")
        sorted_bands = (hashes & mask)[order]
        starts = np.flatnonzero(np.r_[True, sorted_bands[1:] != sorted_bands[:-1]])
        ends = np.r_[starts[1:], len(order)]
        large = ends - starts > 1
        for start, end in zip(starts[large], ends[large], strict=True):
            bucket = order[start:end]
            codes = hashes[bucket]
            for first in range(0, len(bucket), _BLOCK):
                # (rows of this block, whole bucket)
                differing = codes[first : first + _BLOCK, None] ^ codes[None, :]
                close = np.bitwise_count(differing) <= MAX_DISTANCE
                for earlier in masks[:band]:
                    close &= (differing & earlier) != 0
                rows, columns = np.nonzero(close)
                once = rows + first < columns
                if once.any():
                    yield np.stack([bucket[rows[once] + first], bucket[columns[once]]], axis=1)


class _Comparison:
    """Tells which pairs of small pictures show the same.

    What counts is the foreground, where one of the two departs from its own median brightness:
    drawings on plain paper agree everywhere else, whatever they show.

    Args:
        pictures: Shape (n_images, 16, 16, 3), uint8.
    """

    def __init__(self, pictures: UInt8Array) -> None:
        n_images = len(pictures)
        self._pictures = pictures.reshape(n_images, _SIDE**2, 3)
        self._light = self._pictures.mean(axis=2, dtype=np.float32)
        background = np.median(self._light, axis=1, keepdims=True) if n_images else self._light
        self._departs = np.abs(self._light - background) > _BACKGROUND

    def __call__(self, pairs: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return those of the pairs, shape (n_pairs, 2), that look alike."""
        front = self._departs[pairs].any(axis=1)  # (n_pairs, 256)
        n_front = front.sum(axis=1)
        plain = n_front == 0
        weight = np.maximum(n_front, 1).astype(np.float32)[:, None]

        first, second = self._light[pairs[:, 0]], self._light[pairs[:, 1]]
        first = (first - (first * front).sum(axis=1, keepdims=True) / weight) * front
        second = (second - (second * front).sum(axis=1, keepdims=True) / weight) * front
        power = np.einsum("ij,ij->i", first, first) * np.einsum("ij,ij->i", second, second)
        correlation = np.einsum("ij,ij->i", first, second) / np.sqrt(power + 1e-6)

        likely = plain | (correlation >= MIN_CORRELATION)
        pairs, front, plain, weight = pairs[likely], front[likely], plain[likely], weight[likely]
        apart = self._pictures[pairs[:, 0]].astype(np.float32) - self._pictures[pairs[:, 1]]
        # A difference in brightness alone is the same in all three colours.
        chroma = np.abs(apart - apart.mean(axis=2, keepdims=True)).mean(axis=2)
        same_colours = (chroma * front).sum(axis=1) / weight[:, 0] <= MAX_CHROMA
        same_shade = np.abs(apart).max(axis=(1, 2), initial=0.0) <= _FLAT
        alike: npt.NDArray[np.intp] = pairs[np.where(plain, same_shade, same_colours)]
        return alike


class _Groups:
    """Disjoint sets of images, joined pair by pair."""

    def __init__(self, n_images: int) -> None:
        self._parent: npt.NDArray[np.intp] = np.arange(n_images)

    def find(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return a number for each place that is equal for members of one group."""
        found = self._parent[places]
        while True:
            above = self._parent[found]
            if (above == found).all():
                return found
            found = above

    def join(self, pairs: npt.NDArray[np.intp]) -> None:
        """Put both members of each pair into one group."""
        for first, second in pairs:
            one, other = self.find(np.array([first, second]))
            low, high = min(one, other), max(one, other)
            self._parent[[high, first, second]] = low

    def members(self) -> list[list[int]]:
        """Return the groups of more than one, each sorted, in the order of their first member."""
        roots = self.find(np.arange(len(self._parent)))
        order = np.argsort(roots, kind="stable")
        cuts = np.flatnonzero(np.diff(roots[order])) + 1
        groups = [group.tolist() for group in np.split(order, cuts) if len(group) > 1]
        return sorted(groups)
