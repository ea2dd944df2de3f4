"""Training, validation and test parts: made the same way every time, and recorded."""

import csv
import dataclasses
import json
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convscope.datasets.division.draw import Places, Pool, draw_folds, hold_out, keys_of
from convscope.datasets.division.kept import drawn_once
from convscope.datasets.division.part_notes import folder_above, part_notes
from convscope.errors import ConfigError, DataError
from convscope.recipe import SplitSettings
from convscope.storage import atomic_path
from convscope.types import PART_NAMES, Dataset, ImageView, SealedSplit, Split, Stacked, classes_of
from convscope.wording import (
    composed,
    counted,
    printable,
    quoted,
    spreadsheet_path,
    spreadsheet_text,
)

COLUMNS = ("id", "label", "class_name", "split", "sha256_16")
"""Columns of `split.csv`; where there are groups, `group` comes last."""

_REMEDY = "add images, or give the parts yourself as train/, val/ and test/ folders"


def divide(dataset: Dataset, alike: Mapping[str, str] | None = None, **settings: Any) -> Dataset:
    """Return the dataset with all three parts; existing parts stay as they are.

    Copies of one image (equal pixels) go to one part together, as do the images of a group, and a
    class with an image for each part gets one in each. Facts that the user should know about the
    parts are added to the notes.

    Args:
        dataset: Dataset that may lack `val` and `test`.
        alike: Group of each image that has near copies, by its name, see `near_copies_of`; with
            them, images of a group that have a near copy in another are of one group.
        settings: Fields of `SplitSettings`.

    Raises:
        DataError: If a class has too few images for its share of each part, or folds are requested
            although there is a validation part already.
    """
    chosen = SplitSettings(**settings)
    notes: list[str] = []
    if chosen.group is not None:
        dataset = _grouped(dataset, chosen.group, notes)
    if alike:
        dataset = _with_near_copies(dataset, alike)
    if chosen.images is not None and chosen.images < (n_all := _n_images(dataset)):
        dataset = _draw_images(dataset, chosen, chosen.images / n_all)
        notes.append(f"{_n_images(dataset):,} of {n_all:,} images are used (split.images)")
    if alike is not None:
        n_alike = sum(str(each) in alike for part in dataset.parts.values() for each in part.ids)
        those = f"{n_alike:,} images have near copies, and are in a group with them"
        notes.append(those if n_alike else "no near copies were found")
    train, val, test = dataset.train, dataset.val, dataset.test
    if chosen.fold_as == "val_of_all" and val is not None:
        notes.append("the existing validation images are divided into folds with the others")
        train, val = Split.joined([train, val]), None
    if chosen.part_of_fold == "test" and test is not None:
        notes.append("each fold is the test part in turn; the existing test images are not used")
        test = None
    drawn = frozenset(name for name, part in (("val", val), ("test", test)) if part is None)
    if val is None or test is None:
        keys = keys_of(train.hashes, train.groups) if chosen.version > 1 else None
        pool = Pool(train.labels, keys, len(dataset.class_names), train.groups is not None)
        there = {"has_val": val is not None, "has_test": test is not None}
        places = drawn_once(
            pool,
            {**chosen.model_dump(), **there},
            lambda: draw_parts(pool, dataset.class_names, chosen, **there),
        )
        if _in_shards(train):
            # Each is read or fetched as a whole: rows in their order need it once, not many times.
            places = {name: np.sort(rows) for name, rows in places.items()}
        if "test" in places:
            test = SealedSplit(train.select(places["test"]))
        val = train.select(places["val"]) if "val" in places else val
        train = train.select(places["train"])
    divided = dataclasses.replace(dataset, train=train, val=val, test=test, drawn=drawn)
    notes += part_notes(divided)
    return dataclasses.replace(divided, notes=(*dataset.notes, *notes))


def _grouped(dataset: Dataset, pattern: str, notes: list[str]) -> Dataset:
    """Return the dataset with groups by the names of its images, see `SplitSettings.group`."""
    if dataset.train.groups is not None:
        raise DataError(
            "the table of labels says the groups, and so does split.group; omit one of them"
        )
    parts: dict[str, Any] = {}
    n_alone, first = 0, ""
    for name, part in dataset.parts.items():
        groups = groups_by_name(part.ids, pattern)
        if len(dataset.parts) > 1:
            # "train/cat/video7" and "test/cat/video7" are frames of one video.
            above = folder_above(map(str, part.ids), but=dataset.class_names)
            groups = [group.removeprefix(above) or group for group in groups]
        alone = [place for place, group in enumerate(groups) if not group]
        n_alone += len(alone)
        first = first or (str(part.ids[alone[0]]) if alone else "")
        parts[name] = part.in_groups(np.array(groups, np.str_))
    n_images = _n_images(dataset)
    if n_alone == n_images:
        raise DataError(
            f"no name of an image matches split.group '{printable(pattern)}' (first: "
            f"'{printable(first)}'); correct the pattern"
        )
    if n_alone:
        notes.append(
            f"{n_alone:,} of {counted(n_images, 'image')} are of no group, since their names do "
            f"not match split.group (first: '{printable(first)}')"
        )
    return dataclasses.replace(dataset, **parts)


