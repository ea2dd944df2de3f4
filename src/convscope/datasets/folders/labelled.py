"""A folder of images whose classes are in a table: the same layout as of one with class folders.

A row counts only if its image was found by walking the folder, so nothing outside of it is opened,
whatever the table says.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from convscope.datasets.folders.columns import Labels, LabelTable, read_labels
from convscope.datasets.folders.image_index import ImageIndex
from convscope.datasets.folders.layout import EVERY, Layout, Problem, note_odd_names
from convscope.datasets.folders.matched_rows import (
    MatchedRows,
    match_rows,
    no_part,
    note_rows,
    require_some,
)
from convscope.datasets.folders.multi_label import FEW, NUMBER, divided, require_one_kind
from convscope.datasets.folders.parts import read_part
from convscope.errors import DataError
from convscope.images.find import kind_of, list_folder, walk_images
from convscope.types import PART_NAMES
from convscope.wording import counted, printable, quoted


def tables_of(root: Path, path: str) -> list[Path]:
    """Return the files of a table of labels: one, or one of that name in the folder of each part.

    Args:
        root: Folder of images.
        path: Path of the table, absolute or relative to the root.

    Raises:
        DataError: If there is none.
    """
    whole = Path(os.path.normpath(root / path))
    if kind_of(whole) != "dangling":
        return [whole]
    if PurePosixPath(path).name == path:
        places = _folders_in(root)
        for parts in (places, [inner for place in places for inner in _folders_in(place)]):
            found = [part / path for part in parts if read_part(part.name)]
            found = [file for file in found if kind_of(file) == "file"]
            if found:
                return found
    raise DataError(
        f"there is no table {printable(path)}"
        f"{'' if Path(path).is_absolute() else f' in {root}'}; name the table of the labels with "
        "--labels TABLE"
    )


def _folders_in(place: Path) -> list[Path]:
    return [path for path in list_folder(place) if kind_of(path) == "folder"]


def read_labelled(root: Path, named: LabelTable, tables: Sequence[Path] | None = None) -> Layout:
    """Return the layout of a folder of images by a table of their labels.

    Args:
        root: Folder of images.
        named: Table, with a path that is absolute or relative to the root, and its columns.
        tables: Files of the table; None looks for them.

    Raises:
        DataError: If a table cannot be read, a row names a file outside the folder, or no row fits
            an image.
    """
    tables = tables_of(root, named.path) if tables is None else tables
    # Tables in the parts are named by their name alone, as they were given.
    layout = Layout(root, {}, False)
    layout.labels = str(named if len(tables) > 1 else named.at(str(tables[0])))
    images = [
        layout.below(path)
        for path in walk_images(root, skipped=layout.skipped, above=root.resolve().parents)
    ]
    ours = set(tables)
    layout.skipped.others = [path for path in layout.skipped.others if path not in ours]
    index = ImageIndex(root, images)
    read = [read_labels(table, named) for table in tables]
    rows, how = [row for labels in read for row in labels.rows], ""
    if not _columns_of(read):
        rows, how = divided(rows, named)
    n_several = sum(len(row.labels) > 1 for row in rows)
    found = MatchedRows(merge=named.multi_label == "yes")
    found.multi_label = found.merge or (named.multi_label != "no" and n_several > FEW * len(rows))
    match_rows(rows, index, found)
    has_split = any(labels.has_split for labels in read)
    layout.remarks.append(
        read[0].said
        + (f", {how}" if how else "")
        + (f" (a table in each part: {len(read)})" if read[1:] else "")
    )
    layout.remarks += dict.fromkeys(note for labels in read for note in labels.notes)
    require_some(root, tables[0], found, len(images))
    if has_split and named.split is None and (odd := no_part(found)):
        layout.remarks.append(odd)
        has_split = False
    if named.group is not None:
        layout.group_of = {image: row.group for image, row in found.rows.items()}
    _arrange(layout, found, has_split, _columns_of(read))
    note_rows(layout, tables[0], found)
    fitting = {name for _, names in found.unclear for name in names}
    if unused := [image for image in images if image not in found.rows and image not in fitting]:
        first = quoted(unused, most=3)
        layout.remarks.append(
            f"ignored {counted(len(unused), 'image')} without a label in {tables[0].name}: {first}"
        )
    return layout


def _columns_of(read: Iterable[Labels]) -> list[str]:
    return list(dict.fromkeys(name for labels in read for name in labels.classes))


def _arrange(layout: Layout, found: MatchedRows, has_split: bool, columns: Sequence[str]) -> None:
    """Fill the parts and classes of a layout."""
    part_of = _parts_by_column(found) if has_split else _parts_by_folder(layout, found)
    used = [part for part in PART_NAMES if part in set(part_of.values())]
    layout.divided = used != ["train"]
    if found.multi_label:
        _arrange_multi_label(layout, found, part_of, columns, used or ["train"])
        return
    names = {image: row.labels[0] for image, row in found.rows.items()}
    spelled = _spelled(set(names.values()))
    layout.order = tuple(spelled.values())
    layout.parts = {part: {name: [] for name in layout.order} for part in used or ["train"]}
    layout.places = dict.fromkeys(layout.parts, layout.root)
    for image in sorted(names, key=lambda name: name.split("/")):
        layout.parts[part_of[image]][spelled[names[image]]].append(image)
    _require_train(layout)
    _note_classes(layout)


def _require_train(layout: Layout) -> None:
    if "train" not in layout.parts:
        raise DataError(
            f"no row of the table of {layout.root} is in the part train; at least one training "
            "row is needed"
        )


def _arrange_multi_label(
    layout: Layout,
    found: MatchedRows,
    part_of: dict[str, str],
    columns: Sequence[str],
    used: Sequence[str],
) -> None:
    """Fill the parts of a layout whose images have any number of classes."""
    present = {name for row in found.rows.values() for name in row.labels} | set(columns)
    require_one_kind(present)
    spelled = _spelled(present)
    layout.order = tuple(spelled.values())
    layout.labels_of = {
        image: tuple(spelled[name] for name in row.labels) for image, row in found.rows.items()
    }
    layout.parts = {part: {EVERY: []} for part in used}
    layout.places = dict.fromkeys(layout.parts, layout.root)
    for image in sorted(found.rows, key=lambda name: name.split("/")):
        layout.parts[part_of[image]][EVERY].append(image)
    _require_train(layout)
    numbers = Counter(map(len, layout.labels_of.values()))
    several = sum(n for length, n in numbers.items() if length > 1)
    layout.remarks.append(
        f"an image may have any number of {len(layout.order)} classes: {several:,} of "
        f"{counted(len(found.rows), 'image')} have several, {numbers[0]:,} none"
    )
    _note_constant(layout)
    if len(layout.order) < 2:
        _note_single(layout)
    note_odd_names(layout, "label", "correct it in the table")


def _note_constant(layout: Layout) -> None:
    """Record classes that no training image has, or every one: there is nothing to learn."""
    assert layout.labels_of is not None
    train = layout.parts["train"][EVERY]
    counts = Counter(name for image in train for name in layout.labels_of[image])
    for which, names, remedy in (
        ("no", [name for name in layout.order if not counts[name]], "add images that have it"),
        (
            "every",
            [name for name in layout.order if train and counts[name] == len(train)],
            "add images without it",
        ),
    ):
        if names:
            layout.problems.append(
                Problem(
                    "constant-class",
                    f"{which} training image of {layout.root} has {quoted(names, most=5)}, so "
                    f"there is nothing to learn about that; {remedy}, or leave it out of the table",
                    (),
                )
            )


def _spelled(names: Iterable[str]) -> dict[str, str]:
    """Return the class of each label, in plain order; numbers by their value: 10 after 9."""
    names = sorted(names)
    if not all(map(NUMBER.fullmatch, names)):
        return {name: name for name in names}
    names = sorted(names, key=float)
    # "3.0" is 3 where a program made fractions of all of them.
    whole = all(name.endswith(".0") for name in names)
    return {name: name.removesuffix(".0") if whole else name for name in names}


def _parts_by_column(found: MatchedRows) -> dict[str, str]:
    """Return the part of each image as its row says.

    Raises:
        DataError: If a row names no part: it could be a test image.
    """
    part_of = {}
    for image, row in found.rows.items():
        read = read_part(row.split)
        if read is None or read[1]:
            raise DataError(
                f"{row.place}: the part of '{printable(row.file)}' is '{printable(row.split)}'; "
                "write train, val or test"
            )
        part_of[image] = read[0]
    return part_of


def _parts_by_folder(layout: Layout, found: MatchedRows) -> dict[str, str]:
    """Return the part of each image: by the folders train, val and test if all are in such."""
    steps = {image: image.split("/")[:-1] for image in found.rows}
    levels = enumerate(zip(*steps.values(), strict=False))
    least = min(map(len, steps.values()), default=0)
    shared = next((depth for depth, names in levels if len(set(names)) > 1), least)
    folders = {image: "/".join(path[: shared + 1]) for image, path in steps.items()}
    parts = {folder: read_part(PurePosixPath(folder).name) for folder in set(folders.values())}
    read = {folder: part[0] for folder, part in parts.items() if part is not None}
    if len(read) < max(2, len(parts)) or "train" not in read.values():
        if len(set(read.values())) > 1 and "train" in read.values():
            outside = [image for image in found.rows if folders[image] not in read]
            is_or_are = "is" if len(outside) == 1 else "are"
            layout.remarks.append(
                f"{quoted(f'{folder}/' for folder in sorted(read))} are not taken for parts, since "
                f"{counted(len(outside), 'image')} with a label {is_or_are} in none of them "
                f"(first: '{printable(outside[0])}'); move what is outside into one, or name a "
                "column of the parts: --labels TABLE:split=COLUMN"
            )
        return dict.fromkeys(found.rows, "train")
    if any(folder.lower() != part for folder, part in read.items()):
        said = ", ".join(f"{folder}/ is {read[folder]}" for folder in sorted(read))
        layout.remarks.append(f"parts: {said}")
    return {image: read[folder] for image, folder in folders.items()}


def _note_classes(layout: Layout) -> None:
    train = layout.parts["train"]
    only = [name for name in layout.order if not train[name]]
    if only:
        part, where = next(
            (part, files[0])
            for part, classes in layout.parts.items()
            if (files := classes[only[0]])
        )
        layout.problems.append(
            Problem(
                "classes-differ",
                f"no image to learn from of {quoted(only)} (first: {part} has "
                f"'{printable(where)}'); give train some of each class",
                (where,),
            )
        )
    if len(layout.order) == 1:
        _note_single(layout)
    note_odd_names(layout, "label", "correct it in the table")


def _note_single(layout: Layout) -> None:
    said = f"are '{printable(layout.order[0])}'" if layout.order else "are empty"
    layout.problems.append(
        Problem(
            "single-class",
            f"all labels of {layout.root} {said}; a classifier needs at least two classes",
            (),
        )
    )
