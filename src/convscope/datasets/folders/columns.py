"""Columns of a table of labels: which holds the files, which the classes, which the parts."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from convscope.datasets.folders.parts import read_part
from convscope.datasets.folders.tables import Table, open_table
from convscope.errors import ConfigError, DataError, UnknownNameError
from convscope.images.find import is_image
from convscope.wording import counted, printable, quoted

# Usual names without blanks, dashes and capitals; the earlier ones first.
_FILE = (
    *("filename", "file", "filepath", "path", "image", "imagename", "imagefile", "imagepath"),
    *("img", "imgname", "imgpath", "imageid", "imgid", "id", "idcode"),
)
_LABEL = ("label", "labels", "labelname", "class", "classname", "classes", "category", "target")
_SPLIT = ("split", "subset", "partition")
_SPLIT_BY_CELLS = ("set", "dataset", "datasplit")
"""Names of columns of parts only if their cells are: they may hold anything else."""
_GROUP = (
    *("group", "groupid", "patient", "patientid", "subject", "subjectid", "person", "personid"),
    *("sequence", "sequenceid", "seqid", "burst", "burstid", "video", "videoid", "clip", "clipid"),
    *("specimen", "specimenid", "lesionid", "caseid", "slideid", "location", "locationid"),
)
_NO_NAME = ("", "unnamed0", "index")
"""Names of the row numbers that pandas writes."""

_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}

SEPARATORS = {"|": "|", ";": ";", "comma": ",", "space": " ", "none": ""}
"""Separators of several classes in one cell, by the name that a user gives them."""

_YES_NO = ("yes", "no")

_KEYS = ("file", "label", "split", "group", "classes", "separator", "multi_label")
_ONE = rf"(?:{'|'.join(_KEYS)})=[^,]+"
_SPELLED = re.compile(rf"(.+?):({_ONE}(?:,{_ONE})*)", re.S)
_MISSPELLED = re.compile(r".+?:(\w+=[^,]*(?:,\w+=[^,]*)*)", re.S)


@dataclass(frozen=True)
class LabelTable:
    """What `--labels` names: a table, and its columns where their names are not the usual ones.

    Attributes:
        path: Path as given.
        file: Column of the files; None to look for it.
        label: Column of the classes; None to look for it.
        split: Column of the parts; None to look for it.
        group: Column of the groups of images that belong together, such as those of one patient;
            None for no groups.
        classes: Columns of a class each, which hold 0 or 1, with "+" between them; None to look for
            them.
        separator: Name in `SEPARATORS` of what is between the classes in a cell; None to find out.
        multi_label: Whether an image may have any number of classes, "yes" or "no"; None if the
            table decides it.
    """

    path: str
    file: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    classes: str | None = None
    separator: str | None = None
    multi_label: str | None = None

    @classmethod
    def parse(cls, text: str) -> "LabelTable":
        """Read "TABLE" or "TABLE:file=COLUMN,label=COLUMN,split=COLUMN" and the like.

        Raises:
            ConfigError: If there is no such separator, or `multi_label` is neither "yes" nor "no".
            UnknownNameError: If what is to be named by a column has another name.

        Examples:
            >>> str(LabelTable.parse("labels.csv:label=kind,file=img"))
            'labels.csv:file=img,label=kind'
        """
        found = _SPELLED.fullmatch(text)
        if found is None:
            misspelled = _MISSPELLED.fullmatch(text)
            for each in misspelled[1].split(",") if misspelled else ():
                if (key := each.partition("=")[0]) not in _KEYS:
                    raise UnknownNameError("word of --labels", key, _KEYS)
            return cls(text)
        named = dict(each.split("=", 1) for each in found[2].split(","))
        named = {key: name.strip() for key, name in named.items()}
        for key, allowed in (("separator", tuple(SEPARATORS)), ("multi_label", _YES_NO)):
            if key in named and named[key] not in allowed:
                raise ConfigError(
                    f"--labels: {key}={printable(named[key])} is none of {', '.join(allowed)}"
                )
        if "label" in named and "classes" in named:
            raise ConfigError("--labels: name label=COLUMN or classes=COLUMN+COLUMN, not both")
        return cls(found[1], **named)

    def at(self, path: str) -> "LabelTable":
        """Return the same columns of a table at another path."""
        return replace(self, path=path)

    def __str__(self) -> str:
        named = [f"{key}={value}" for key in _KEYS if (value := getattr(self, key)) is not None]
        return f"{self.path}:{','.join(named)}" if named else self.path


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A row of a table of labels.

    Attributes:
        table: File of the table.
        number: Number of the row, as a spreadsheet counts.
        file: Image, as written in the table.
        labels: Classes of the image; none where the cell is empty. Until `multi_label.divided` has
            run, a cell counts as one.
        split: Part, as written in the table; "" without such a column.
        group: Group, as written in the table; "" without such a column, or without a group.
    """

    table: Path
    number: int
    file: str
    labels: tuple[str, ...]
    split: str
    group: str = ""

    @property
    def place(self) -> str:
        """Table and row, for messages."""
        return f"{self.table.name}, row {self.number:,}"


