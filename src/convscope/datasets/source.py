"""What `--data` and `--labels` name: a built-in dataset, a folder, an archive, a list."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convscope.datasets import DATASETS, DataRequest, takes_place
from convscope.datasets.division.near import SIDE, near_copies_of
from convscope.datasets.division.splits import divide
from convscope.datasets.folders.archives import is_archive
from convscope.datasets.folders.columns import LabelTable, read_labels
from convscope.datasets.folders.labelled import tables_of
from convscope.datasets.folders.tables import is_table
from convscope.datasets.sharded.store import is_sharded
from convscope.errors import ConfigError, DataError, UnknownNameError
from convscope.images.find import kind_of
from convscope.images.fit import Fit
from convscope.paths import is_address, is_path, path_or_none, user_path
from convscope.progress import Progress, WorkAlone
from convscope.recipe import Recipe, RunConfig, SplitSettings, resolve
from convscope.storage import require_other, require_outside
from convscope.types import Dataset

_MOST_ABOVE = 3
"""Number of folders up to which a table above the images is found again where both have moved."""


_FOUND = ("folder", "shards")
"""Datasets that a path stands for, by what lies there; others that take a place are named."""

_OWN_SPLIT: Mapping[str, Any] = {}


def data_settings(data: str | Path, labels: str | Path | None = None) -> dict[str, Any]:
    """Return the settings that `--data` and `--labels` stand for.

    A list of files in place of a folder is a table of labels of the folder that holds its files.

    Args:
        data: Registered name, folder or archive of images, or table of images and labels.
        labels: Table of the labels of the folder, perhaps with its columns, as `LabelTable` spells
            it: a path, or a name in the folder or in those of its parts; None leaves the setting
            out.

    Returns:
        `data`, `data_path` and, if there is a table, `labels`: its path relative to the folder, so
        that it is found again where both have moved, or absolute if it is elsewhere.

    Raises:
        UnknownNameError: If `data` is neither a registered name nor a path.
        ConfigError: If one of them is no text and no path, or if there is a table of labels, but no
            folder.
        DataError: If there is no such table, or a list cannot be read.
    """
    if not is_path(data):
        raise ConfigError(
            f"data is of type {type(data).__name__}; give the name of a dataset, or the path of a "
            "folder, an archive or a table of images"
        )
    table = LabelTable(str(data)) if os.path.lexists(data) else LabelTable.parse(str(data))
    name, path = _name_data(data if table.path == str(data) else table.path)
    if name == "shards" and path is not None:
        if labels is not None:
            raise ConfigError("--labels is for a folder of images; shards hold their labels")
        return {"data": name, "data_path": str(path)}
    if path is None:
        if labels is not None:
            raise ConfigError(f"--labels is for a folder of images; {name} has its own labels")
        return {"data": name, "data_path": None, "labels": None}
    assert isinstance(path, Path)
    if is_table(path) and kind_of(path) != "folder":
        if labels is not None:
            raise ConfigError(
                f"{path} is a list of images with their labels; with --labels, --data is the "
                "folder of the images"
            )
        root = _folder_of_list(path, table)
        return {"data": name, "data_path": str(root), "labels": str(table.at(_below(root, path)))}
    settings = {"data": name, "data_path": str(path)}
    if labels is not None:
        settings["labels"] = labels_setting(path, labels)
    return settings


def settings_at(name: str, place: str | Path, labels: str | Path | None = None) -> dict[str, Any]:
    """Return the settings of a dataset whose place is given, as `data_settings` does.

    Args:
        name: Dataset that the place was of; a dataset of a plugin keeps its name.
        place: Folder, archive, table or address; the name of the dataset leaves it where it is.
        labels: Table of the labels.
    """
    if name in _FOUND or not takes_place(name):
        return data_settings(place, labels)
    settings = {"data": name}
    if place != name:
        path = place if is_address(place) else user_path(place, "--data").absolute()
        settings["data_path"] = str(path)
    return settings if labels is None else {**settings, "labels": labels_setting(None, labels)}


def load_source(
    place: Mapping[str, Any],
    data_dir: Path | str | None,
    progress: Progress,
    *,
    image_size: int | None = None,
    fit: str = "squash",
    split: Mapping[str, Any] = _OWN_SPLIT,
) -> Dataset:
    """Load and divide the data of settings.

    Args:
        place: Settings `data`, `data_path` and perhaps `labels`.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with downloads, packing and notes.
        image_size: Side in pixels to which the images of a folder are resized.
        fit: Method for images of another aspect ratio.
        split: Settings of `split` that replace the dataset's own.

    Raises:
        UnknownNameError: If there is no such dataset or setting.
        ConfigError: If a setting's value is not allowed.
        DataError: If the folder or the table cannot be used as it is.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    own = DATASETS.entry(place["data"]).info.get("split", {})
    given = {"image_size": image_size, "fit": fit, "split": {**own, **split}}
    settings = resolve(Recipe(), given)
    size = settings.image_size
    whole = load_undivided(place, data_dir, progress, image_size=size, fit=settings.fit)
    alike = near_copies(place, data_dir, progress) if settings.split.near_copies else None
    return divide_and_tell(whole, settings.split, progress, alike)


