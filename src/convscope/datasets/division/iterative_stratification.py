"""Drawing parts of images that have any number of classes: each class in proportion in each part.

References:
    Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from convscope.types import IntArray

Places = npt.NDArray[np.intp]


def iterative_stratification(
    counts: IntArray,
    weights: IntArray,
    shares: Sequence[float],
    seed: int,
    *,
    by_room: bool = False,
) -> Places:
    """Return the part of each image, such that each class has its share in each part.

    The class with the fewest images that are not yet in a part is distributed first, each of its
    images to the part that lacks most of it; of parts that lack as much of it, to the one that
    lacks most images; then at random.

    Args:
        counts: Shape (n_units, n_classes), images of each class in a unit: an image, all copies of
            one, or a group.
        weights: Shape (n_units,), number of images of each unit.
        shares: Share of each part; the sum is 1.
        seed: Seed of the draw.
        by_room: Whether to draw one of the parts that have room for a unit, by how much they lack,
            in place of the one that lacks most: that would get all large units.

    Returns:
        Shape (n_units,), indices of parts.
    """
    n_units = len(counts)
    random = np.random.default_rng(seed)
    share = np.asarray(shares, np.float64)
    labels = counts > 0
    # What each part lacks still, of each class and in all; (n_parts, n_classes) and (n_parts,).
    lacks = share[:, None] * counts.sum(axis=0)
    lacks_all = share * weights.sum()
    part_of: Places = np.full(n_units, -1, np.intp)
    # Of units with as much left, those with more copies first: they are harder to place.
    order = random.permutation(n_units)
    order = order[np.argsort(-weights[order], kind="stable")]
    left = labels.sum(axis=0, dtype=np.int64)

    def put(unit: int, wanted: npt.NDArray[np.float64], n_images: int) -> None:
        best = np.flatnonzero(wanted >= wanted.max() - 1e-9)
        if by_room and n_images <= wanted.max():
            room = np.where(wanted >= n_images, wanted, 0)
            best = random.choice(len(room), 1, p=room / room.sum())
        if len(best) > 1:
            best = best[lacks_all[best] >= lacks_all[best].max() - 1e-9]
        part = int(best[0] if len(best) == 1 else random.choice(best))
        part_of[unit] = part
        lacks[part] -= counts[unit]
        lacks_all[part] -= weights[unit]
        left[labels[unit]] -= 1

    while (left > 0).any():
        label = int(np.where(left > 0, left, left.max() + 1).argmin())
        for unit in order[labels[order, label] & (part_of[order] < 0)]:
            put(int(unit), lacks[:, label], int(counts[unit, label]))
    for unit in order[part_of[order] < 0]:
        put(int(unit), lacks_all, int(weights[unit]))
    return part_of


def give_each_part_its_least(
    labels: npt.NDArray[np.uint8], part_of: Places, least: IntArray, seed: int
) -> None:
    """Move units into parts that have too few of a class, where another part can spare one.

    Args:
        labels: Shape (n_units, n_classes), as in `iterative_stratification`.
        part_of: Shape (n_units,), changed in place.
        least: Shape (n_parts, n_classes), least number of units of each class in each part.
        seed: Seed of the choice.
    """
    random = np.random.default_rng(seed)
    n_parts = len(least)
    counts = np.stack(
        [labels[part_of == part].sum(axis=0, dtype=np.int64) for part in range(n_parts)]
    )
    for label in np.argsort(labels.sum(axis=0), kind="stable"):
        for part in range(n_parts):
            while counts[part, label] < least[part, label]:
                there = np.flatnonzero((labels[:, label] > 0) & (part_of != part))
                own = labels[there].astype(np.int64)
                after = counts[part_of[there]] - own
                # Nothing of what its own part needs may be lost by the move.
                free = ((after >= least[part_of[there]]) | (own == 0)).all(axis=1)
                if not free.any():
                    break
                # With few other classes, so that little else changes.
                n_others = own[free].sum(axis=1)
                unit = random.choice(there[free][n_others == n_others.min()])
                counts[part_of[unit]] -= labels[unit]
                counts[part] += labels[unit]
                part_of[unit] = part