@dataclass(frozen=True)
class Labels:
    """The rows of a table of labels, and what was read from where.

    Attributes:
        rows: Rows, in order.
        said: Line that names the columns.
        has_split: Whether there is a column of parts.
        classes: Columns with a 0 or 1 for each class; empty if one column holds the classes.
        notes: Lines on columns that seem to say the parts or groups, but are not used.
    """

    rows: list[LabelRow] = field(repr=False)
    said: str
    has_split: bool
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_labels(path: Path, named: LabelTable) -> Labels:
    """Read a table of labels.

    Args:
        path: File.
        named: Columns that the user named.

    Raises:
        DataError: If the file cannot be read, or its columns are not clear.
    """
    table = open_table(path)
    file = _column_of_files(table, named)
    taken = (file, named.label, named.group)
    parts = {} if named.split else _columns_of_parts(table, but=taken)
    split = (
        named.split
        or _usual(table.names, _SPLIT, but=taken)
        or _usual(tuple(parts), _SPLIT_BY_CELLS)
    )
    label, flags = named.label, []
    if named.classes is not None:
        flags = [name.strip() for name in named.classes.split("+")]
    elif label is None:
        label = _column_of_labels(table, but=(file, split, named.group))
        flags = [] if label else _columns_of_classes(table, but=(file, split, named.group))
    if not label and not flags:
        others = [name for name in table.names if name != file]
        raise DataError(
            f"{path} has no column called label, class, category or target; name the one with the "
            f"classes: --labels {path.name}:label=COLUMN (it has {quoted(others, most=12)})"
        )
    further = [column for column in (split, named.group) if column]
    wanted = [file, *further, *([label] if label else flags)]
    rows = []
    # Closed at once where a cell is refused, not whenever Python comes to it.
    with contextlib.closing(table.rows(wanted, lists=label)) as read:
        for number, cells in read:
            rest = cells[1 + len(further) :]
            labels = _flagged(table, number, flags, rest) if flags else tuple(filter(None, rest))
            part = cells[1] if split else ""
            group = cells[len(further)] if named.group else ""
            rows.append(LabelRow(path, number, cells[0], labels, part, group))
    classes = (
        f"classes in '{printable(label)}'"
        if label
        else f"a column for each of {len(flags)} classes"
    )
    said = f"labels from {path.name}: files in '{printable(file)}', {classes}"
    said += f", parts in '{printable(split)}'" if split else ""
    said += f", groups in '{printable(named.group)}'" if named.group else ""
    unused = [name for name in table.names if name not in wanted]
    on_parts = [] if named.split else [_note_of(path, each, parts.get(each, [])) for each in unused]
    on_groups = "" if named.group else _note_of_groups(table, unused)
    notes = tuple(filter(None, (*on_parts, on_groups)))
    return Labels(rows, said, bool(split), tuple(flags), notes)


def has_labels(table: Table, file: str) -> bool:
    """Return whether a table has a column `file` and one of labels by a usual name."""
    return file in table.names and _usual(table.names, _LABEL, but=(file,)) is not None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _usual(
    names: Sequence[str], usual: Sequence[str], but: Sequence[str | None] = ()
) -> str | None:
    """Return the first column with a usual name; None if there is none."""
    by_name = {_plain(name): name for name in reversed(names) if name not in but}
    return next((by_name[each] for each in usual if each in by_name), None)


