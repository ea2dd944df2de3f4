"""Loading and checking data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.datasets.source import data_settings, load_source, moved
from convscope.errors import DataError
from convscope.paths import path_or_none, user_path
from convscope.progress import Progress, console_progress
from convscope.recipe import RunConfig
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


def load_for(config: RunConfig, data_dir: Path | str | None, progress: Progress) -> Dataset:
    """Load the data that a run's settings name, divided as they say."""
    settings = config.model_dump()
    chosen = {key: settings[key] for key in ("image_size", "fit", "split")}
    return load_source(settings, data_dir, progress, **chosen)


def load_of_run(
    config: RunConfig,
    data: Path | str | None,
    labels: Path | str | None,
    data_dir: Path | str | None,
    progress: Progress,
) -> Dataset:
    """Load the data that a run was trained on.

    `verify_split` checks whether its images are those of the run.

    Args:
        config: Settings of the run.
        data: Current place of a folder of images, if it moved.
        labels: Current place of the table of its labels, if that moved.
        data_dir: Further folder to look for the files of a registered dataset.
        progress: Called with downloads and packing.

    Raises:
        DataError: If the folder no longer exists, or cannot be used.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    config = moved(config, data, labels)
    if data is None and config.data_path and not user_path(config.data_path, "data_path").exists():
        raise DataError(
            f"the images of the run are no longer in {config.data_path}; "
            "give their current place with --data"
        )
    return load_for(config, data_dir, progress)


def load_once(data_dir: Path | str | None, progress: Progress) -> Callable[[RunConfig], Dataset]:
    """Return `load_for` with a memory: settings that name the data of the last call reuse it.

    For a study, whose runs mostly share one set of images.
    """
    known: dict[str, Dataset] = {}
    # Looked at before there is work in vain.
    place = path_or_none(data_dir, "--data-dir")

    def load_known(config: RunConfig) -> Dataset:
        of_data = (config.data, config.data_path, config.labels)
        key = repr((*of_data, config.image_size, config.fit, config.split))
        if key not in known:
            known.clear()
            known[key] = load_for(config, place, progress)
        return known[key]

    return load_known
