"""Datasets: one file each. Every loader gives raw uint8 pixels, labels, names and provenance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convscope.images.fit import Fit
from convscope.progress import Progress
from convscope.registry import Registry
from convscope.types import Dataset


@dataclass(frozen=True)
class DataRequest:
    """Request to a loader.

    Attributes:
        path: Place of the images of a dataset that takes one, such as the user's own folder; None
            elsewhere.
        address: Address of shards ("s3://bucket/birds"); None elsewhere.
        data_dir: Further folder to look for files before a download.
        image_size: Side in pixels to which the images of a folder are resized; None lets the
            loader choose. Datasets with a fixed size ignore it: models resize by themselves.
        fit: Method of fitting the images of a folder to that size.
        labels: Table of the labels of a folder, absolute or relative to it, perhaps with its
            columns, as the setting `labels`; None for class folders.
        progress: Progress, called with downloads and other long work.
    """

    path: Path | None = None
    address: str | None = None
    data_dir: Path | None = None
    image_size: int | None = None
    fit: Fit = "squash"
    labels: str | None = None
    progress: Progress = field(default_factory=Progress)


# The folders below hold how sets are downloaded, read and checked: none registers one.
DATASETS: Registry[Callable[[DataRequest], Dataset]] = Registry(
    "dataset", "convscope.datasets", group="convscope.datasets", nested=False
)
"""Datasets that read what the setting `data_path` names are registered with `place`, a word for
that ("PATH"); those whose images are files there, which may have a table of labels, also with
`files=True`."""


def takes_place(name: str) -> bool:
    """Return whether a dataset reads what `data_path` names; no, if there is none of that name."""
    return "place" in _info_of(name)


def holds_files(name: str) -> bool:
    """Return whether the images of a dataset are files of the user, as `takes_place`."""
    return bool(_info_of(name).get("files"))


def _info_of(name: str) -> Mapping[str, Any]:
    # A run may be of a dataset that only another machine has.
    return DATASETS.entry(name).info if name in DATASETS.names() else {}


def settings_of(name: str) -> dict[str, Any]:
    """Return the default settings of a dataset, which override a recipe's.

    They come from its registration: `split` says how it is divided, and `mirrored=False` that
    mirroring changes the meaning of its images, as for digits, so that nothing is flipped.

    Args:
        name: Built-in dataset.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    info = DATASETS.entry(name).info
    settings = {"split": info["split"]} if "split" in info else {}
    if not info.get("mirrored", True):
        settings |= {"augment.flip": False, "tta.mirror": False}
    return settings
