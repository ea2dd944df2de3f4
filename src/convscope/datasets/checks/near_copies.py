"""Near copies: cropped, recoloured, recompressed, mirrored or rotated images.

They are found in two steps. Thumbnails give the few nearest neighbours of each image, in any of
eight orientations; these pairs are aligned and compared in detail. The threshold depends on the
set, as images of one kind (digits, clothes) look alike without being copies: see `least_likeness`.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscope.datasets.checks.fingerprints import Fingerprints, are_blank, fingerprint, gather
from convscope.datasets.checks.likeness import Likeness
from convscope.datasets.checks.neighbours import Patterns, contrasts, nearest
from convscope.images.orientation import AS_IT_IS, MIRRORED, undone
from convscope.progress import Progress
from convscope.types import FloatArray, Split
from convscope.wording import printable

Places = npt.NDArray[np.intp]

MIN_CONTRAST = 3.0
"""Images that vary less than this over 8 x 8 fields, in grey levels, are not compared: what is left
of them is chance."""

MAX_LOOKED_AT = 50_000_000_000
"""Number of pairs of thumbnails to compare; all pairs of up to 84,000 images, in seven ways."""

MIN_LIKENESS = 0.8
"""Least similarity of copies; some sets need more."""

MIN_LIKENESS_TURNED = 0.9
"""The same for rotated copies: outlines look alike from many sides, and rotations are exact."""

# Number of nearest images that are compared closely, by orientation. A rotation of one image to the
# right is a rotation of the other to the left.
_THOROUGH = {AS_IT_IS: 8, MIRRORED: 3, 1: 2, 2: 2, 5: 2, 6: 2, 7: 2}
_QUICK = {AS_IT_IS: 3, MIRRORED: 1}

_LOOKED_AT = {"train": 2_000, "val": 200}
_LEAST_SHARE = 0.05
"""Share of the validation images from which near copies are told before a training. It was 0.02 at
most of photos of things (TrashNet, Caltech 101), of aerial photos and of hands, and 0.3 to 0.99
where many images are shots of one thing or were made of each other."""

_FEWEST = 5

_SHADE = 8.0
_FALSE_SHARE = 0.1


@dataclass(frozen=True)
class NearCopies:
    """Pairs of nearly equal images.

    Attributes:
        pairs: Shape (n_pairs, 2), indices of both.
        ways: Shape (n_pairs,), orientation of the second that matches the first.
        complete: Whether every image was compared with every other.
    """

    pairs: Places
    ways: Places
    complete: bool


def find_near_copies(
    prints: Fingerprints,
    *,
    blank: npt.NDArray[np.bool_] | None = None,
    max_looked_at: int = MAX_LOOKED_AT,
    progress: Progress | None = None,
) -> NearCopies:
    """Return the pairs of nearly equal images, including mirrored and rotated ones.

    Time grows with the square of the number of images up to `max_looked_at` pairs, memory with
    their number.

    Args:
        prints: Fingerprints of images that are all different; equal ones are found faster by their
            hashes.
        blank: Shape (n_images,), which of them show nothing but one colour, and are copies if that
            is the same; None takes what their thumbnails show.
        max_looked_at: Number of pairs of thumbnails to compare. If there are more, each image is
            compared only with its likeliest neighbours.
        progress: Called with each image and orientation.
    """
    varied = contrasts(prints) >= MIN_CONTRAST
    lively = np.flatnonzero(varied)
    n_looked_at = min(len(lively), max(1, max_looked_at // max(1, len(_THOROUGH) * len(lively))))
    pairs = [_same_shade(prints, np.flatnonzero(are_blank(prints) if blank is None else blank))]
    ways = [np.zeros(len(pairs[0]), np.intp)]
    if len(lively) > 1:
        shown = prints.take(lively)
        search = _Search(shown, progress or Progress())
        everywhere = np.arange(len(lively))
        found = search(everywhere, everywhere, _THOROUGH, n_looked_at)
        pairs.append(lively[found[0]])
        ways.append(found[1])
    complete = n_looked_at >= len(lively)
    return NearCopies(np.concatenate(pairs), np.concatenate(ways), complete)


def near_copies_across(parts: Mapping[str, Split]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Return the images of a part that are nearly equal to one of another part.

    A quick search for a note: the three likeliest images of the other part, and the likeliest
    mirrored one; no rotated ones, and none that are equal pixel for pixel. The three parts of
    CIFAR-10 take 32 CPU seconds, 1,797 digits 2.

    Args:
        parts: Parts by name: "train", "val" and "test". Images of each part are found if they have
            a near copy in an earlier part.

    Returns:
        By names of the earlier and the later part, for each image of the later part with a copy:
        the place of that copy in the earlier part, and its own in the later part.
    """
    prints = gather(fingerprint(image) for part in parts.values() for image in part.images)
    varied = contrasts(prints) >= MIN_CONTRAST
    search = _Search(prints, Progress())
    names = list(parts)
    starts = dict(zip(names, np.cumsum([0, *map(len, parts.values())]).tolist(), strict=False))
    hashes = {name: np.array(part.hashes, str) for name, part in parts.items()}

    def places_of(name: str, known: npt.NDArray[np.str_]) -> Places:
        """Return the indices of images neither flat nor known, one of each set of equals."""
        different, firsts = np.unique(hashes[name], return_index=True)
        firsts = np.sort(firsts[~np.isin(different, known)]) + starts[name]
        shown: Places = firsts[varied[firsts]]
        return shown

    pairs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for earlier, later in itertools.combinations(names, 2):
        queries = places_of(later, known=hashes[earlier])
        others = places_of(earlier, known=hashes[earlier][:0])
        found, _ = search(queries, others, _QUICK, len(others))
        copies = hashes[later][found[:, 0] - starts[later]]
        of_copy = dict(zip(copies, (found[:, 1] - starts[earlier]).tolist(), strict=True))
        pairs[earlier, later] = [
            (of_copy[digest], place)
            for place, digest in enumerate(hashes[later])
            if digest in of_copy
        ]
    return pairs