def load_undivided(
    place: Mapping[str, Any],
    data_dir: Path | str | None,
    progress: Progress,
    *,
    image_size: int | None,
    fit: Fit,
) -> Dataset:
    """Load the data of settings in the parts in which they are; as `load_source`, if valid."""
    at = place["data_path"]
    address = at if at is not None and is_address(at) else None
    folder = None if address else path_or_none(at, "data_path")
    further, labels = path_or_none(data_dir, "--data-dir"), place.get("labels")
    request = DataRequest(folder, address, further, image_size, fit, labels, progress)
    dataset = DATASETS.get(place["data"])(request)
    for note in dataset.notes:
        progress.say(f"{dataset.name}: {note}")
    return dataset


def near_copies(
    place: Mapping[str, Any], data_dir: Path | str | None, progress: Progress
) -> dict[str, str]:
    """Return the groups of near copies in the data of settings, as `near_copies_of` does."""
    # Its notes are those of the images in the size of the run.
    small = load_undivided(place, data_dir, WorkAlone(progress), image_size=SIDE, fit="squash")
    return near_copies_of(small, progress)


def divide_and_tell(
    dataset: Dataset,
    split: SplitSettings,
    progress: Progress,
    alike: Mapping[str, str] | None,
) -> Dataset:
    """Return the dataset with all three parts, as `divide`, with its notes printed."""
    try:
        divided = divide(dataset, alike, **split.model_dump())
    except DataError as error:
        if not alike:
            raise
        raise DataError(
            f"{error}; near copies are a group here: omit split.near_copies to divide without"
        ) from None
    for note in divided.notes[len(dataset.notes) :]:
        progress.say(f"{dataset.name}: {note}")
    return divided


def labels_setting(root: Path | None, labels: str | Path) -> str:
    """Return the setting that `--labels` stands for, as `data_settings` does.

    Args:
        root: Folder of the images; None if it is not known, for an absolute path.
        labels: Table, perhaps with its columns.

    Raises:
        ConfigError: If it is no text and no path.
        DataError: If there is no such table.
    """
    if not is_path(labels):
        raise ConfigError(
            f"labels is of type {type(labels).__name__}; give the path of a table (a data frame is "
            "written to one by its to_csv)"
        )
    # A colon may be part of its name.
    table = LabelTable(str(labels)) if os.path.lexists(labels) else LabelTable.parse(str(labels))
    path = user_path(table.path, "--labels")
    if kind_of(path) != "dangling":
        whole = _resolved(path)
        return str(table.at(str(whole) if root is None else _below(root, whole)))
    if root is not None and is_archive(root):
        # Messages name what is in an archive by the path of both.
        whole, archive = path.resolve(), root.resolve()
        path = whole.relative_to(archive) if whole.is_relative_to(archive) else path
        if not path.is_absolute():
            return str(table.at(path.as_posix()))
    if root is not None and not path.is_absolute() and kind_of(root) == "folder":
        found = tables_of(root, path.as_posix())
        return str(table.at(path.as_posix() if len(found) > 1 else _below(root, found[0])))
    raise DataError(f"there is no table {path}; name the table of the labels with --labels TABLE")


def settled_labels(labels: str) -> str:
    """Return the setting `labels` of a file of settings, with `~` and variables expanded."""
    table = LabelTable.parse(labels)
    return str(table.at(str(user_path(table.path, "labels"))))


