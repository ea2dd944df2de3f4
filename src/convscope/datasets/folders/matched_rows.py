"""Rows of a table of labels, the images that they name, and what is wrong with the rows."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from convscope.datasets.folders.columns import LabelRow
from convscope.datasets.folders.image_index import ImageIndex
from convscope.datasets.folders.layout import TOLERATED, Layout, Problem
from convscope.datasets.folders.parts import read_part
from convscope.errors import DataError
from convscope.wording import counted, printable, quoted


@dataclass
class MatchedRows:
    """Images that rows of tables name, and rows that cannot be used.

    Attributes:
        rows: Row of each image, by its path below the root.
        multi_label: Whether images may have any number of classes.
        merge: Whether the rows of an image are put together, and do not contradict each other.
        unlabelled: Rows without a class, which is a label where images may have any number.
        several: Rows with several classes, where that is not wanted or may be a mistake.
        missing: Rows whose image is not there.
        unclear: Rows whose name fits several images, with two of them.
        contrary: Pairs of rows that give one image different classes, parts or groups.
        repeated: Number of rows that repeat another.
    """

    rows: dict[str, LabelRow] = field(default_factory=dict)
    multi_label: bool = False
    merge: bool = False
    unlabelled: list[LabelRow] = field(default_factory=list)
    several: list[LabelRow] = field(default_factory=list)
    missing: list[LabelRow] = field(default_factory=list)
    unclear: list[tuple[LabelRow, list[str]]] = field(default_factory=list)
    contrary: list[tuple[LabelRow, LabelRow]] = field(default_factory=list)
    repeated: int = 0


def match_rows(rows: Iterable[LabelRow], index: ImageIndex, found: MatchedRows) -> None:
    """Find the image of each row, and sort the rows that cannot be used by what is wrong."""
    for row in rows:
        images = index.find(row) if row.file else []
        if not row.labels:
            found.unlabelled.append(row)
        if not row.labels and not found.multi_label:
            continue
        if len(row.labels) > 1 and not found.multi_label:
            found.several.append(row)
        elif not images:
            found.missing.append(row)
        elif len(images) > 1:
            found.unclear.append((row, images))
        else:
            before = found.rows.setdefault(images[0], row)
            same = set(before.labels) == set(row.labels)
            together = (before.split, before.group) == (row.split, row.group)
            if found.merge and together and not same:
                both = tuple(dict.fromkeys(before.labels + row.labels))
                found.rows[images[0]] = replace(before, labels=both)
            elif before is not row and not (same and together):
                found.contrary.append((before, row))
            elif before is not row:
                found.repeated += 1


def require_some(root: Path, table: Path, found: MatchedRows, n_images: int) -> None:
    """Refuse a table of which no row fits an image.

    Raises:
        DataError: If there is none; it says what the rows name instead.
    """
    if found.rows or found.unclear or found.several:
        return
    if not found.missing:
        said = "no row with a label" if found.unlabelled else "no row"
        raise DataError(f"{table} has {said}; a row for each image is needed")
    row = found.missing[0]
    raise DataError(
        f"none of {counted(len(found.missing), 'image')} that {table.name} names is in {root}, "
        f"which has {counted(n_images, 'image')} (first: '{printable(row.file)}'); name the folder "
        "of the images with --data, or their column with --labels TABLE:file=COLUMN"
    )


def no_part(found: MatchedRows) -> str:
    """Return a line on a column of parts that names none, such as the number of a fold; or ""."""
    rows = list(found.rows.values())
    if not rows or any(read_part(row.split) for row in rows):
        return ""
    return (
        f"the column of parts is not used: '{printable(rows[0].split)}' and the like are none of "
        "train, val and test"
    )


def note_rows(layout: Layout, table: Path, found: MatchedRows) -> None:
    """Record the rows that are not used, and those because of which the table is refused."""

    def refuse(kind: str, message: str, places: Iterable[LabelRow]) -> None:
        names = tuple(dict.fromkeys(row.file for row in places))
        layout.problems.append(Problem(kind, message, names))

    if found.several:
        row = found.several[0]
        refuse(
            "several-labels",
            f"{counted(len(found.several), 'row')} of {table.name} with several classes (first: "
            f"{row.place}, '{printable(row.file)}' is {quoted(row.labels, most=3)}); give each "
            "image one class, or, if it may have any number: "
            f"--labels {table.name}:multi_label=yes",
            found.several,
        )
    if found.contrary:
        first, second = found.contrary[0]
        differ = [
            f"{' '.join(filter(None, (*row.labels, row.split, row.group)))!r} in row {row.number:,}"
            for row in (first, second)
        ]
        refuse(
            "labels-contradict",
            f"{counted(len(found.contrary), 'row')} of {table.name} "
            f"{'contradicts' if len(found.contrary) == 1 else 'contradict'} another on the same "
            f"image (first: '{printable(second.file)}' is {printable(' and '.join(differ))}); keep "
            f"one row for each image, or, if it has the classes of all its rows: "
            f"--labels {table.name}:multi_label=yes",
            [row for _, row in found.contrary],
        )
    if found.unclear:
        row, images = found.unclear[0]
        refuse(
            "unclear-file",
            f"{counted(len(found.unclear), 'row')} of {table.name} "
            f"{'fits' if len(found.unclear) == 1 else 'fit'} several images (first: {row.place}, "
            f"'{printable(row.file)}' may be {quoted(images, most=2)}); write their paths in full",
            [row for row, _ in found.unclear],
        )
    if found.missing:
        row = found.missing[0]
        count = counted(len(found.missing), "image")
        said = f"{count} that {table.name} names not found (first: {row.place}, "
        said += f"'{printable(row.file)}')"
        if len(found.missing) > TOLERATED * (len(found.missing) + len(found.rows)):
            refuse(
                "files-missing",
                f"{said}, more than {TOLERATED:.0%}; add them, or remove their rows",
                found.missing,
            )
        else:
            layout.remarks.append(f"left out {said}")
    if found.unlabelled and not found.multi_label:
        row = found.unlabelled[0]
        layout.remarks.append(
            f"left out {counted(len(found.unlabelled), 'row')} of {table.name} without a label "
            f"(first: {row.place}, '{printable(row.file)}')"
        )
    if found.repeated:
        layout.remarks.append(
            f"{counted(found.repeated, 'row')} of {table.name} "
            f"{'repeats' if found.repeated == 1 else 'repeat'} another"
        )
