"""Series: images that look like their neighbour by name, as frames of a video or a burst do."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscope.datasets.checks.fingerprints import Fingerprints, are_blank, fingerprint, gather
from convscope.datasets.checks.neighbours import Patterns
from convscope.types import FloatArray, Split, names_of

Places = npt.NDArray[np.intp]

UNRELATED = 0.05
"""Share of the pairs of unrelated images of a class that are called alike."""

LEAST_ALIKE = 0.3
"""Share of the pairs of neighbours that have to be alike to be called a series. It was 0.04 of
CIFAR-10, 0.08 of TrashNet and UC Merced, 0.12 of Caltech 101, 0.2 of emoji and clip art; and 0.4 of
solar cells, which were cut out of pictures of whole modules, and 0.6 of the frames of animations.
"""

_FEW_LEFT = 0.15
"""Share of alike neighbours in different groups below which these groups are the series."""

_LEAST_GROUPS = 3
"""Groups for each class that a division needs: one for each part."""

_LEAST_PAIRS = 50
_LEAST_OF_CLASS = 12
_ENOUGH_OF_CLASS = 40
_MOST_PAIRS = 2_000

PATTERNS = (
    "(.+?)[-_ ]?[0-9]+[.]",
    "(.+)[-_ ][^-_ /]*[.]",
    "((?:.*/)?[^-_ ./]+)",
    "(.*)/",
)
"""Values of `split.group` that are tried, the smallest groups first: the name without the number at
its end, without its last word, its first word, and the folder."""


@dataclass(frozen=True)
class Series:
    """Images that look like their neighbour by name.

    Attributes:
        alike: Share of the pairs of neighbours that are as similar as only 1 in 20 pairs of
            unrelated images of their class.
        pairs: Pairs of alike neighbours, by their names, the most similar first.
        group: Value of `split.group` that keeps the series together; None if none does.
    """

    alike: float
    pairs: tuple[tuple[str, str], ...]
    group: str | None

    @property
    def remedy(self) -> str:
        """What keeps each series in one part, for people."""
        if self.group:
            return f"--set split.group='{self.group}' keeps each series in one part"
        return "a table with their groups (--labels TABLE:group=COLUMN) keeps each in one part"


def find_series(
    names: Sequence[str],
    classes: Sequence[str],
    prints_of: Callable[[Places], Fingerprints],
    *,
    parts: Sequence[str] | npt.NDArray[np.intp] | None = None,
) -> Series | None:
    """Return the series of a set of images, if many of them look like the next one by name.

    Such images show the same thing: a random division puts some into training and others into the
    test part, whose score is then too high. At most 2,000 pairs are looked at, of 50 classes or
    more.

    Args:
        names: Name of each image; names are in order as people count, 9 before 10.
        classes: Class of each image; neighbours are of one class.
        prints_of: Function that returns the fingerprints of some images, by their indices.
        parts: Part of each image, to look at neighbours in different parts only.
    """
    chance = np.random.default_rng(0)
    ranks, pairs = _neighbours(names, classes)
    if parts is not None:
        part_of = np.asarray(parts)[pairs]
        pairs = pairs[part_of[:, 0] != part_of[:, 1]]
    if len(pairs) < _LEAST_PAIRS:
        return None
    class_of = np.unique(np.asarray(classes, np.str_), return_inverse=True)[1].reshape(-1)
    pairs = _some(pairs, class_of[pairs[:, 0]], chance)
    shown = np.unique(pairs)
    prints = prints_of(shown)
    features = Patterns(prints).features(prints)
    at = np.full(len(names), -1, np.intp)
    at[shown] = np.arange(len(shown))
    seen = np.zeros(len(names), np.bool_)
    seen[shown] = ~are_blank(prints)
    pairs = pairs[seen[pairs].all(axis=1)]
    cosines = _cosines(features, at[pairs])

    limits = np.full(class_of.max() + 1, np.nan, np.float32)
    for label in np.unique(class_of[pairs[:, 0]]):
        members = np.flatnonzero((class_of == label) & seen)
        if len(members) < _LEAST_OF_CLASS:
            continue
        others = chance.choice(members, (4_000, 2))
        far = abs(ranks[others[:, 0]] - ranks[others[:, 1]]) > (class_of == label).sum() / 4
        if far.any():
            limits[label] = np.quantile(_cosines(features, at[others[far]]), 1 - UNRELATED)
    known = ~np.isnan(limits[class_of[pairs[:, 0]]])
    pairs, cosines = pairs[known], cosines[known]
    if len(pairs) < _LEAST_PAIRS:
        return None
    alike = cosines > limits[class_of[pairs[:, 0]]]
    share = float(alike.mean())
    if share < LEAST_ALIKE:
        return None
    by_likeness = np.flatnonzero(alike)[np.argsort(-cosines[alike], kind="stable")]
    return Series(
        share,
        tuple((names[pairs[at, 0]], names[pairs[at, 1]]) for at in by_likeness),
        next(
            (each for each in PATTERNS if _keeps_together(each, names, classes, pairs, alike)), None
        ),
    )


def series_across(parts: Mapping[str, Split], class_names: Sequence[str]) -> Series | None:
    """Return the series that are in several parts at once, as `find_series`.

    Args:
        parts: Parts by name, divided at random.
        class_names: Names of the classes in the order of the labels.
    """
    splits = list(parts.values())
    starts = np.cumsum([0, *map(len, splits)])
    part_of = np.repeat(np.arange(len(splits)), np.diff(starts))

    def prints_of(places: Places) -> Fingerprints:
        shown = zip(part_of[places], places - starts[part_of[places]], strict=True)
        return gather(fingerprint(splits[part].images[place]) for part, place in shown)

    return find_series(
        [str(image_id) for part in splits for image_id in part.ids],
        [names_of(label, class_names) for part in splits for label in part.labels],
        prints_of,
        parts=part_of,
    )


def _neighbours(names: Sequence[str], classes: Sequence[str]) -> tuple[Places, Places]:
    """Return the rank of each image in its class, by name, and the pairs of neighbours."""
    order = sorted(range(len(names)), key=lambda place: (classes[place], _counted(names[place])))
    ranks = np.zeros(len(names), np.intp)
    pairs = []
    for before, place in itertools.pairwise(order):
        if classes[before] == classes[place]:
            ranks[place] = ranks[before] + 1
            pairs.append((before, place))
    return ranks, np.array(pairs, np.intp).reshape(-1, 2)


def _some(pairs: Places, class_of: Places, chance: np.random.Generator) -> Places:
    """Return at most `_MOST_PAIRS` of the pairs: of all classes, or of some but enough of each."""
    if len(pairs) <= _MOST_PAIRS:
        return pairs
    labels = chance.permutation(np.unique(class_of))
    most = max(_ENOUGH_OF_CLASS, _MOST_PAIRS // len(labels))
    order = chance.permutation(len(pairs))
    kept: list[Places] = []
    for label in labels[: _MOST_PAIRS // most]:
        kept.append(order[class_of[order] == label][:most])
    return pairs[np.sort(np.concatenate(kept))]


def _counted(name: str) -> list[tuple[int, str]]:
    """Return what sorts a name as people count."""
    return [
        (int(each), "") if each.isascii() and each.isdigit() else (-1, each)
        for each in re.split(r"([0-9]{1,18})", name)
    ]


def _cosines(features: FloatArray, pairs: Places) -> FloatArray:
    found: FloatArray = np.einsum("pf,pf->p", features[pairs[:, 0]], features[pairs[:, 1]])
    return found


def _keeps_together(
    pattern: str,
    names: Sequence[str],
    classes: Sequence[str],
    pairs: Places,
    alike: npt.NDArray[np.bool_],
) -> bool:
    """Return whether a pattern has groups enough, and few alike neighbours are in two of them."""
    form = re.compile(pattern)
    group_of = np.array([match[1] if (match := form.search(name)) else "" for name in names])
    if len(np.unique(group_of)) < _LEAST_GROUPS * len(set(classes)):
        return False
    first, second = group_of[pairs].T
    apart = (first != second) | (first == "")
    return bool(alike[apart].sum() <= _FEW_LEFT * max(apart.sum(), alike.sum()))
