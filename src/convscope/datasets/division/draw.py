"""Drawing validation and test images, at random but fairly.

Scikit-learn draws; then its errors are corrected and nothing else is touched: copies of one image
that came to lie in different parts go to one, as do images of one group, and a class that a part
lacks, although it has enough images, gets one there. Without such errors, the draw is
scikit-learn's.
"""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convscope.datasets.division.iterative_stratification import (
    give_each_part_its_least,
    iterative_stratification,
)
from convscope.types import IntArray, Labels, is_multi_label, n_of_each, numbered

Places = npt.NDArray[np.intp]

DRAWING_VERSION = 3
"""Increased whenever the same images and settings would be divided otherwise, here or in `splits`:
divisions kept in the cache are then drawn anew. The keys of the images are looked up with them."""

_MOST_GROUPS_JOINED = 2
"""Number of groups up to which a picture that all of them have joins them."""


@dataclass(frozen=True)
class Pool:
    """Images to be divided.

    Attributes:
        labels: Classes of the images, see `types.Labels`.
        keys: Shape (n_images,), equal for images that stay together, see `keys_of`; None lets each
            go anywhere.
        n_classes: Number of classes; some may have no image here.
        grouped: Whether images of a group stay together, not only copies: a part for a group is
            drawn by how much each lacks, and messages count groups.
    """

    labels: Labels
    keys: Sequence[Hashable] | None
    n_classes: int
    grouped: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Places) -> "Pool":
        """Return some of the images, in that order."""
        keys = None if self.keys is None else [self.keys[place] for place in places]
        return replace(self, labels=self.labels[places], keys=keys)

    @cached_property
    def counts(self) -> IntArray:
        """Shape (n_classes,): images of each class."""
        return n_of_each(self.labels, self.n_classes)

    @cached_property
    def unit_of(self) -> Places:
        """Shape (n_images,): a number for each image, shared by those that stay with it."""
        if self.keys is None:
            return np.arange(len(self))
        return numbered(self.keys)[0]

    @cached_property
    def different(self) -> tuple[Places, IntArray]:
        """The units with the class of each; a unit once for each of its classes.

        Both of shape (n_pairs,).
        """
        images, labels = np.arange(len(self)), self.labels
        if is_multi_label(labels):
            images, labels = np.nonzero(labels)
        pairs = np.unique(self.unit_of[images] * self.n_classes + labels)
        return pairs // self.n_classes, pairs % self.n_classes

    @cached_property
    def n_different(self) -> IntArray:
        """Shape (n_classes,): images of each class, those that stay together counted once."""
        return np.bincount(self.different[1], minlength=self.n_classes).astype(np.int64)

    @cached_property
    def copies(self) -> list[Places]:
        """The indices of the images that stay together, for each unit of several images."""
        many = np.bincount(self.unit_of, minlength=1) > 1
        rows = np.flatnonzero(many[self.unit_of]) if len(self) else np.arange(0)
        return _grouped(rows, self.unit_of[rows])


class Together(NamedTuple):
    """Which images stay together.

    Attributes:
        keys: Shape (n_images,), equal for images that stay together, see `keys_of`.
        grouped: Whether images of a group do, not only copies; see `Pool`.
    """

    keys: Sequence[Hashable]
    grouped: bool


def keys_of(hashes: Sequence[str], groups: npt.NDArray[np.str_] | None) -> Sequence[Hashable]:
    """Return a key for each image, equal for images that stay together.

    Those are copies of one image, images of one group, and in a chain: where two groups have a copy
    of an image in common, all images of both. A picture in more than two groups, such as a black
    frame, says nothing about what belongs together: each copy stays with its group alone.

    Args:
        hashes: Shape (n_images,), equal for copies of one image.
        groups: Shape (n_images,), see `Split.groups`.

    Examples:
        >>> keys_of(["a", "b", "b", "c"], np.array(["ann", "ann", "ben", ""]))
        [0, 0, 0, 1]
    """
    if groups is None:
        return hashes
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    different, copies = np.unique(hashes, return_inverse=True)
    # Each image is an edge between its pixels and its group; one of no group is none.
    named = np.flatnonzero(groups != "")
    names, of_named = np.unique(groups[named], return_inverse=True)
    nodes = copies.copy()
    nodes[named] = len(different) + of_named
    n_nodes = len(different) + len(names)
    pictures, owners = np.divmod(np.unique(copies[named] * n_nodes + nodes[named]), n_nodes)
    joins = np.bincount(pictures, minlength=1)[pictures] <= _MOST_GROUPS_JOINED
    edges = (pictures[joins], owners[joins])
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), (n_nodes, n_nodes))
    keys: list[int] = connected_components(graph, directed=False)[1][nodes].tolist()
    return keys