def _with_near_copies(dataset: Dataset, alike: Mapping[str, str]) -> Dataset:
    """Return the dataset with near copies in one group, together with the groups that they have."""
    splits = list(dataset.parts.values())
    given = [np.full(len(each), "") if each.groups is None else each.groups for each in splits]
    groups = np.concatenate(given)
    copies = [alike.get(str(image_id), "") for each in splits for image_id in each.ids]
    # As of one picture; an image without near copies is one of its own.
    pictures = [f"copies/{name}" if name else f"{row}" for row, name in enumerate(copies)]
    keys = keys_of(pictures, groups)
    # The groups of a table or pattern keep their names.
    name_of: dict[Hashable, str] = {}
    for names in (groups.tolist(), copies):
        for key, name in zip(keys, names, strict=True):
            if name:
                name_of.setdefault(key, name)
    joined = np.array([name_of.get(key, "") for key in keys], np.str_)
    ends = np.cumsum([len(each) for each in splits])[:-1]
    parts: dict[str, Any] = {
        name: part.in_groups(named)
        for (name, part), named in zip(dataset.parts.items(), np.split(joined, ends), strict=True)
    }
    return dataclasses.replace(dataset, **parts)


def groups_by_name(ids: Iterable[str], pattern: str) -> list[str]:
    """Return the group of each image by its name, "" of none, see `SplitSettings.group`."""
    form = re.compile(pattern)
    found = [form.search(str(image_id)) for image_id in ids]
    return ["" if match is None else _group_of(match) for match in found]


def _group_of(match: re.Match[str]) -> str:
    """Return what the brackets of a pattern matched; without brackets, what all of it did."""
    return "/".join(each or "" for each in match.groups()) or match[0]


def _in_shards(part: Split) -> bool:
    """Return whether the images lie in files that are read as a whole."""
    images = part.images.base if isinstance(part.images, ImageView) else part.images
    return isinstance(images, Stacked) and images.n_near is not None


def _n_images(dataset: Dataset) -> int:
    return sum(map(len, dataset.parts.values()))


def _draw_images(dataset: Dataset, settings: SplitSettings, share: float) -> Dataset:
    """Return the dataset with that share of the images of each part."""
    n_classes = len(dataset.class_names)

    def drawn(part: Split | SealedSplit, least: int) -> Places:
        pool = Pool(part.labels, None, n_classes)
        _, places = hold_out(
            pool,
            share,
            settings.seed,
            stratify=settings.stratify,
            least_kept=np.zeros(n_classes, dtype=np.int64),
            least_held=np.minimum(pool.counts, least),
        )
        if not len(places):
            raise DataError(
                f"split.images={settings.images} leaves a part without images; use more"
            )
        return np.sort(places)

    # Parts that are still to be split off need an image of each class too.
    least = 1 + (dataset.val is None) + (dataset.test is None)
    parts: dict[str, Any] = {
        name: part.select(drawn(part, least if name == "train" else 1))
        for name, part in dataset.parts.items()
    }
    return dataclasses.replace(dataset, **parts)


