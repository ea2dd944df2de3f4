"""Contents of a folder of images: by class folders, by a table that is named, or by a standard one.

Hugging Face's `imagefolder` puts the labels into `metadata.csv` (or .jsonl, .parquet) with a column
`file_name`; such a table is read without being named. Other tables are only suggested.
"""

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from convscope.datasets.folders.columns import LabelTable, has_labels
from convscope.datasets.folders.labelled import read_labelled
from convscope.datasets.folders.layout import Layout, read_layout, require_folder
from convscope.datasets.folders.parts import arrange
from convscope.datasets.folders.tables import is_table, open_table
from convscope.errors import ConvscopeError, DataError, NoClassesError
from convscope.wording import counted, printable

_STANDARD = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILE_NAME = "file_name"

_MOST_TABLES = 20
_LOOKED_AT_BYTES = 2**25
"""Largest table that is opened without having been named."""


def read_contents(root: Path, labels: str | None = None, named: Path | None = None) -> Layout:
    """Return the images of a folder by part and class.

    Args:
        root: Folder.
        labels: Table of the labels, absolute or relative to the folder, as `LabelTable` spells it;
            None for class folders, or a table of Hugging Face's standard in place of them.
        named: Archive that was unpacked to the folder; None for a folder of the user's own.

    Raises:
        NoClassesError: If there are neither class folders nor such a table.
        DataError: If the folder or a table cannot be used, or class folders and a standard table
            contradict each other.
    """
    layout = _read(root, None if labels is None else LabelTable.parse(labels), named or root)
    if named is not None:
        # People know the archive, not the cache.
        layout.named = named
        layout.labels = layout.labels.replace(f"{root}{os.sep}", "")
        layout.problems = [
            replace(each, message=each.message.replace(str(root), str(named)))
            for each in layout.problems
        ]
    return layout


def _read(root: Path, labels: LabelTable | None, named: Path) -> Layout:
    require_folder(root)
    if labels is not None:
        if labels.path.startswith("../"):  # a table beside an archive
            labels = labels.at(os.path.normpath(named / labels.path))
        return read_labelled(root, labels)
    tables = _standard_tables(root)
    try:
        layout = read_layout(root)
    except NoClassesError as error:
        if tables:
            return _by_standard(root, tables)
        raise NoClassesError(f"{error}{_suggestion(root)}") from None
    single = [problem for problem in layout.problems if problem.kind == "single-class"]
    if single and tables:
        return _by_standard(root, tables)
    if single and (said := _suggestion(root)):
        raise NoClassesError(f"{single[0].message}{said}")
    if tables:
        _require_agreement(layout, tables)
    return layout


def _by_standard(root: Path, tables: list[Path]) -> Layout:
    layout = read_labelled(root, LabelTable(tables[0].name, file=_FILE_NAME), tables)
    layout.labels = ""  # it is found again without being named
    return layout


def _require_agreement(layout: Layout, tables: list[Path]) -> None:
    """Reject class folders beside a standard table that divides the images otherwise."""
    try:
        other = _by_standard(layout.root, tables)
    except DataError:
        return  # it names other files
    folder_of = _class_of(layout)
    pairs = {(folder_of.get(name), label) for name, label in _class_of(other).items()}
    agree = len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    if other.problems or not agree:
        named = layout.below(tables[0])
        raise DataError(
            f"{layout.root} has class folders, and other classes in {named}; for those of the "
            f"table: --labels {shlex.quote(str(tables[0]))}; for the folders, move the table away"
        )


def _class_of(layout: Layout) -> dict[str, str]:
    return {
        file: name
        for classes in layout.parts.values()
        for name, files in classes.items()
        for file in files
    }


def _standard_tables(root: Path) -> list[Path]:
    """Return Hugging Face's tables of labels: one at the top, or one in the folder of each part."""
    for name in _STANDARD:
        found = [path for path in _tables_in(root) if path.name == name]
        usable = []
        for path in found:
            with contextlib.suppress(ConvscopeError):
                # Without a usual name it may be captions, beside class folders too.
                if has_labels(open_table(path), _FILE_NAME):
                    usable.append(path)
        if usable:
            top = min(len(path.parts) for path in usable)
            return [path for path in usable if len(path.parts) == top]
    return []


def _tables_in(root: Path) -> Iterator[Path]:
    """Yield the tables in the folder itself and in the folders of its parts."""
    arrangement = arrange(root)
    listings = [*arrangement.passed, *arrangement.parts.values()]
    seen = set()
    for listing in listings:
        for path in listing.skipped.others:
            if is_table(path) and path not in seen:
                seen.add(path)
                yield path
    for place in arrangement.unlabelled.values():
        yield from (path for path in sorted(place.iterdir()) if is_table(path))


def _suggestion(root: Path) -> str:
    """Return words that name the only table that has labels of the images; "" without one."""
    tables = list(_tables_in(root))
    with contextlib.suppress(OSError):
        tables += [path for path in sorted(root.parent.iterdir()) if is_table(path)]
    groups: dict[str, list[Path]] = {}
    for path in tables[:_MOST_TABLES]:
        with contextlib.suppress(OSError):
            if path.stat().st_size <= _LOOKED_AT_BYTES:
                # Tables of one name in the folders of the parts are one.
                groups.setdefault(path.name, []).append(path)
    found = []
    for name, paths in groups.items():
        with contextlib.suppress(ConvscopeError):
            layout = read_labelled(root, LabelTable(name), paths)
            if not {problem.kind for problem in layout.problems} & {
                "files-missing",
                "single-class",
            }:
                option = shlex.quote(name if len(paths) > 1 else str(paths[0]))
                count = counted(len(layout.names), "image")
                found.append(f" ({printable(name)} has labels of {count}: --labels {option})")
    return found[0] if len(found) == 1 else ""