@dataclass(frozen=True)
class ShareOfCopies:
    """Images of a part that are nearly equal to one of an earlier part, among those looked at.

    Attributes:
        n_copies: Number of them.
        n_images: Number of images of the part that were looked at.
        first: Names of the first: of the image in the earlier part, and of its own.
    """

    n_copies: int
    n_images: int
    first: tuple[str, str]

    def seen(self) -> str:
        """Return what was seen, for people."""
        earlier, later = map(printable, self.first)
        return (
            f"{self.n_copies:,} of {self.n_images:,} validation images are nearly the same as a "
            f"training image, such as {later} and {earlier}"
        )

    def remedy(self, *, drawn: bool) -> str:
        """Return what keeps them in one part, for people.

        Args:
            drawn: Whether parts are drawn by chance, and not given.
        """
        if drawn:
            return "train with --set split.near_copies=true, which keeps near copies in one part"
        return "'convscope data check' lists them; keep them in one part only"


def share_of_near_copies(parts: Mapping[str, Split]) -> ShareOfCopies | None:
    """Return how many validation images are near copies of training images, if many are.

    Some images of each part are looked at, drawn by chance: of larger sets fewer copies are found
    than there are.

    Args:
        parts: Parts "train" and "val".
    """
    chance = np.random.default_rng(0)
    drawn = {
        name: part.select(np.sort(chance.permutation(len(part))[: _LOOKED_AT[name]]))
        for name, part in parts.items()
    }
    copies = near_copies_across(drawn)["train", "val"]
    if len(copies) < max(_FEWEST, _LEAST_SHARE * len(drawn["val"])):
        return None
    earlier, later = copies[0]
    names = (str(drawn["train"].ids[earlier]), str(drawn["val"].ids[later]))
    return ShareOfCopies(len(copies), len(drawn["val"]), names)