def draw_parts(
    pool: Pool,
    class_names: tuple[str, ...],
    settings: SplitSettings,
    *,
    has_val: bool,
    has_test: bool,
) -> dict[str, Places]:
    """Return the indices of the images of each missing part, and of "train".

    Args:
        pool: Training images as given.
        class_names: Names in the order of the labels.
        settings: Settings of the division.
        has_val: Whether there is a separate validation part.
        has_test: Whether there is a separate test part.

    Raises:
        DataError: If there are too few images.
    """
    if has_val and settings.part_of_fold == "val":
        raise DataError(
            "there are validation images of their own, so there are no folds; move them to the "
            "training images, or omit split.folds"
        )
    n_parts = 1 + (not has_val) + (not has_test)
    if settings.stratify and n_parts == 3:
        _refuse_lonely(pool, class_names)
    whole, rest = pool, np.arange(len(pool))
    # A class with fewer images than parts is required in training only.
    full = pool.n_different >= n_parts
    found: dict[str, Places] = {}
    for part, is_there in (("test", has_test), ("val", has_val)):
        if is_there:
            continue
        n_parts -= 1
        if part == settings.part_of_fold:
            keep, held_out = _fold(pool, whole, class_names, settings)
        else:
            fair = settings.version > 1
            # A fold may have taken so many of a class that training needs all that are left.
            spare = full & (pool.n_different > n_parts)
            keep, held_out = hold_out(
                pool,
                settings.test_fraction if part == "test" else settings.val_fraction,
                settings.seed,
                stratify=settings.stratify,
                least_kept=np.minimum(pool.n_different, n_parts) * fair,
                least_held=spare * np.int64(fair),
            )
        if not len(keep) or not len(held_out):
            raise _too_few(part, whole, settings)
        found[part], rest = rest[held_out], rest[keep]
        pool = pool.take(keep)
    return {**found, "train": rest}


def _refuse_lonely(pool: Pool, class_names: tuple[str, ...]) -> None:
    lonely = np.flatnonzero((pool.counts > 0) & (pool.n_different < 2)).tolist()
    if not lonely:
        return
    n_images = pool.counts[lonely]
    most = int(n_images.max())
    said = "up to " * bool(n_images.min() < most) + counted(most, "image")
    alike = f" that are all {_alike(pool)}" if most > 1 else ""
    names = quoted(class_names[label] for label in lonely)
    if len(lonely) == 1:
        which, it = f"class {names} has {said}", "it"
    else:
        which, it = f"{len(lonely):,} classes ({names}) have {said} each", "them"
    raise DataError(f"{which}{alike}, too few to split; remove {it}, {_REMEDY}")


def _alike(pool: Pool) -> str:
    return "of one group" if pool.grouped else "the same"


def _fold(
    pool: Pool, whole: Pool, class_names: tuple[str, ...], settings: SplitSettings
) -> tuple[Places, Places]:
    folds = settings.folds or 1
    if not settings.stratify:
        fewest, where = len(np.unique(pool.unit_of)), ""
        n_given = len(whole)
    else:
        present = np.flatnonzero(pool.counts)
        label = present[pool.n_different[present].argmin()]
        fewest, where = int(pool.n_different[label]), f" of class '{printable(class_names[label])}'"
        n_given = int(whole.counts[label])
    if fewest < folds:
        noun, others = (
            ("group", "images in all") if pool.grouped else ("image", "with test images and copies")
        )
        more = f" ({n_given:,} {others})" if n_given > fewest else ""
        # Commands that hold out each fold in turn have an option for their number.
        option = "split.folds" if settings.fold_as == "val" else "--folds"
        raise DataError(
            f"{counted(fewest, noun)}{where}{more} cannot be in {folds} folds; "
            f"choose fewer ({option}), or add images"
        )
    part_of = draw_folds(pool, folds, settings.seed, stratify=settings.stratify)
    return np.flatnonzero(part_of != settings.fold), np.flatnonzero(part_of == settings.fold)


def _too_few(part: str, whole: Pool, settings: SplitSettings) -> DataError:
    """Return the error for an empty part, which names the setting that is too small."""
    name = PART_NAMES[part]
    n_classes = counted(int((whole.counts > 0).sum()), "class", "classes")
    fraction = settings.test_fraction if part == "test" else settings.val_fraction
    key = f"split.{part}_fraction ({fraction:g})"
    if settings.stratify:
        said = (
            f"no class has an image for the {name} part, {key}, in addition to those of other parts"
        )
        advice = _REMEDY
    else:
        said = f"{key} leaves none for the {name} part, or none for training"
        advice = f"change it, or {_REMEDY}"
    those = counted(len(whole), "image")
    if whole.grouped:
        those += f" in {counted(len(np.unique(whole.unit_of)), 'group')}"
    return DataError(f"{those} of {n_classes} are too few: {said}; {advice}")


def write_split(dataset: Dataset, path: Path) -> None:
    """Write a row per image: id, label, class name, part, hash of its pixels, and its group if any.

    Raises:
        StorageError: If the file cannot be written.
    """
    grouped = dataset.train.groups is not None
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *(["group"] if grouped else [])])
        for name, split in dataset.parts.items():
            groups = [""] * len(split) if split.groups is None else split.groups
            rows = zip(split.ids, split.labels, split.hashes, groups, strict=True)
            for image_id, label, digest, group in rows:
                class_name = _class_cell(label, dataset.class_names)
                row = [spreadsheet_path(image_id), _label_cell(label), class_name, name, digest]
                writer.writerow([*row, *([spreadsheet_text(str(group))] if grouped else [])])