def hold_out(
    pool: Pool,
    fraction: float,
    seed: int,
    *,
    stratify: bool,
    least_kept: IntArray,
    least_held: IntArray,
) -> tuple[Places, Places]:
    """Draw a part of the images.

    Args:
        pool: Images to draw from.
        fraction: Share to hold out, in (0, 1).
        seed: Seed of the draw.
        stratify: Whether to hold out that share of each class. The next two count only then.
        least_kept: Shape (n_classes,), least number of different images of each class to keep.
        least_held: Shape (n_classes,), least number to hold out; a class must have both.

    Returns:
        The indices of the kept and of the held-out images, in the order drawn. One of them is empty
        if there are too few images.
    """
    if is_multi_label(pool.labels):
        least = np.stack([least_kept, least_held])
        part_of = _drawn_several(pool, (1 - fraction, fraction), least, seed, stratify=stratify)
        return np.flatnonzero(part_of == 0), np.flatnonzero(part_of == 1)
    from sklearn.model_selection import train_test_split

    places: Places = np.arange(len(pool))
    drawn: Places = np.zeros(len(pool), dtype=np.intp)
    try:
        # On the indices, not the images: the members are the same and nothing is copied.
        keep, held_out = train_test_split(
            places,
            test_size=fraction,
            random_state=seed,
            stratify=pool.labels if stratify else None,
        )
        drawn[held_out] = 1
        division = _Division(pool, drawn, 2, seed, by_class=stratify)
        division.join_copies()
    except ValueError:
        # Too few images for scikit-learn: all are kept at first, then moved as wanted.
        keep, held_out = places, places[:0]
        division = _Division(pool, drawn, 2, seed, by_class=stratify)
        if stratify:
            wanted = np.rint(fraction * pool.counts).astype(np.int64)
            most = pool.counts - least_kept
            division.want(1, np.minimum(np.maximum(wanted, least_held), np.maximum(most, 0)))
    division.balance()
    if stratify:
        division.require(least_kept, least_held)
    return (
        _refilled(keep, np.flatnonzero(division.part_of == 0), pool.labels),
        _refilled(held_out, np.flatnonzero(division.part_of == 1), pool.labels),
    )


def draw_folds(pool: Pool, folds: int, seed: int, *, stratify: bool) -> Places:
    """Draw equal parts of the images, and return the part of each, from 0; shape (n_images,).

    Args:
        pool: Images to draw from; at least one class must have `folds` images, or all of them
            together if not stratified. Others are held out in some of the parts only.
        folds: Number of parts, at least 2. With fewer units some are empty.
        seed: Seed of the draw.
        stratify: Whether to keep the share of each class equal.
    """
    if is_multi_label(pool.labels):
        least = np.ones((folds, pool.n_classes), np.int64)
        return _drawn_several(pool, [1 / folds] * folds, least, seed, stratify=stratify)
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if stratify else KFold
    drawn: Places = np.zeros(len(pool), dtype=np.intp)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        parts = kind(folds, shuffle=True, random_state=seed).split(pool.labels, pool.labels)
        for number, (_, members) in enumerate(parts):
            drawn[members] = number
    division = _Division(pool, drawn, folds, seed, by_class=stratify)
    division.join_copies()
    division.balance()
    return division.part_of


def _drawn_several(
    pool: Pool, shares: Sequence[float], least: IntArray, seed: int, *, stratify: bool
) -> Places:
    """Return the part of each image, of images with any number of classes; copies go together.

    Args:
        pool: Images to draw from.
        shares: Share of each part.
        least: Shape (n_parts, n_classes), least number of different images of each class.
        seed: Seed of the draw.
        stratify: Whether each class has its share in each part; if not, only all images do.
    """
    n_units = int(pool.unit_of.max()) + 1
    labels = np.zeros((n_units, pool.n_classes if stratify else 0), np.uint8)
    weights = np.bincount(pool.unit_of).astype(np.int64)
    if stratify:
        # Copies may have different labels; the unit then counts for all of them.
        np.maximum.at(labels, pool.unit_of, pool.labels)
    counts = labels * weights[:, None]
    if pool.grouped and stratify:
        counts = np.zeros(labels.shape, np.int64)
        np.add.at(counts, pool.unit_of, pool.labels)
    part_of = iterative_stratification(counts, weights, shares, seed, by_room=pool.grouped)
    if stratify:
        give_each_part_its_least(labels, part_of, least, seed)
    return part_of[pool.unit_of]


def _refilled(drawn: Places, members: Places, labels: IntArray) -> Places:
    """Return the members of a part, each at the position at which it was drawn.

    Newcomers take the positions of those that left, of their class if possible: the next draw from
    these images, which depends on positions, then changes as little as possible.
    """
    stay = np.isin(drawn, members)
    if stay.all() and len(drawn) == len(members):
        return drawn
    refilled = drawn.copy()
    left: Places = np.flatnonzero(~stay)
    newcomers = members[~np.isin(members, drawn)]
    for label in np.unique(labels[newcomers]):
        alike = newcomers[labels[newcomers] == label]
        places = left[labels[drawn[left]] == label]
        n_filled = min(len(alike), len(places))
        refilled[places[:n_filled]] = alike[:n_filled]
        left = left[~np.isin(left, places[:n_filled])]
        newcomers = newcomers[~np.isin(newcomers, alike[:n_filled])]
    n_filled = min(len(newcomers), len(left))
    refilled[left[:n_filled]] = newcomers[:n_filled]
    return np.concatenate([np.delete(refilled, left[n_filled:]), newcomers[n_filled:]])