def least_likeness(pairs: Places, scores: FloatArray, lowest: float) -> float:
    """Return the least similarity at which two images of a set count as copies.

    In a set whose images look alike by nature, many pairs are nearly as similar as copies; their
    number falls off towards equality, at least as quickly as it falls just before. The threshold is
    where at most a tenth of the pairs beyond it would be expected by that.

    Args:
        pairs: Shape (n_pairs, 2), indices of the most similar images.
        scores: Shape (n_pairs,), similarities, at most 1.
        lowest: Lower bound of the threshold.

    Returns:
        A number in [`lowest`, 1], or infinity if no threshold is high enough.
    """
    heights = np.arctanh(np.clip(scores, -0.9999, 0.9999))
    for limit in np.arange(np.arctanh(lowest), np.arctanh(0.9999), 0.05):
        # One image that resembles many is one chance, not many.
        beyond = min(len(np.unique(side)) for side in pairs[heights >= limit].T)
        if not beyond:
            break
        below = np.count_nonzero((heights >= limit - 0.4) & (heights < limit))
        far_below = np.count_nonzero((heights >= limit - 0.8) & (heights < limit - 0.4))
        fall = min(0.5, below / far_below) if far_below else 0.5
        if below * fall / (1 - fall) <= _FALSE_SHARE * beyond:
            return float(np.tanh(limit))
    return np.inf


class _Search:
    """Finds near copies among images that are not flat."""

    def __init__(self, prints: Fingerprints, progress: Progress) -> None:
        self._prints = prints
        self._progress = progress
        self._patterns = Patterns(prints)
        self._likeness = Likeness(prints)

    def __call__(
        self, queries: Places, others: Places, n_nearest: Mapping[int, int], n_looked_at: int
    ) -> tuple[Places, Places]:
        """Return nearly equal pairs of a query and another image, with their orientations.

        Args:
            queries: Indices of images.
            others: Indices of images; the same array for pairs among them.
            n_nearest: Number of images to compare closely for each query, by orientation.
            n_looked_at: Number of others that each query is compared with.
        """
        alone = queries is others
        features = self._patterns.features(self._prints.take(queries))
        all_pairs, all_ways = [np.empty((0, 2), np.intp)], [np.empty(0, np.intp)]
        n_views = len(queries) * len(n_nearest)
        with self._progress.task("Looking for near copies", n_views, "views") as step:
            for way, n_wanted in n_nearest.items():
                turned = self._patterns.features(self._prints.take(others), way)
                found = nearest(features, turned, n_wanted + alone, n_looked_at, step)
                pairs = np.column_stack([queries[found[0]], others[found[1]]])
                all_pairs.append(_unique(pairs, way) if alone else pairs)
                all_ways.append(np.full(len(all_pairs[-1]), way, np.intp))
        pairs, ways = np.concatenate(all_pairs), np.concatenate(all_ways)
        with self._progress.task("Comparing them in detail", len(pairs), "pairs") as step:
            scores = self._likeness(pairs, ways, step)
        turns = (ways != AS_IT_IS) & (ways != MIRRORED)
        copies = np.zeros(len(pairs), bool)
        for chosen, least in (
            (ways == AS_IT_IS, MIN_LIKENESS),
            (ways == MIRRORED, MIN_LIKENESS),
            (turns, MIN_LIKENESS_TURNED),
        ):
            copies |= chosen & (scores >= least_likeness(pairs[chosen], scores[chosen], least))
        return pairs[copies], ways[copies]


def _unique(pairs: Places, way: int) -> Places:
    """Return each pair once, from whichever side it was found, and no image with itself."""
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if undone(way) == way:
        pairs = np.sort(pairs, axis=1)
    return np.unique(pairs, axis=0)


def _same_shade(prints: Fingerprints, blank: Places) -> Places:
    """Return pairs of blank images of one shade: the first of each shade with each other."""
    light = np.array([prints.light[place].mean() for place in blank], np.float32)
    colours = prints.colours[blank].mean(axis=(2, 3), dtype=np.float32) * 2
    shades = (np.column_stack([light, colours]) / _SHADE).round()
    _, firsts, shade_of = np.unique(shades, axis=0, return_index=True, return_inverse=True)
    pairs = np.stack([blank[firsts[shade_of.reshape(-1)]], blank], axis=1)
    different: Places = pairs[pairs[:, 0] != pairs[:, 1]]
    return different
