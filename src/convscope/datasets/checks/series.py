"""Series: images that look like their neighbour by name, as frames of a video or a burst do."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.datasets.checks.fingerprints import Fingerprints, are_blank, fingerprint, gather
from convscope.datasets.checks.neighbours import Patterns
from convscope.datasets.division.part_notes import folder_above
from convscope.types import FloatArray, Split, names_of, numbered
from convscope.wording import printable

Places = npt.NDArray[np.intp]

UNRELATED = 0.05
"""Share of the pairs of unrelated images of a class that are called alike."""

LEAST_ALIKE = 0.3
"""Share of the pairs of neighbours that have to be alike to be called series. It was 0.05 of
CIFAR-10, 0.08 of TrashNet, 0.12 of Caltech 101, 0.14 of UC Merced, 0.2 of emoji and stamps; and
0.36 of solar cells, which were cut out of pictures of whole modules, and 0.6 of the frames of
animations."""

_FEW_LEFT = 0.15
"""Share of alike neighbours in different groups below which these groups are the series."""

_LEAST_GROUPS, _LARGEST_GROUP, _MOST_CLASSES = 3, 0.5, 0.8
"""Groups of a class that a division needs, one for each part, and the largest share of its images
that one may have; and the least share of classes of which both hold."""

_LEAST_PAIRS = 50
_LEAST_OF_CLASS = 12
_ENOUGH_OF_CLASS = 40
_MOST_PAIRS = 2_000
_N_UNRELATED = 4_000

PATTERNS = (
    "(.*[^0-9])[0-9]+[.]",
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

    def seen(self, where: str) -> str:
        """Return what was seen, for people, from "in" on.

        Args:
            where: Which pairs of neighbours were looked at, in words.
        """
        first, second = map(printable, self.pairs[0])
        return (
            f"{self.alike:.0%} of the pairs of neighbours by name{where} the two look alike, such "
            f"as {first} and {second} ({UNRELATED:.0%} would be expected of unrelated images of a "
            "class)"
        )

    def settings(self, *, drawn: bool) -> dict[str, str]:
        """Return the settings that keep each series in one part; empty if none do.

        Args:
            drawn: Whether parts are drawn by chance, and not given.
        """
        return {"split.group": self.group} if self.group and drawn else {}

    def remedy(self, *, drawn: bool) -> str:
        """Return what keeps each series in one part, for people; with arguments as `settings`."""
        if self.settings(drawn=drawn):
            return f"train with --set split.group='{self.group}', which keeps each in one part"
        if not drawn:
            return "give each series to one part"
        return "a table with their groups (--labels TABLE:group=COLUMN) keeps each in one part"


def find_series(
    names: Sequence[str],
    classes: Sequence[str],
    prints_of: Callable[[Places], Fingerprints],
    *,
    parts: Sequence[str] | npt.NDArray[np.intp] | None = None,
) -> Series | None:
    """Return the series of a set of images, if many of them look like the next one by name.

    Such images show the same thing, or the same kind of thing where names are sorted by that. If
    it is the same, a random division puts some into training and others into the test part, whose
    score is then too high. Of more than 2,000 pairs some are looked at, by chance; of very many
    classes, those of some.

    Args:
        names: Name of each image; names are in order as people count, 9 before 10.
        classes: Class of each image; neighbours are of one class.
        prints_of: Function that returns the fingerprints of some images, by their indices.
        parts: Part of each image, to look at neighbours in different parts only; the folder of
            each part does not count for the order.
    """
    chance = np.random.default_rng(0)
    class_of, _ = numbered(classes)
    pairs, ranks = _neighbours(
        names, class_of, None if parts is None else np.asarray(parts), chance
    )
    if len(pairs) < _LEAST_PAIRS:
        return None
    shown = np.unique(pairs)
    prints = prints_of(shown)
    features = Patterns(prints).features(prints)
    at = np.full(len(names), -1, np.intp)
    at[shown] = np.arange(len(shown))

    def cosines(pairs: Places) -> FloatArray:
        found: FloatArray = np.einsum("pf,pf->p", *(features[at[side]] for side in pairs.T))
        return found

    seen = shown[~are_blank(prints)]
    pairs = pairs[np.isin(pairs, seen).all(axis=1)]
    limits = np.full(len(names), np.nan, np.float32)
    for label in np.unique(class_of[pairs[:, 0]]):
        members = seen[class_of[seen] == label]
        if len(members) < _LEAST_OF_CLASS:
            continue
        others = chance.choice(members, (_N_UNRELATED, 2))
        n_apart = abs(ranks[others[:, 0]] - ranks[others[:, 1]])
        others = others[n_apart > np.count_nonzero(class_of == label) / 4]
        if len(others):
            limits[label] = np.quantile(cosines(others), 1 - UNRELATED)
    pairs = pairs[~np.isnan(limits[class_of[pairs[:, 0]]])]
    if len(pairs) < _LEAST_PAIRS:
        return None
    likeness = cosines(pairs)
    alike = likeness > limits[class_of[pairs[:, 0]]]
    if alike.mean() < LEAST_ALIKE:
        return None
    most_alike = pairs[alike][np.argsort(-likeness[alike], kind="stable")]
    return Series(
        float(alike.mean()),
        tuple((names[first], names[second]) for first, second in most_alike.tolist()),
        next((each for each in PATTERNS if _keeps(each, names, class_of, pairs, alike)), None),
    )


def series_across(parts: Mapping[str, Split], class_names: Sequence[str]) -> Series | None:
    """Return the series that are in several parts at once, as `find_series`.

    Args:
        parts: Parts by name.
        class_names: Names of the classes in the order of the labels.
    """
    splits = list(parts.values())
    starts = np.cumsum([0, *map(len, splits)])
    part_of = np.repeat(np.arange(len(splits)), np.diff(starts))
    ids = [str(image_id) for part in splits for image_id in part.ids]
    labels = [names_of(label, class_names) for part in splits for label in part.labels]
    # Copies are in one part.
    _, firsts = np.unique([key for part in splits for key in part.hashes], return_index=True)

    def prints_of(places: Places) -> Fingerprints:
        rows = firsts[places]
        shown = zip(part_of[rows], rows - starts[part_of[rows]], strict=True)
        return gather(fingerprint(splits[part].images[place]) for part, place in shown)

    return find_series(
        [ids[row] for row in firsts],
        [labels[row] for row in firsts],
        prints_of,
        parts=part_of[firsts],
    )


def _neighbours(
    names: Sequence[str],
    class_of: Places,
    part_of: npt.NDArray[Any] | None,
    chance: np.random.Generator,
) -> tuple[Places, Places]:
    """Return pairs of neighbours by name, and the rank of each image by name in its class.

    Of many pairs some, by chance: of all classes, or of some of them but enough of each.
    """
    sizes = np.bincount(class_of)
    labels = chance.permutation(np.flatnonzero(sizes >= _LEAST_OF_CLASS))
    most = max(_ENOUGH_OF_CLASS, _MOST_PAIRS // max(1, len(labels)))
    ranks = np.zeros(len(names), np.intp)
    sorted_as = names if part_of is None else _below_parts(names, part_of.tolist())
    found = [np.empty((0, 2), np.intp)]
    for label in labels:
        members = np.flatnonzero(class_of == label).tolist()
        in_order = np.array(sorted(members, key=lambda place: _counted(sorted_as[place])), np.intp)
        ranks[in_order] = np.arange(len(in_order))
        pairs = np.stack([in_order[:-1], in_order[1:]], axis=1)
        if part_of is not None:
            pairs = pairs[part_of[pairs[:, 0]] != part_of[pairs[:, 1]]]
        if len(pairs) > most:
            pairs = pairs[chance.choice(len(pairs), most, replace=False)]
        found.append(pairs)
        if sum(map(len, found)) >= _MOST_PAIRS:
            break
    return np.concatenate(found), ranks


def _below_parts(names: Sequence[str], part_of: Sequence[object]) -> list[str]:
    """Return the names without the folders that all images of their part are in."""
    names_of: dict[object, list[str]] = {}
    for name, part in zip(names, part_of, strict=True):
        names_of.setdefault(part, []).append(name)
    above = {part: folder_above(each) for part, each in names_of.items()}
    return [name.removeprefix(above[part]) for name, part in zip(names, part_of, strict=True)]


def _counted(name: str) -> str:
    """Return what sorts a name as people count."""
    return re.sub("[0-9]+", lambda number: number[0].zfill(18), name)


def _keeps(
    pattern: str,
    names: Sequence[str],
    class_of: Places,
    pairs: Places,
    alike: npt.NDArray[np.bool_],
) -> bool:
    """Return whether a pattern has groups enough, and few alike neighbours are in two of them."""
    form = re.compile(pattern)
    # Without a group an image is one of its own.
    group_of = [match[1] if (match := form.search(name)) else name for name in names]
    n_of_group: dict[int, Counter[str]] = {}
    for label, group in zip(class_of.tolist(), group_of, strict=True):
        n_of_group.setdefault(label, Counter())[group] += 1
    n_divisible = 0
    for counts in n_of_group.values():
        largest, total = max(counts.values()), counts.total()
        # Of a single group no part could be set aside.
        if largest == total > 1:
            return False
        n_divisible += len(counts) >= _LEAST_GROUPS and largest <= _LARGEST_GROUP * total
    apart = np.array([group_of[first] != group_of[second] for first, second in pairs.tolist()])
    return n_divisible >= _MOST_CLASSES * len(n_of_group) and bool(
        alike[apart].sum() <= _FEW_LEFT * max(apart.sum(), alike.sum())
    )
