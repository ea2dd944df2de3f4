"""Candidates of a search: ways of training on the same images, each a run of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from convscope.planning.settle import Request
from convscope.run import Run
from convscope.types import Dataset

FROZEN: Mapping[str, Any] = {"recipe": "logistic"}
"""Settings of a head on a frozen backbone."""

MIRRORED: Mapping[str, Any] = {"augment.flip": True, "backbone.views": 2}
"""Further settings of a head that learns each image and its mirror image."""

TURNED: Mapping[str, Any] = {**MIRRORED, "augment.turn": True, "backbone.views": 8}
"""Where the user has images turned, those of a head that learns each in all eight orientations."""

FOLDS: Mapping[str, Any] = {"split.folds": 5}
"""Settings of a search: one fold is held out, further ones tell close candidates apart."""

HELD_OUT = frozenset({"split.val_fraction", "split.folds", "split.fold", "split.fold_as"})
"""Settings by which a user decides which images are held out, in place of `FOLDS`."""

TRAINING = (
    *("optimizer", "schedule", "start", "filter", "progressive", "head", "backbone"),
    *("label_smoothing", "batch_size", "least_steps", "full_batches", "epochs"),
    *("early_stop_patience", "augment.crop", "augment.cutout", "augment.randaugment"),
    *("augment.randaugment_factor", "augment.mixup", "augment.cutmix", "weights_sha256"),
)
"""Settings, and groups of them, of a network and its training. In the file of another run they
describe that run alone: each candidate has its own."""

_SMALL = 64
"""Side in pixels up to which a network that starts from random weights is worth trying."""

_MANY = 1_000
"""Training images from which it is, if they are small."""

SCRATCH = "from-scratch"
"""Name of the candidate that starts from random weights."""

FROM_SCRATCH: Mapping[str, Any] = {"recipe": "fast"}
"""Its settings."""

NETWORK = ("model", "image_size")
"""Settings that decide how long an image takes."""

FIRST = "frozen"
"""Name of the first candidate, which shows how fast the machine is."""

LARGER = ("larger", "larger-2", "larger-3")
"""Names of candidates with larger networks, or images."""

SINGLE_VIEW = (FIRST, *LARGER)
"""Names of the candidates that train a head alone, on each image as it is."""

HEADS = (*SINGLE_VIEW, "mirrored")
"""Names of all candidates that train a head alone."""

_ORIENTING = ("augment.flip", "augment.turn")
"""Settings that make several orientations of an image."""


@dataclass(frozen=True)
class Candidate:
    """A way of training that is worth trying.

    Attributes:
        name: Name of its folder.
        words: What it is, for people.
        settings: Settings on top of the user's.
        pace: Whether its epochs adapt to the time that is left.
        by_time: Whether network and epochs, too, are chosen by that time before it begins; it
            learns the images at their own size.
    """

    name: str
    words: str
    settings: Mapping[str, Any]
    pace: bool = False
    by_time: bool = False

    @property
    def network(self) -> Mapping[str, Any]:
        """Those of its settings that decide how long an image takes."""
        return {key: self.settings[key] for key in NETWORK if key in self.settings}


def tries_scratch(request: Request, data: Dataset) -> bool:
    """Return whether a network that starts from random weights is worth trying on some images.

    Of 1,898 drawings of 64 pixels in nine classes it knew half of what a frozen backbone did, of
    digits more; so both are tried where neither is known to be better.

    Args:
        request: Settings of the user.
        data: The images, at their own size if that is small.
    """
    small = max(data.image_shape[:2]) <= _SMALL
    return small and len(data.train) >= _MANY and not {"model", "weights"} & request.chosen.keys()


def with_settings(request: Request, settings: Mapping[str, Any]) -> Request:
    """Return a request with settings that hold where the user named none."""
    added = {key: value for key, value in settings.items() if key not in request.from_file}
    return Request({**added, **request.given}, request.from_file)


def as_they_are(request: Request) -> Request:
    """Return a request for heads that learn each image once, as it is.

    Of a single version, as many would be mirrored or turned by chance, for good: whoever says that
    such images keep their class wants all. Who sets the number of versions gets that.
    """
    if "backbone.views" in request.chosen:
        return request

    def rest(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in settings.items() if key not in _ORIENTING}

    return replace(request, given=rest(request.given), from_file=rest(request.from_file))


def folder_of(run: Run, name: str, fold: int) -> Run:
    """Return the run of a candidate in the folder of a search."""
    return Run(run.search_dir / (name if fold == 0 else f"{name}-fold{fold + 1}"))
