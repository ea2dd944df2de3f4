"""Findings on duplicates in a dataset."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convscope.datasets.checks.duplicates import equal_groups, near_groups
from convscope.datasets.checks.findings import DataFinding, Severity
from convscope.datasets.checks.fingerprints import Fingerprints
from convscope.datasets.checks.near_copies import find_near_copies
from convscope.images.orientation import (
    AS_IT_IS,
    MIRRORED,
    followed_by,
    spell_way,
    undone,
)
from convscope.progress import Progress
from convscope.wording import counted, printable

# In sets whose images look alike by nature (handwritten digits), similarity means less.
_COMMON = 0.05

_MANY = 5
"""Near copies more than one of each, below which they change no score by much."""

_TOGETHER = "split.near_copies"


@dataclass(frozen=True)
class Images:
    """Images to search for duplicates.

    Attributes:
        ids: Name of each image.
        parts: Part of each image: "train", "val" or "test".
        classes: Class of each image.
        keys: Hash of each image's pixels, equal for equal images only.
        prints: Fingerprints, for near duplicates.
        blank: Whether each image shows nothing but one colour.
        drawn: Names of the parts that were drawn by chance, not given.
    """

    ids: Sequence[str]
    parts: Sequence[str]
    classes: Sequence[str]
    keys: Sequence[str]
    prints: Fingerprints
    blank: Sequence[bool]
    drawn: frozenset[str] = frozenset()


def find_twins(images: Images, *, progress: Progress) -> list[DataFinding]:
    """Return findings on exact and near duplicates, within and across parts and classes.

    Args:
        images: Images to search.
        progress: Called during the search for near duplicates.
    """
    exact = equal_groups(images.keys)
    # Of equal images one stands for all in the search for near ones.
    members: dict[str, list[int]] = {}
    for place, key in enumerate(images.keys):
        members.setdefault(key, []).append(place)
    firsts = np.array([places[0] for places in members.values()], dtype=np.intp)
    blank = np.array(images.blank, np.bool_)[firsts]
    found = find_near_copies(images.prints.take(firsts), blank=blank, progress=progress)
    near = []
    for group in near_groups(found):
        ways = {
            place: way
            for first, way in zip(group.places, group.ways, strict=True)
            for place in members[images.keys[firsts[first]]]
        }
        near.append(dict(sorted(ways.items())))
    findings = [
        *_findings_on(images, [dict.fromkeys(group, AS_IT_IS) for group in exact], near=False),
        *_findings_on(images, near, near=True),
    ]
    if not found.complete:
        findings.append(
            DataFinding(
                "note",
                "near-duplicates-incomplete",
                "there are so many images that each was compared only with likely neighbours",
                "Look at the findings; there may be more.",
            )
        )
    return findings


def _findings_on(images: Images, groups: list[dict[int, int]], *, near: bool) -> list[DataFinding]:
    """Return findings on groups, each with the indices of its images and their orientations."""
    across = [group for group in groups if len({images.parts[i] for i in group}) > 1]
    torn = [group for group in groups if len({images.classes[i] for i in group}) > 1]
    inside = [
        group for group in groups if max(Counter(images.parts[i] for i in group).values()) > 1
    ]
    prefix, alike = ("near-", "almost the same") if near else ("", "the same")
    hint = ""
    common = near and sum(map(len, groups)) > _COMMON * len(images.ids)
    if common:
        hint = " Images of this kind look alike by nature, so check before you delete."
    findings = []

    def add(
        kind: str,
        severity: Severity,
        message: str,
        remedy: str,
        which: list[dict[int, int]],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        named = tuple(tuple(printable(images.ids[i]) for i in group) for group in which)
        files = tuple(itertools.chain.from_iterable(named))
        ways = tuple(tuple(map(spell_way, group.values())) for group in which) if near else ()
        findings.append(
            DataFinding(
                severity,
                prefix + kind,
                message,
                remedy + hint,
                files,
                named,
                ways,
                settings=settings or {},
            )
        )

    if across:
        by_chance = near and any(
            {images.parts[i] for i in group} & images.drawn for group in across
        )
        add(
            "duplicates-across-parts",
            "warning" if near else "error",
            f"{alike} image in more than one part: {_leaks(images, across)}",
            f"Train with --set {_TOGETHER}=true, which keeps them in one part: scores on training "
            "images are too high."
            if by_chance
            else "Remove them from one of the parts: scores on training images are too high.",
            across,
            {_TOGETHER: "true"} if by_chance else None,
        )
    if torn:
        often = "most often " if len(torn) > 1 else ""
        add(
            "duplicates-across-classes",
            "warning" if near else "error",
            f"{alike} image in more than one class: {counted(len(torn), 'time')} "
            f"({often}{_commonest_pair(images, torn)})",
            "Look at them and keep each in its correct class only.",
            torn,
        )
    if inside:
        extra = sum(len(group) - 1 for group in inside)
        message = (
            f"{alike} image more than once in one part: {extra:,} too many "
            f"in {counted(len(inside), 'group')}{_turned(inside)}"
        )
        if near and not {"val", "test"} <= set(images.parts):
            add(
                "duplicates",
                "warning" if common and extra >= _MANY else "note",
                message,
                f"Keep one of each, or train with --set {_TOGETHER}=true: copies count double, and "
                "a random split puts some of them into validation and test, whose scores are then "
                "too high.",
                inside,
                {_TOGETHER: "true"},
            )
        else:
            severity: Severity = "note" if near else "warning"
            add("duplicates", severity, message, "Keep one of each: copies count double.", inside)
    return findings


def _leaks(images: Images, groups: list[dict[int, int]]) -> str:
    """Return the number of images of a part with a twin in another part, in words."""
    totals = Counter(images.parts)
    listed = []
    for first, second in itertools.combinations(("train", "val", "test"), 2):
        count = mirrored = turned = 0
        for group in groups:
            there = {way for place, way in group.items() if images.parts[place] == first}
            for place, way in group.items():
                if not there or images.parts[place] != second:
                    continue
                count += 1
                if way not in there:
                    flip = any(followed_by(undone(other), way) == MIRRORED for other in there)
                    mirrored, turned = mirrored + flip, turned + (not flip)
        if count:
            share = count / totals[second]
            listed.append(
                f"{count:,} of {second} ({share:.1%}) with a twin in {first}"
                + _spell(mirrored, turned)
            )
    return ", ".join(listed)


def _turned(groups: list[dict[int, int]]) -> str:
    """Return the number of images that are mirrored or rotated relative to the first."""
    ways = Counter(way for group in groups for way in group.values())
    mirrored = ways.pop(MIRRORED, 0)
    ways.pop(AS_IT_IS, 0)
    return _spell(mirrored, sum(ways.values()))


def _spell(n_mirrored: int, n_turned: int) -> str:
    listed = [
        f"{count:,} {what}"
        for count, what in ((n_mirrored, "mirrored"), (n_turned, "turned"))
        if count
    ]
    return f" ({' and '.join(listed)})" if listed else ""


def _commonest_pair(images: Images, groups: list[dict[int, int]]) -> str:
    pairs = Counter(
        pair
        for group in groups
        for pair in itertools.combinations(sorted({images.classes[i] for i in group}), 2)
    )
    (first, second), _ = pairs.most_common(1)[0]
    return f"'{printable(first)}' and '{printable(second)}'"
