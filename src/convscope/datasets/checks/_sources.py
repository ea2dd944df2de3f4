"""Findings on classes that can be told from their files: images from different sources."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convscope.datasets.checks.findings import DataFinding
from convscope.images.formats import ImageHeader
from convscope.types import numbered
from convscope.wording import printable, spell_size

Places = npt.NDArray[np.intp]

_CLEARLY = 2.0
"""Times the square root of the number of images by which more have to be told than by chance."""

_N_SHUFFLED = 5

_LEAST_ALONE, _FEWEST_ALONE, _LARGEST_ALONE = 0.9, 20, 0.7
"""A class is told by itself if nine in ten files of a kind, 20 or more, are its, and nine in ten of
its images are such; and if it has no more than 0.7 of all images."""


class _Property(NamedTuple):
    """Something that files tell.

    Attributes:
        name: Words for it.
        value_of: Function that returns what images are put together by.
        words_of: Function that returns it in words, for an image that is an example.
        least: Share of the images that is left by what can be told without, for which it has to
            tell the class. Format and size told 0 to 0.01 of TrashNet, UC Merced, solar cells and
            emoji, 0.2 of frames of a game and of Caltech 101, and 0.5 of clip art. Shapes may be
            those of the things themselves.
    """

    name: str
    value_of: Callable[[ImageHeader], object]
    words_of: Callable[[ImageHeader], str]
    least: float


_PROPERTIES = (
    _Property(
        "format", lambda header: header.format, lambda header: f"in {header.format}", least=0.25
    ),
    _Property(
        "size",
        lambda header: (header.height, header.width),
        lambda header: f"of {spell_size((header.height, header.width))}",
        least=0.25,
    ),
    _Property(
        "aspect ratio",
        lambda header: round(10 * math.log(header.width / header.height)),
        lambda header: f"about {header.width / header.height:.2f} times as wide as high",
        least=0.5,
    ),
    _Property(
        "number of pixels",
        lambda header: round(math.log2(header.width * header.height)),
        lambda header: f"of about {header.width * header.height:,} pixels",
        least=0.5,
    ),
)


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
    labels, classes = numbered(class_of[name] for name in names)
    if len(classes) < 2:
        return []
    of_all, of_one = [], []
    for each in _PROPERTIES:
        keys, _ = numbered(str(each.value_of(header)) for header in headers.values())
        table = _Table(keys, labels)
        spell = partial(_spell, each.words_of, tuple(headers.values()))
        of_all += _classes_told(each, spell, table, classes)
        of_one += _class_told(each, spell, table, classes)
    best = max(of_all or of_one, key=lambda each: each.gain, default=None)
    if best is None:
        return []
    return [
        DataFinding(
            "warning",
            "told-by-files",
            best.message,
            "If the classes come from different sources, and not the things themselves differ in "
            "this, a network may learn the source instead: bring all images to one format and "
            "size, and test it on images from elsewhere.",
            tuple(printable(names[place]) for place in best.images),
        )
    ]


def _spell(
    words_of: Callable[[ImageHeader], str], headers: Sequence[ImageHeader], image: int
) -> str:
    """Return what a property of an image is, in words."""
    return words_of(headers[image])


class _Table:
    """How often each key and each label are together.

    Attributes:
        keys: Shape (n_images,), as given.
        labels: Shape (n_images,), as given.
        pairs: Shape (n_pairs, 2), a key and a label that are together.
        counts: Shape (n_pairs,), how often they are.
        n_of_key: Shape (n_pairs,), how often the key is.
        n_of_label: Shape (n_pairs,), how often the label is.
    """

    def __init__(self, keys: Places, labels: Places) -> None:
        self.keys, self.labels = keys, labels
        n_labels = int(labels.max()) + 1
        both, self._pair_of, self.counts = np.unique(
            keys * n_labels + labels, return_inverse=True, return_counts=True
        )
        self.pairs = np.stack(np.divmod(both, n_labels), axis=1)
        self.n_of_key = np.bincount(keys)[self.pairs[:, 0]]
        self.n_of_label = np.bincount(labels)[self.pairs[:, 1]]

    def most_of_key(self) -> tuple[Places, Places]:
        """Return the largest and the next count of each key."""
        first, second = np.zeros((2, int(self.keys.max()) + 1), np.intp)
        for key, count in zip(self.pairs[:, 0].tolist(), self.counts.tolist(), strict=True):
            if count > first[key]:
                first[key], second[key] = count, first[key]
            else:
                second[key] = max(second[key], count)
        return first, second

    def n_told(self) -> int:
        """Return of how many images the label is the most frequent of the others of their key."""
        first, second = self.most_of_key()
        mine, first, second = self.counts[self._pair_of], first[self.keys], second[self.keys]
        return int((mine - 1 > np.where(mine == first, second, first)).sum())

    def images(self, pair: int) -> Places:
        """Return the indices of the images of a pair."""
        key, label = self.pairs[pair]
        return np.flatnonzero((self.keys == key) & (self.labels == label))


def _classes_told(
    of: _Property, spell: Callable[[int], str], table: _Table, classes: Sequence[str]
) -> list[_Told]:
    """Return what a property tells of all images, if it is much.

    Each image's class is guessed as the most frequent one of the other images of its key.
    """
    n_images, most_frequent = len(table.labels), int(table.n_of_label.max())
    # As many as where files say nothing.
    chance = np.random.default_rng(0)
    shuffled = [
        _Table(table.keys, chance.permutation(table.labels)).n_told() for _ in range(_N_SHUFFLED)
    ]
    n_told, without = table.n_told(), max(float(np.mean(shuffled)), most_frequent)
    enough = max(of.least * (n_images - without), _CLEARLY * math.sqrt(n_images))
    if n_told - without < enough:
        return []
    # The clearest example among those that are guessed.
    excess = table.counts - table.n_of_key * table.n_of_label / n_images
    guessed = table.counts == table.most_of_key()[0][table.pairs[:, 0]]
    example = int(np.where(guessed, excess, -np.inf).argmax())
    images = table.images(example)
    message = (
        f"the {of.name} of a file alone tells the class of {n_told / n_images:.0%} of the images "
        f"(the most frequent class is that of {most_frequent / n_images:.0%}): "
        f"{table.counts[example]:,} of {table.n_of_key[example]:,} images {spell(images[0])} are "
        f"of '{printable(classes[table.pairs[example, 1]])}'"
    )
    return [_Told(n_told - without, message, images)]


def _class_told(
    of: _Property, spell: Callable[[int], str], table: _Table, classes: Sequence[str]
) -> list[_Told]:
    """Return which classes a property tells by themselves."""
    alone = (
        (table.counts >= _FEWEST_ALONE)
        & (table.counts >= _LEAST_ALONE * np.maximum(table.n_of_key, table.n_of_label))
        & (table.n_of_label <= _LARGEST_ALONE * len(table.labels))
    )
    found = []
    for pair in np.flatnonzero(alone).tolist():
        images, count = table.images(pair), int(table.counts[pair])
        message = (
            f"the {of.name} of a file alone tells the images of "
            f"'{printable(classes[table.pairs[pair, 1]])}': {count:,} of its "
            f"{table.n_of_label[pair]:,} are {spell(images[0])}, and "
            f"{table.n_of_key[pair] - count:,} of other classes"
        )
        found.append(_Told(count, message, images))
    return found