class _Division:
    """Images in parts, while they are being moved.

    Args:
        pool: Images.
        part_of: Shape (n_images,), drawn part of each; its counts are the wanted ones.
        n_parts: Number of parts.
        seed: Seed of the order in which images are tried.
        by_class: Whether each class has its own counts, or all images are counted as one.
    """

    def __init__(
        self, pool: Pool, part_of: Places, n_parts: int, seed: int, *, by_class: bool
    ) -> None:
        self.part_of = part_of
        self._pool = pool
        self._random = np.random.default_rng(seed)
        self._kinds = pool.labels if by_class else np.zeros(len(pool), dtype=np.int64)
        self._n_kinds = pool.n_classes if by_class else 1
        # Number of images of each kind that each part lacks; (n_parts, n_kinds).
        self._lacks = np.zeros((n_parts, self._n_kinds), dtype=np.int64)

    def want(self, part: int, counts: IntArray) -> None:
        """Request that many images of each kind in a part, taken from the first."""
        self._lacks[part] += counts
        self._lacks[0] -= counts

    def join_copies(self) -> None:
        """Put images that stay together into one part, beginning with the largest units.

        Each unit goes where it fits best; this may change the counts of a part. Where several parts
        have room for a group of images, one of them is drawn by how much it lacks: the first would
        get all large groups, and the others be of small ones only.
        """
        torn = [members for members in self._pool.copies if np.ptp(self.part_of[members])]
        torn = [torn[place] for place in self._random.permutation(len(torn))]
        torn.sort(key=len, reverse=True)
        for members in torn:
            np.add.at(self._lacks, (self.part_of[members], self._kinds[members]), 1)
        for members in torn:
            count = self._count(members)
            misfits = self._misfits(count)
            part = int(misfits.argmin())
            if self._pool.grouped:
                room = np.maximum(self._lacks[:, count > 0].sum(axis=1), 0)
                room[misfits > misfits[part]] = 0
                part = (
                    int(self._random.choice(len(room), p=room / room.sum())) if room.any() else part
                )
            self._put(members, count, part)

    def balance(self) -> None:
        """Move images, with their copies, while that improves the counts."""
        if not self._lacks.any():
            return
        units = self._pool.unit_of
        # There are no images of other kinds to move.
        lacking = np.abs(self._lacks).sum(axis=0)
        rows = np.flatnonzero(np.bincount(units, weights=lacking[self._kinds])[units])
        groups = _grouped(rows, units[rows])
        for place in self._random.permutation(len(groups)):
            if not self._lacks.any():
                return
            members = groups[place]
            count = self._count(members)
            if not self._lacks[:, count > 0].any():
                continue
            here = int(self.part_of[members[0]])
            self._lacks[here] += count
            misfits = self._misfits(count)
            there = int(misfits.argmin())
            self._put(members, count, there if misfits[there] < misfits[here] else here)

    def require(self, least_kept: IntArray, least_held: IntArray) -> None:
        """Move images between two parts until both have the least of each class.

        The first gets them at any cost, the second as far as the first can spare them: units of
        several classes may leave too few for both.

        Args:
            least_kept: Shape (n_classes,), number of different images of each class in the first.
            least_held: Shape (n_classes,), the same of the second.
        """
        of_images = self._pool.unit_of
        sizes = np.bincount(of_images)
        first = np.unique(of_images, return_index=True)[1]
        units, labels = self._pool.different
        least = np.stack([least_kept, least_held])
        counts = np.zeros_like(least)
        np.add.at(counts, (self.part_of[first[units]], labels), 1)
        for part in (0, 1):
            for label in np.flatnonzero(counts[part] < least[part]):
                mine = units[labels == label]
                while counts[part, label] < least[part, label]:
                    there = mine[self.part_of[first[mine]] != part]
                    if part == 1:
                        scarce = counts[0] <= least_kept
                        there = np.setdiff1d(there, units[scarce[labels]])
                    if not len(there):
                        break
                    fewest = there[sizes[there] == sizes[there].min()]
                    unit = self._random.choice(fewest)
                    self.part_of[of_images == unit] = part
                    own = labels[units == unit]
                    counts[part, own] += 1
                    counts[1 - part, own] -= 1

    def _count(self, members: Places) -> IntArray:
        return np.bincount(self._kinds[members], minlength=self._n_kinds).astype(np.int64)

    def _misfits(self, count: IntArray) -> IntArray:
        """Return, for each part, how much worse the counts match if these images go there."""
        worse: IntArray = (np.abs(self._lacks - count) - np.abs(self._lacks)).sum(axis=1)
        return worse

    def _put(self, members: Places, count: IntArray, part: int) -> None:
        self.part_of[members] = part
        self._lacks[part] -= count


def _grouped(rows: Places, units: Places) -> list[Places]:
    """Return the rows of each unit, the units in the order of their numbers."""
    if not len(rows):
        return []
    order = np.argsort(units, kind="stable")
    cuts = np.flatnonzero(np.diff(units[order])) + 1
    return np.split(rows[order], cuts)
