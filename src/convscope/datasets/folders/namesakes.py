"""Namesakes: images of one folder and one name that differ in their ending, as masks do."""

import re
from collections.abc import Sequence

_MASK = re.compile(
    r"[-_. ](?:masks?|seg|segmentation|gt|ground[-_ ]?truth|labels?|annotations?)(?:[-_ ]?\d+)?$",
    re.IGNORECASE,
)
"""What the name of a mask has in addition to that of its image."""

_LEAST, _LEAST_SHARE = 10, 0.05
"""Number of images with a namesake, and their share of all images, from which they are told."""


def find_namesakes(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the images that have a namesake in their folder, if they are many.

    Those are images with one name but for the suffix ("a.jpg", "a.png"), or for a word such as
    "mask" at its end. Nothing is read but their names.

    Args:
        names: Paths of images, with forward slashes.

    Returns:
        The images of one name, for each name that several have; empty if these are fewer than 10,
        or than 5 % of all images.

    Examples:
        >>> find_namesakes([f"{n}{end}" for n in range(10) for end in (".jpg", "_mask.png")])[0]
        ('0.jpg', '0_mask.png')
    """
    by_stem: dict[str, dict[str, str]] = {}
    for name in names:
        stem, _, suffix = name.rpartition(".")
        by_stem.setdefault(stem, {}).setdefault(suffix.lower(), name)
    found = {stem: list(files.values()) for stem, files in by_stem.items()}
    for stem, files in by_stem.items():
        if (owner := _MASK.sub("", stem)) != stem and owner in found:
            found[owner] += files.values()
            # Its own entry would tell it twice.
            found[stem] = []
    several = [tuple(files) for files in found.values() if len(files) > 1]
    return several if len(several) >= max(_LEAST, _LEAST_SHARE * len(names)) else []