def moved(config: RunConfig, data: str | Path | None, labels: str | Path | None) -> RunConfig:
    """Return the settings of a run whose images or table are elsewhere now.

    Args:
        config: Settings of the run.
        data: Current place of the images; None if they have not moved.
        labels: Current place of the table of their labels; None if it has not moved, or with the
            images.

    Raises:
        DataError: If there is no such table.
    """
    if data is None and labels is None:
        return config
    at = (config.data_path or config.data) if data is None else data
    place = settings_at(config.data, at, labels)
    return config.model_copy(update=place)


def table_of(place: Mapping[str, Any]) -> str | None:
    """Return the table of labels of settings as `--labels` takes it, in any folder; or None."""
    if place.get("labels") is None:
        return None
    table = LabelTable.parse(place["labels"])
    whole = os.path.normpath(Path(place["data_path"]) / table.path)
    # A table in the folder of each part has a name alone.
    return str(table.at(whole) if os.path.lexists(whole) else table)


def words_of(place: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options of a command line that name the data of settings."""
    words = ("--data", place["data_path"] or place["data"])
    labels = table_of(place)
    return words if labels is None else (*words, "--labels", labels)


def require_apart(place: Path, data_path: Path | str | None, labels: str | None) -> Path:
    """Return the path of a result, unless it would replace a file of the user's data.

    Args:
        place: File to be written.
        data_path: Folder of images; None if the data is not the user's own.
        labels: Table of their labels, as `data_settings` gives it; None if there is none.

    Raises:
        DataError: If the path is in the folder, or is the table, which may lie elsewhere.
    """
    require_outside(place, data_path)
    if data_path is None or labels is None:
        return place
    tables: list[Path] = []
    # Where there is none, whoever reads it says so.
    with contextlib.suppress(DataError):
        tables = tables_of(Path(data_path), LabelTable.parse(labels).path)
    return require_other(place, tables)


def _below(root: Path, table: Path) -> str:
    """Return the path of a table relative to the folder if it is in it or not far above."""
    way = os.path.relpath(table, root)
    steps = Path(way).parts
    above = steps.count("..")
    near = above <= _MOST_ABOVE and (above == 0 or above == len(steps) - 1)
    return Path(way).as_posix() if near else str(table)


def _folder_of_list(path: Path, table: LabelTable) -> Path:
    """Return the deepest folder that holds all files of a list."""
    top = os.path.normpath(path.parent)
    folders = set()
    for row in read_labels(path, table).rows:
        if row.file:
            whole = os.path.normpath(f"{top}/{row.file.replace(chr(92), '/')}")
            folders.add(os.path.dirname(whole))  # noqa: PTH120
    inside = [each for each in folders if (each + os.sep).startswith(top.rstrip(os.sep) + os.sep)]
    # One that leads out of the folder is refused by name where the list is read.
    shared = os.path.commonpath(inside) if inside else top
    return Path(shared) if kind_of(Path(shared)) == "folder" else Path(top)


def _name_data(data: str | Path) -> tuple[str, Path | str | None]:
    """Distinguish a registered name from a path: ("cifar10", None) or ("folder", its path)."""
    text = str(data)
    if is_address(data):
        return "shards", text.rstrip("/")
    if isinstance(data, str) and text != "folder" and text in DATASETS.names():
        # A name wins over a folder here: `--data digits --out digits` must keep its meaning.
        return text, None
    path = user_path(data, "--data")
    if is_sharded(path):
        return "shards", _resolved(path)
    there = kind_of(path) in ("folder", "file")
    if isinstance(data, Path) or "/" in text + str(path) or "\\" in text or there:
        return "folder", _resolved(path)
    if text == "folder":
        raise UnknownNameError("dataset", text, (), "; give the folder itself: --data PATH")
    if text not in DATASETS.names():
        named = [name for name in DATASETS.names() if not takes_place(name)]
        raise UnknownNameError("dataset", text, named, "; nor is there a folder of that name here")
    return text, None


def _resolved(path: Path) -> Path:
    """Return a path without links; a table or archive that is one keeps its own folder and name."""
    # Where pathlib raises for links that lead round in a circle, os.path does not.
    if (is_table(path) or is_archive(path)) and kind_of(path) != "folder":
        return Path(os.path.realpath(path.parent)) / path.name
    return Path(os.path.realpath(path))
