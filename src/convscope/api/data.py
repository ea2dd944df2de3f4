"""Loading and checking data."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.datasets.sharded.writing import NEAR, SHARD_MB, Written
from convscope.datasets.source import data_settings, load_source
from convscope.paths import is_address, path_or_none, user_path
from convscope.progress import Progress, console_progress
from convscope.recipe import Recipe, resolve
from convscope.storage import require_outside
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
            JSON lines, Parquet, or "labels.csv:file=COLUMN,label=COLUMN,split=COLUMN"; with
            "group=COLUMN" the images of a group, such as those of one patient, stay in one part.
        data_dir: Further folder to look for the files of a built-in dataset.
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
    """Check data for problems: broken and blank images, duplicates, series, leaks between parts.

    Args:
        data: Folder of images (its files are checked), or registered name (its pixels are).
        labels: Table with the labels of the folder's images, as for `load`.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with each image; None draws on standard error.

    Raises:
        UnknownNameError: If `data` is neither a registered name nor a folder.
        DataError: If the folder is missing or has no classes.
    """
    from convscope.datasets.checks.check import check_dataset, check_folder

    progress = progress or console_progress()
    place = data_settings(data, labels)
    if place["data"] == "folder":
        return check_folder(Path(place["data_path"]), place.get("labels"), progress=progress)
    return check_dataset(load_source(place, data_dir, progress), progress=progress)


def write_shards(
    data: str | Path,
    out: str | Path,
    *,
    labels: str | Path | None = None,
    image_size: int | None = None,
    fit: str = "squash",
    shard_mb: float = SHARD_MB,
    near: int = NEAR,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a dataset as shards, from which training reads a few at a time.

    The decoded images never lie on this machine as a whole: neither here, if `out` is an address,
    nor where `load(out)` reads them. Each part is in a random order, always the same.

    Args:
        data: As for `load`.
        out: Folder, or address that fsspec reaches, such as "s3://bucket/birds".
        labels: As for `load`.
        image_size: Side in pixels to which the images of a folder are resized.
        fit: Method for images of another aspect ratio: "squash", "crop" or "pad".
        shard_mb: Megabytes of decoded pixels in a shard.
        near: Number of shards among which training shuffles images.
        data_dir: As for `load`.
        progress: Called with each image; None draws on standard error.

    Raises:
        UserError: If the data or a setting is wrong, or `out` holds something else.
        StorageError: If a file cannot be written or sent.
    """
    from convscope.datasets.sharded.source import source_of
    from convscope.datasets.sharded.writing import write_source

    place = data_settings(data, labels)
    progress = progress or console_progress()
    target = (
        out if is_address(out) else require_outside(user_path(out, "--out"), place["data_path"])
    )
    further = path_or_none(data_dir, "--data-dir")
    settled = resolve(Recipe(), {"image_size": image_size, "fit": fit})
    with source_of(place, further, settled.image_size, settled.fit, progress) as source:
        return write_source(source, target, shard_mb=shard_mb, near=near, progress=progress)
