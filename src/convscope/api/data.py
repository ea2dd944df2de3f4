"""Loading and checking data."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.datasets.source import data_settings, load_source
from convscope.progress import Progress, console_progress
from convscope.types import Dataset

if TYPE_CHECKING:
    from convscope.datasets.checks.findings import CheckReport


def load(
    data: str | Path = "cifar10",
    *,
    labels: str | Path | None = None,
    data_dir: Path | str | None = None,
    image_size: int | None = None,
    fit: str = "squash",
    split: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load a dataset and divide it into training, validation and test images.

    Args:
        data: Registered name ("cifar10"), or folder of images; a folder with the name of a dataset
            is given as "./cifar10". Also an archive of a folder, or a table of images and labels.
        labels: Table with the labels of the folder's images, in place of class folders: CSV, TSV,
            JSON lines, Parquet, or "labels.csv:file=COLUMN,label=COLUMN,split=COLUMN".
        data_dir: Further folder to look for the files of a registered dataset.
        image_size: Side in pixels to which the images of a folder are resized.
        fit: Method for images of another aspect ratio: "squash", "crop" or "pad".
        split: Settings of `split` that replace the dataset's own.
        progress: Called with downloads and packing; None draws on standard error.

    Raises:
        UnknownNameError: If `data` is neither a registered name nor a folder, or there is no such
            setting.
        ConfigError: If a setting's value is not allowed.
        DataError: If the folder or the table cannot be used as it is.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    place = data_settings(data, labels)
    progress = progress or console_progress()
    return load_source(place, data_dir, progress, image_size=image_size, fit=fit, split=split or {})


def check(
    data: str | Path,
    *,
    labels: str | Path | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> "CheckReport":
    """Check data for problems: broken files, unusual modes, duplicates, leaks between parts.

    Args:
        data: Folder of images (its files are checked), or registered name (its pixels are).
        labels: Table with the labels of the folder's images, as for `load`.
        data_dir: Further folder to look for the files of a registered dataset.
        progress: Called with each image; None draws on standard error.

    Raises:
        UnknownNameError: If `data` is neither a registered name nor a folder.
        DataError: If the folder is missing or has no classes.
    """
    from convscope.datasets.checks.check import check_dataset, check_folder

    progress = progress or console_progress()
    place = data_settings(data, labels)
    if place["data_path"] is not None:
        return check_folder(Path(place["data_path"]), place.get("labels"), progress=progress)
    return check_dataset(load_source(place, data_dir, progress), progress=progress)