def _columns_of_parts(table: Table, but: Sequence[str | None]) -> dict[str, list[str]]:
    """Return the columns whose cells are all names of parts, with the different ones."""
    first = zip(table.names, table.first, strict=True)
    left = [name for name, cell in first if name not in but and _is_part(cell)]
    found: dict[str, dict[str, None]] = {name: {} for name in left if table.names.count(name) == 1}
    try:
        for _, cells in table.rows(list(found)) if found else ():
            for of_column, cell in zip(found.values(), cells, strict=True):
                of_column[cell] = None
    except DataError:  # which is said where the columns that are used are read
        return {}
    return {name: list(cells) for name, cells in found.items() if all(map(_is_part, cells))}


def _is_part(cell: str) -> bool:
    read = read_part(cell)
    return read is not None and not read[1]


def _note_of(path: Path, name: str, parts: Sequence[str]) -> str:
    """Return a line on an unused column if it seems to say the parts; otherwise ""."""
    if parts:
        held = f"{', '.join(map(printable, parts[:-1]))} and {printable(parts[-1])}"
        said = f"holds {held if parts[1:] else printable(parts[0])} and is not used"
        return (
            f"the column '{printable(name)}' {said}; to divide by it: "
            f"--labels {path.name}:split={printable(name)}"
        )
    plain = _plain(name)
    if plain.startswith("is") and _is_part(plain.removeprefix("is")):
        return (
            f"the column '{printable(name)}' is not used; for such parts make a column of train, "
            f"val and test: --labels {path.name}:split=COLUMN"
        )
    return ""


def _note_of_groups(table: Table, unused: Sequence[str]) -> str:
    """Return a line on an unused column that seems to say what belongs together; or ""."""
    name = _usual(unused, _GROUP)
    if name is None:
        return ""
    try:
        cells = [cell for _, (cell,) in table.rows([name]) if cell]
    except DataError:  # two of that name, or lists
        return ""
    if not 1 < len(set(cells)) < len(cells):
        return ""
    return (
        f"the column '{printable(name)}' ({len(set(cells)):,} different in "
        f"{counted(len(cells), 'row')}) is not used; to keep the images of each together, in one "
        f"part: --labels {table.path.name}:group={printable(name)}"
    )


def _column_of_files(table: Table, named: LabelTable) -> str:
    found = named.file or file_column(table, but=(named.label, named.split, named.group))
    if found is None:
        raise DataError(
            f"{table.path} has no column called file, image, path or id; name the one with the "
            f"images: --labels {table.path.name}:file=COLUMN (it has "
            f"{quoted(table.names, most=12)})"
        )
    return found


def file_column(table: Table, but: Sequence[str | None] = ()) -> str | None:
    """Return the column of the files, by its cells or its name; None if it is not clear.

    Args:
        table: Table.
        but: Columns that are known to be something else.
    """
    pictures = [name for name, cell in zip(table.names, table.first, strict=True) if is_image(cell)]
    # "Image" and "id" may both be there, and "id" be the class: what ends in .jpg decides.
    found = _usual(pictures, _FILE) or (pictures[0] if len(pictures) == 1 else None)
    return found or _usual(table.names, _FILE, but=but)


def _column_of_labels(table: Table, but: Sequence[str | None]) -> str | None:
    """Return the column of the classes: the one of a usual name, or the only one that is left."""
    found = _usual(table.names, _LABEL, but=but)
    if found is not None:
        return found
    left = _left(table, but)
    return left[0] if len(left) == 1 else None


def _left(table: Table, but: Sequence[str | None]) -> list[str]:
    return [name for name in table.names if name not in but and _plain(name) not in _NO_NAME]


def _columns_of_classes(table: Table, but: Sequence[str | None]) -> list[str]:
    """Return the columns with a 0 or 1 for each class; empty if the others are not all such."""
    left = _left(table, but)
    first = dict(zip(table.names, table.first, strict=True))
    if len(left) < 2 or any(first[name].casefold() not in _FLAGS for name in left):
        return []
    return left


def _flagged(
    table: Table, number: int, names: Sequence[str], cells: Sequence[str]
) -> tuple[str, ...]:
    for name, cell in zip(names, cells, strict=True):
        if cell.casefold() not in _FLAGS:
            raise DataError(
                f"{table.path}, row {number:,}: '{printable(cell)}' in the column "
                f"'{printable(name)}' is neither 0 nor 1; name the column that holds the "
                f"classes (--labels {table.path.name}:label=COLUMN) or those with a 0 or 1 for "
                "each class (:classes=COLUMN+COLUMN)"
            )
    flags = zip(names, cells, strict=True)
    return tuple(name for name, cell in flags if _FLAGS[cell.casefold()])
