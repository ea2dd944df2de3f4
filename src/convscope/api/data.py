"""Loading and checking data."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.splits import divide
from convscope.errors import DataError, UnknownNameError
from convscope.paths import path_or_none, user_path
from convscope.progress import Progress, console_progress
from convscope.recipe import Recipe, RunConfig, resolve
from convscope.types import Dataset

if TYPE_CHECKING:
    from convscope.datasets.checks.findings import CheckReport


def load(
    data: str | Path = "cifar10",
    *,
    data_dir: Path | str | None = None,
    image_size: int | None = None,
    fit: str = "squash",
    split: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load a dataset and divide it into training, validation and test images.

    Args:
        data: Registered name ("cifar10"), or folder of images; a folder with the name of a dataset
            is given as "./cifar10".
        data_dir: Further folder to look for the files of a registered dataset.
        image_size: Side in pixels to which the images of a folder are resized.
        fit: Method for images of another aspect ratio: "squash", "crop" or "pad".
        split: Settings of `split` that replace the dataset's own.
        progress: Called with downloads and packing; None draws on standard error.

    Raises:
        UnknownNameError: If `data` is neither a registered name nor a folder, or there is no such
            setting.
        ConfigError: If a setting's value is not allowed.
        DataError: If the folder cannot be used as it is.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    progress = progress or console_progress()
    name, folder = _name_data(data)
    entry = DATASETS.entry(name)
    chosen = {**entry.info.get("split", {}), **(split or {})}
    settings = resolve(Recipe(), {"fit": fit, "split": chosen})
    place = path_or_none(data_dir, "--data-dir")
    request = DataRequest(folder, place, image_size, settings.fit, progress)
    dataset = entry.value(request)
    for note in dataset.notes:
        progress.say(f"{dataset.name}: {note}")
    divided = divide(dataset, **settings.split.model_dump())
    for note in divided.notes[len(dataset.notes) :]:
        progress.say(f"{dataset.name}: {note}")
    return divided


def check(
    data: str | Path, *, data_dir: Path | str | None = None, progress: Progress | None = None
) -> "CheckReport":
    """Check data for problems: broken files, unusual modes, duplicates, leaks between parts.

    Args:
        data: Folder of images (its files are checked), or registered name (its pixels are).
        data_dir: Further folder to look for the files of a registered dataset.
        progress: Called with each image; None draws on standard error.

    Raises:
        UnknownNameError: If `data` is neither a registered name nor a folder.
        DataError: If the folder is missing or has no folders of classes.
    """
    from convscope.datasets.checks.check import check_dataset, check_folder

    progress = progress or console_progress()
    _, folder = _name_data(data)
    if folder is not None:
        return check_folder(folder, progress=progress)
    return check_dataset(load(data, data_dir=data_dir, progress=progress), progress=progress)


def load_for(config: RunConfig, data_dir: Path | str | None, progress: Progress) -> Dataset:
    """Load the data that a run's settings name, divided as they say."""
    return load(
        config.data_path or config.data,
        data_dir=data_dir,
        image_size=config.image_size,
        fit=config.fit,
        split=config.split.model_dump(),
        progress=progress,
    )


def load_of_run(
    config: RunConfig,
    data: Path | str | None,
    data_dir: Path | str | None,
    progress: Progress,
) -> Dataset:
    """Load the data that a run was trained on.

    `verify_split` checks whether its images are those of the run.

    Args:
        config: Settings of the run.
        data: Current place of a folder of images, if it moved.
        data_dir: Further folder to look for the files of a registered dataset.
        progress: Called with downloads and packing.

    Raises:
        DataError: If the folder no longer exists, or cannot be used.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    if data is not None:
        config = config.model_copy(update=data_settings(data))
    elif config.data_path and not user_path(config.data_path, "data_path").is_dir():
        raise DataError(
            f"the images of the run are no longer in {config.data_path}; "
            "give their current folder with --data"
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
        key = repr((config.data, config.data_path, config.image_size, config.fit, config.split))
        if key not in known:
            known.clear()
            known[key] = load_for(config, place, progress)
        return known[key]

    return load_known


def data_settings(data: str | Path) -> dict[str, Any]:
    """Return the settings that `--data` stands for."""
    name, folder = _name_data(data)
    return {"data": name, "data_path": str(folder) if folder else None}


def _name_data(data: str | Path) -> tuple[str, Path | None]:
    """Distinguish a registered name from a folder: ("cifar10", None) or ("folder", its path)."""
    text = str(data)
    if isinstance(data, str) and text != "folder" and text in DATASETS.names():
        # A name wins over a folder here: `--data digits --out digits` must keep its meaning.
        return text, None
    path = user_path(data, "--data")
    if isinstance(data, Path) or "/" in text + str(path) or "\\" in text or path.is_dir():
        # Where pathlib raises for links that lead round in a circle, os.path does not.
        return "folder", Path(os.path.realpath(path))
    if text == "folder":
        raise UnknownNameError("dataset", text, (), "; give the folder itself: --data PATH")
    DATASETS.entry(text)
    return text, None
