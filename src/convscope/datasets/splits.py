"""Training, validation and test parts: made the same way every time, and written down."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convscope.errors import DataError
from convscope.storage import atomic_path
from convscope.types import Dataset, SealedSplit, Split

COLUMNS = ("id", "label", "class_name", "split", "sha256_16")


def divide(
    dataset: Dataset,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    stratify: bool,
    folds: int | None = None,
    fold: int = 0,
) -> Dataset:
    """Return the dataset with all three parts; those that it already has stay as they are.

    Args:
        dataset: May lack `val` and `test`.
        val_fraction: Share of the training images that becomes validation, in (0, 1).
        test_fraction: Share of all images that becomes test if there is no test part, in (0, 1).
        seed: Decides the members; the same seed gives the same members.
        stratify: Keep the share of each class equal in all parts.
        folds: The training images are divided into so many parts instead, of which one validates.
        fold: Which of them, from 0.

    Raises:
        DataError: If a class has too few images for its share of each part, or there are
            validation images already and folds are asked for.
    """
    train, val, test = dataset.train, dataset.val, dataset.test
    if test is None:
        keep, held_out = _indices(train, dataset.class_names, test_fraction, seed, stratify)
        train, test = train.select(keep), SealedSplit(train.select(held_out))
    if val is not None and folds is not None:
        raise DataError(
            f"{dataset.name} has validation images of its own, so there are no folds; put them "
            "with the training images, or leave split.folds away"
        )
    if val is None:
        if folds is None:
            keep, held_out = _indices(train, dataset.class_names, val_fraction, seed, stratify)
        else:
            keep, held_out = _fold(train, folds, fold, seed, stratify)
        train, val = train.select(keep), train.select(held_out)
    return dataclasses.replace(dataset, train=train, val=val, test=test)


def _indices(
    split: Split, class_names: tuple[str, ...], fraction: float, seed: int, stratify: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    from sklearn.model_selection import train_test_split

    if stratify:
        counts = np.bincount(split.labels, minlength=len(class_names))
        if counts.min() < 2:
            name = class_names[int(counts.argmin())]
            raise DataError(
                f"class '{name}' has {counts.min()} image(s), too few to split; add images, or "
                "give the parts yourself as train/, val/ and test/ folders"
            )
    try:
        # On the indices, not the images: the members are the same and nothing is copied.
        keep, held_out = train_test_split(
            np.arange(len(split)),
            test_size=fraction,
            random_state=seed,
            stratify=split.labels if stratify else None,
        )
    except ValueError as error:
        raise DataError(
            f"{len(split)} images of {len(class_names)} classes cannot be split with "
            f"{fraction:.0%} held out: {error}; add images or change split.val_fraction"
        ) from None
    return keep, held_out


def _fold(
    split: Split, folds: int, fold: int, seed: int, stratify: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if stratify else KFold
    fewest = int(np.bincount(split.labels).min()) if stratify else len(split)
    if fewest < folds:
        raise DataError(f"{fewest} images are too few for {folds} folds; choose fewer")
    parts = kind(folds, shuffle=True, random_state=seed).split(split.labels, split.labels)
    keep, held_out = list(parts)[fold]
    return keep, held_out


def write_split(dataset: Dataset, path: Path) -> None:
    """Write a row per image: id, label, class name, part, hash of its pixels.

    Raises:
        StorageError: If the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, split in _parts(dataset).items():
            for image_id, label, digest in zip(split.ids, split.labels, split.hashes, strict=True):
                writer.writerow([image_id, label, dataset.class_names[label], name, digest])


def read_split(path: Path) -> list[dict[str, str]]:
    """Read the table that `write_split` wrote: a row for each image.

    Raises:
        DataError: If it is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{column: row[column] for column in COLUMNS} for row in csv.DictReader(file)]
    except (OSError, KeyError, csv.Error, UnicodeDecodeError):
        raise DataError(f"{path} is missing or damaged, so the split cannot be verified") from None


def verify_split(dataset: Dataset, path: Path, part: str) -> None:
    """Check that one part of the dataset is still what `split.csv` says.

    Args:
        dataset: As loaded and divided now.
        path: The `split.csv` of a run.
        part: "train", "val" or "test".

    Raises:
        DataError: If images were added, removed, relabelled or changed since.
    """
    split = _parts(dataset)[part]
    now = {
        (str(image_id), str(label), digest)
        for image_id, label, digest in zip(split.ids, split.labels, split.hashes, strict=True)
    }
    before = {
        (row["id"], row["label"], row["sha256_16"])
        for row in read_split(path)
        if row["split"] == part
    }
    if now != before:
        changed = len({row[0] for row in now ^ before})
        raise DataError(
            f"the {part} images are not those of the run: {changed} differ from {path}; "
            "restore the data, or train again"
        )


def _parts(dataset: Dataset) -> dict[str, Split | SealedSplit]:
    parts = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    return {name: split for name, split in parts.items() if split is not None}