def _label_cell(label: Any) -> str:
    """Return the class index of an image; where it may have any number, a list of them."""
    return json.dumps(classes_of(label)) if np.ndim(label) else str(label)


def _class_cell(label: Any, class_names: Sequence[str]) -> str:
    if not np.ndim(label):
        return spreadsheet_text(class_names[label])
    return json.dumps([class_names[index] for index in classes_of(label)], ensure_ascii=False)


def read_split(path: Path) -> list[dict[str, str]]:
    """Read the table that `write_split` wrote: a row for each image; "group" is "" without groups.

    Raises:
        DataError: If it is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                {column: row[column] for column in COLUMNS} | {"group": row.get("group") or ""}
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, csv.Error, UnicodeDecodeError):
        raise DataError(f"{path} is missing or damaged, so the split cannot be verified") from None
    # As written by `spreadsheet_path`.
    return [{**row, "id": row["id"].removeprefix("./")} for row in rows]


def in_recorded_groups(dataset: Dataset, path: Path) -> Dataset:
    """Return the dataset with the groups that `write_split` wrote.

    Raises:
        DataError: If the table is missing or damaged.
    """
    group_of = {composed(row["id"]): row["group"] for row in read_split(path)}
    if not any(group_of.values()):
        return dataset
    parts: dict[str, Any] = {
        name: part.in_groups(
            np.array([group_of.get(composed(str(each)), "") for each in part.ids], np.str_)
        )
        for name, part in dataset.parts.items()
    }
    return dataclasses.replace(dataset, **parts)


def images_of_part(path: Path, part: str) -> dict[tuple[str, ...], str]:
    """Return the group of each image of a part of `split.csv`, by its name, label and hash."""
    return {
        (row["id"], row["label"], row["sha256_16"]): row["group"]
        for row in read_split(path)
        if row["split"] == part
    }


def verify_split(dataset: Dataset, path: Path, part: str) -> None:
    """Check that one part of the dataset still matches `split.csv`.

    Args:
        dataset: Dataset as loaded and divided now.
        path: File `split.csv` of a run.
        part: Name of the part: "train", "val" or "test".

    Raises:
        DataError: If images were added, removed, relabelled or changed since.
    """
    split = dataset.parts[part]
    now = {
        (composed(str(image_id)), _label_cell(label), digest)
        for image_id, label, digest in zip(split.ids, split.labels, split.hashes, strict=True)
    }
    before = {(composed(name), *rest) for name, *rest in images_of_part(path, part)}
    if now != before:
        changed = len({row[0] for row in now ^ before})
        raise DataError(
            f"the {part} images are not those of the run: {changed} differ from {path}; "
            "restore the data, or train again"
        )


def require_drawn(dataset: Dataset, named: Collection[str]) -> None:
    """Refuse a share of the images for a part that the data bring, where it has no effect.

    Args:
        dataset: Dataset from `divide`.
        named: Dotted names of the settings that the user named.

    Raises:
        ConfigError: If one of them is such a share.
    """
    for part in ("val", "test"):
        key = f"split.{part}_fraction"
        if key in named and part not in dataset.drawn:
            raise ConfigError(
                f"{key} has no effect here: {dataset.name} has {PART_NAMES[part]} images of its "
                f"own; omit {key}"
            )


def require_any_class(dataset: Dataset, part: str) -> None:
    """Refuse images to be judged by of which none has a class, where each may have any number.

    Args:
        dataset: Dataset in three parts.
        part: Name of the part: "val" or "test".

    Raises:
        DataError: If there is no such image in that part.
    """
    if dataset.multi_label and not dataset.parts[part].labels.any():
        raise DataError(
            f"no {PART_NAMES[part]} image of {dataset.name} has any class, so there would be no "
            "mAP; give that part images with classes"
        )


def require_classes(dataset: Dataset, ours: list[str]) -> None:
    """Refuse data with other classes than those of a run, in its order.

    Raises:
        DataError: If the classes or their order differ.
    """
    theirs = list(dataset.class_names)
    if theirs == ours:
        return
    odd = sorted(set(theirs) ^ set(ours))[:3]
    raise DataError(
        f"the data has {len(theirs)} classes and the run was trained on {len(ours)} "
        f"(not in both: {', '.join(odd) or 'none, but a different order'}); "
        "evaluate it on images of some of its own classes with --on DATA, or train again"
    )
