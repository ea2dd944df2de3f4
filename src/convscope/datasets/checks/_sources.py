"""Findings on classes that can be told from their files: images from different sources."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscope.datasets.checks.findings import DataFinding
from convscope.images.formats import ImageHeader
from convscope.wording import printable, spell_size

Places = npt.NDArray[np.intp]
Names = npt.NDArray[np.str_]

LEAST_TOLD = 0.25
"""Share of the images that is left by what can be told without files, for which these have to tell
the class. It was 0 to 0.01 of TrashNet, UC Merced, solar cells and emoji, 0.2 of frames of a game
and of Caltech 101, and 0.5 of clip art."""

_CLEARLY = 2.0
"""Times the square root of the number of images by which more have to be told than by chance."""

_N_SHUFFLED = 5

_LEAST_ALONE, _FEWEST_ALONE, _LARGEST_ALONE = 0.9, 20, 0.7
"""A class is told by itself if nine in ten files of a kind, 20 or more, are its, and nine in ten of
its images are such; and if it has no more than 0.7 of all images."""

_PROPERTIES: tuple[tuple[str, Callable[[ImageHeader], object], Callable[[ImageHeader], str]], ...]
_PROPERTIES = (
    ("format", lambda header: header.format, lambda header: f"in {header.format}"),
    (
        "size",
        lambda header: (header.height, header.width),
        lambda header: f"of {spell_size((header.height, header.width))}",
    ),
    (
        "aspect ratio",
        lambda header: round(10 * math.log(header.width / header.height)),
        lambda header: f"about {header.width / header.height:.2f} times as wide as high",
    ),
    (
        "number of pixels",
        lambda header: round(math.log2(header.width * header.height)),
        lambda header: f"of about {header.width * header.height:,} pixels",
    ),
)
"""What files tell, the key by which images are put together, and such an image in words."""


@dataclass(frozen=True)
class _Told:
    """What a property of the files tells.

    Attributes:
        gain: Number of images whose class it tells, beyond those that can be told without.
        message: Fact, in one line.
        images: Indices of the images of the example.
    """

    gain: float
    message: str
    images: Places


def on_sources(
    headers: Mapping[str, ImageHeader], class_of: Mapping[str, str]
) -> list[DataFinding]:
    """Return a finding if the format or the size of files tells classes.

    Args:
        headers: Header of each readable image, by file name.
        class_of: Class of each image, by file name.
    """
    names = list(headers)
    classes, labels = np.unique([class_of[name] for name in names], return_inverse=True)
    if len(classes) < 2:
        return []
    of_all, of_one = [], []
    for what, value_of, in_words in _PROPERTIES:
        _, keys = np.unique([str(value_of(headers[name])) for name in names], return_inverse=True)

        def spell(image: int, spell: Callable[[ImageHeader], str] = in_words) -> str:
            return spell(headers[names[image]])

        of_all += _classes_told(what, spell, keys, labels, classes)
        of_one += _class_told(what, spell, keys, labels, classes)
    best = max(of_all or of_one, key=lambda each: each.gain, default=None)
    if best is None:
        return []
    return [
        DataFinding(
            "warning",
            "told-by-files",
            best.message,
            "If the classes come from different sources, a network may learn the source instead: "
            "bring all images to one format and size, and test it on images from elsewhere.",
            tuple(printable(names[place]) for place in best.images),
        )
    ]


def _classes_told(
    what: str, spell: Callable[[int], str], keys: Places, labels: Places, classes: Names
) -> list[_Told]:
    """Return what a property tells of all images, if it is much.

    Each image's class is guessed as the most frequent one of the other images of its key.
    """
    n_images, most_frequent = len(labels), int(np.bincount(labels).max())
    # As many as where files say nothing.
    chance = np.random.default_rng(0)
    shuffled = [_n_told(keys, chance.permutation(labels)) for _ in range(_N_SHUFFLED)]
    n_told, without = _n_told(keys, labels), max(float(np.mean(shuffled)), most_frequent)
    enough = max(LEAST_TOLD * (n_images - without), _CLEARLY * math.sqrt(n_images))
    if n_told - without < enough:
        return []
    pairs, counts, n_of_key, n_of_label = _table(keys, labels)
    example = int((counts - n_of_key * n_of_label / n_images).argmax())
    images = np.flatnonzero((keys == pairs[example, 0]) & (labels == pairs[example, 1]))
    message = (
        f"the {what} of a file alone tells the class of {n_told / n_images:.0%} of the images (the "
        f"most frequent class is that of {most_frequent / n_images:.0%}): {counts[example]:,} of "
        f"{n_of_key[example]:,} images {spell(images[0])} are of "
        f"'{printable(str(classes[pairs[example, 1]]))}'"
    )
    return [_Told(n_told - without, message, images)]


def _class_told(
    what: str, spell: Callable[[int], str], keys: Places, labels: Places, classes: Names
) -> list[_Told]:
    """Return which classes a property tells by themselves."""
    pairs, counts, n_of_key, n_of_label = _table(keys, labels)
    found = []
    for (key, label), count, of_key, of_label in zip(
        pairs.tolist(), counts.tolist(), n_of_key.tolist(), n_of_label.tolist(), strict=True
    ):
        if count >= max(
            _FEWEST_ALONE, _LEAST_ALONE * max(of_key, of_label)
        ) and of_label <= _LARGEST_ALONE * len(labels):
            images = np.flatnonzero((keys == key) & (labels == label))
            message = (
                f"the {what} of a file alone tells the images of "
                f"'{printable(str(classes[label]))}': {count:,} of its {of_label:,} are "
                f"{spell(images[0])}, and {of_key - count:,} of other classes"
            )
            found.append(_Told(count, message, images))
    return found


def _table(keys: Places, labels: Places) -> tuple[Places, Places, Places, Places]:
    """Return the pairs of a key and a label, how often each is, and how often key and label are."""
    pairs, counts = np.unique(np.stack([keys, labels], axis=1), axis=0, return_counts=True)
    return pairs, counts, np.bincount(keys)[pairs[:, 0]], np.bincount(labels)[pairs[:, 1]]


def _n_told(keys: Places, labels: Places) -> int:
    """Return of how many images the label is the most frequent one of the others of their key."""
    pairs, pair_of, counts = np.unique(
        np.stack([keys, labels], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    first, second = np.zeros((2, keys.max() + 1), np.intp)
    for (key, _), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        if count > first[key]:
            first[key], second[key] = count, first[key]
        else:
            second[key] = max(second[key], count)
    mine = counts[pair_of.reshape(-1)]
    others = np.where(mine == first[keys], second[keys], first[keys])
    return int((mine - 1 > others).sum())
