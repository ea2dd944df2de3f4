"""Tables from files: CSV, TSV, lists of files, JSON lines and Parquet, read as rows of text.

Such files come from strangers like images do: their size is limited, nothing in them is run, and
only regular files are opened.
"""

import codecs
import contextlib
import csv
import itertools
import json
import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from convscope.errors import DataError, MissingExtraError
from convscope.images.find import is_image, kind_of
from convscope.parquet import read_batches
from convscope.wording import composed, first_line, printable, quoted

SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt", ".lst", ".jsonl", ".ndjson", ".parquet"})
"""Endings of files that can be a table of labels, in small letters."""

MAX_BYTES = 2**28
"""Largest file that is read."""

MAX_ROWS = 2**24
"""Largest number of rows: a small Parquet file can state any number."""

_DELIMITERS = ",;\t|"
_SAYS_DELIMITER = re.compile("sep=(.)")
"""First line of a table for Excel, which names the delimiter."""

# What JSON and Arrow raise for contents that they cannot read.
_DAMAGED = (ValueError, KeyError, NotImplementedError, RecursionError, MemoryError)

Row = tuple[int, list[str]]
"""Number of a row, as a spreadsheet counts them, and its cells."""


class ListCell(str):
    """A cell that holds a list, as JSON."""


@dataclass(frozen=True)
class Table:
    """A table that was opened; its rows are read when they are asked for.

    Attributes:
        path: File.
        names: Names of the columns; "1", "2" ... where the file has no row of names.
        first: Cells of the first row after the names; empty if there is none.
        read: Function from indices of columns to the rows, with the cells of those columns as they
            are written.
        as_written: Whether `rows` yields cells as they are written, for paths.
    """

    path: Path
    names: tuple[str, ...]
    first: tuple[str, ...]
    read: Callable[[Sequence[int]], Iterator[Row]]
    as_written: bool = False

    def rows(self, names: Sequence[str], lists: str | None = None) -> Generator[Row, None, None]:
        """Yield the number of each row and its cells in some columns, made `tidy`.

        Args:
            names: Names of columns.
            lists: Name of the column whose cells may be lists, which come as JSON.

        Raises:
            DataError: If there is no such column, or two, or the file is damaged.
        """
        for name in names:
            if self.names.count(name) != 1:
                many = "two columns" if name in self.names else "no column"
                raise DataError(
                    f"{self.path} has {many} called '{printable(name)}'; its columns: "
                    f"{quoted(self.names, most=12)}"
                )
        with _faults_of(self.path):
            columns = [self.names.index(name) for name in names]
            for count, (number, cells) in enumerate(self.read(columns)):
                if count >= MAX_ROWS:
                    raise DataError(f"{self.path} has more than {MAX_ROWS:,} rows")
                for name, cell in zip(names, cells, strict=True):
                    if isinstance(cell, ListCell) and name != lists:
                        raise DataError(
                            f"the column '{printable(name)}' of {self.path} holds lists; one text "
                            "is needed"
                        )
                yield number, cells if self.as_written else list(map(tidy, cells))


def is_table(path: Path) -> bool:
    """Return whether a path ends like a table of labels."""
    return path.suffix.lower() in SUFFIXES


def open_table(path: Path, *, as_written: bool = False) -> Table:
    """Open a table by the ending of its name.

    Args:
        path: File.
        as_written: Whether cells are paths: they stay as they are, and in a list of files, which
            may be what `find` wrote, bytes that are not UTF-8 are what `os.fsdecode` makes of them.

    Raises:
        DataError: If it is missing, not a regular file, too large, of another kind, empty or
            damaged.
        MissingExtraError: If it is a Parquet file and pyarrow is not installed.
    """
    kind = kind_of(path)
    if kind != "file":
        raise DataError(f"there is no table {path}" if kind == "dangling" else f"{path} is no file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path} is no table of labels by its ending; save it as .csv, .tsv, .jsonl, .parquet "
            "or .txt"
        )
    with _faults_of(path):
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES:,} bytes")
        return replace(_opened_by(path, suffix, as_written), as_written=as_written)


def _opened_by(path: Path, suffix: str, as_written: bool) -> Table:
    if suffix == ".parquet":
        return _open_parquet(path)
    if suffix in (".jsonl", ".ndjson"):
        return _open_json_lines(path)
    may_be_list = suffix in (".txt", ".lst")
    errors = "surrogateescape" if may_be_list and as_written else "strict"
    first, second = _beginning(path, errors)
    if may_be_list and _begins_list(first):
        return _open_list(path, first, errors)
    if said := _SAYS_DELIMITER.fullmatch(first.rstrip("\r\n")):
        return _open_delimited(path, second, said[1], n_above=1)
    return _open_delimited(path, first, "\t" if suffix in (".tsv", ".tab") else None)


@contextlib.contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Turn what damaged files cause into one line."""
    try:
        yield
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8; save it as 'CSV UTF-8'") from None
    except (csv.Error, *_DAMAGED) as error:
        raise DataError(f"{path} cannot be read as a table ({first_line(error)})") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or first_line(error)})") from None


def _lines(path: Path, errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a text file; blank ones too, which count as rows."""
    with path.open("rb") as file:
        start = file.read(2)
    wide = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # Excel's "Unicode text"
    encoding = "utf-16" if wide else "utf-8-sig"
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        yield from file


def _beginning(path: Path, errors: str) -> tuple[str, str]:
    """Return the first two lines of a text file that are not blank; "" if there is none."""
    lines = (line for line in _lines(path, errors) if line.strip())
    return next(lines, ""), next(lines, "")


def _open_delimited(path: Path, first: str, delimiter: str | None, n_above: int = 0) -> Table:
    # 'a.jpg,cat|dog|owl' has columns by the mark that cuts out the name of an image.
    mark = delimiter or max(
        _DELIMITERS, key=lambda each: (_has_image_cell(first, each), first.count(each))
    )
    if mark not in first and _has_image_cell(first, " "):
        mark = " "  # columns of equal width
    head = next(csv.reader([first], delimiter=mark), [])
    headed = not any(is_image(cell.strip()) for cell in head)
    names = [tidy(cell) for cell in head] if headed else [f"{n + 1}" for n in range(len(head))]
    if not head:
        raise DataError(f"{path} is empty")

    def read(columns: Sequence[int]) -> Iterator[Row]:
        reader = csv.reader(_lines(path), delimiter=mark, skipinitialspace=True)
        rows = ((n, cells) for n, cells in enumerate(reader, 1) if mark.join(cells).strip())
        for number, cells in itertools.islice(rows, n_above + headed, None):
            if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
                raise DataError(
                    f"{path}, row {number:,} has {len(cells)} cells in {len(names)} columns; put "
                    f"cells that contain '{mark}' into quotes"
                )
            cells += [""] * (len(names) - len(cells))
            yield number, [cells[index] for index in columns]

    return _opened(path, names, read, range(len(names)))


def _open_list(path: Path, first: str, errors: str) -> Table:
    """Open a list of files: a path in each line, perhaps with its label after a blank.

    Without labels the class of a file is the folder that it is in.
    """
    if not first:
        raise DataError(f"{path} is empty")
    words = first.strip().rsplit(None, 1)
    labelled = len(words) == 2 and not is_image(words[1])

    def read(columns: Sequence[int]) -> Iterator[Row]:
        for number, line in enumerate(_lines(path, errors), 1):
            if not line.strip():
                continue
            words = line.rsplit(None, 1) if labelled else [line.rstrip("\r\n")]
            file = words[0]
            label = PurePosixPath(tidy(file)).parent.name
            if labelled:
                label = words[1] if len(words) > 1 else ""
            yield number, [(file, label)[index] for index in columns]

    return _opened(path, ["file", "label"], read, range(2))


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line."""
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number:,} holds no object; each line needs one, such as "
                '{"file_name": ...}'
            )
        yield number, row


def _open_json_lines(path: Path) -> Table:
    # A field without a value may be left out, also in the first line.
    fields: dict[str, Any] = {}
    for _, row in _json_lines(path):
        for name, value in row.items():
            fields.setdefault(name, value)
    if not fields:
        raise DataError(f"{path} is empty")
    names = list(fields)

    def read(columns: Sequence[int]) -> Iterator[Row]:
        for number, row in _json_lines(path):
            yield number, [_cell(path, names[index], row.get(names[index])) for index in columns]

    simple = [n for n, value in enumerate(fields.values()) if not isinstance(value, list | dict)]
    return _opened(path, names, read, simple)


def _open_parquet(path: Path) -> Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", None) from None
    with contextlib.closing(parquet.ParquetFile(path)) as file:
        n_rows, schema = file.metadata.num_rows, file.schema_arrow
    names = list(schema.names)
    blobs = {field.name for field in schema if pa.types.is_fixed_size_binary(field.type)}
    simple = [place for place, field in enumerate(schema) if _is_spelled(field.type)]
    if n_rows > MAX_ROWS:
        raise DataError(f"{path} has more than {MAX_ROWS:,} rows")

    def read(columns: Sequence[int]) -> Iterator[Row]:
        number = 1
        wanted = [names[index] for index in columns]
        for name in blobs.intersection(wanted):
            raise _no_text(path, name)
        for batch in read_batches(path, wanted):
            cells = [_column(path, name, batch.column(name)) for name in wanted]
            for row in zip(*cells, strict=True):
                number += 1
                yield number, list(row)

    return _opened(path, names, read, simple)


def _is_spelled(kind: Any) -> bool:
    """Return whether the values of a type of Arrow are texts or numbers, see `_cell`."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    known = ("string", "large_string", "integer", "floating", "boolean", "null")
    return any(getattr(pa.types, f"is_{each}")(kind) for each in known)


def _column(path: Path, name: str, array: Any) -> Iterable[str]:
    if hasattr(array, "dictionary"):
        known = [_cell(path, name, value) for value in array.dictionary.to_pylist()]
        return ["" if index is None else known[index] for index in array.indices.to_pylist()]
    return [_cell(path, name, value) for value in array.to_pylist()]


def _opened(
    path: Path,
    names: Sequence[str],
    read: Callable[[Sequence[int]], Iterator[Row]],
    simple: Sequence[int],
) -> Table:
    """Return a table with its first row; columns that hold no text, not in `simple`, are empty."""
    _, cells = next(read(simple), (0, [""] * len(simple)))
    first = dict(zip(simple, map(tidy, cells), strict=True))
    cells = [first.get(index, "") for index in range(len(names))]
    return Table(path, tuple(map(composed, names)), tuple(cells), read)


def _cell(path: Path, name: str, value: Any) -> str:
    """Return a value of a table as text; an integer that became a fraction is an integer again.

    Raises:
        DataError: If it is no text, number or list of such.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return ListCell(json.dumps(value, ensure_ascii=False, default=str))
    raise _no_text(path, name)


def _no_text(path: Path, name: str) -> DataError:
    return DataError(
        f"the column '{printable(name)}' of {path} holds neither text nor numbers; one text is "
        "needed"
    )


def tidy(cell: str) -> str:
    """Return a cell without blanks around it, in Unicode's composed form; a list as it is."""
    return cell if isinstance(cell, ListCell) else composed(cell.strip())


def _begins_list(first: str) -> bool:
    """Return whether the first line of a text file names a file, not the columns of a table."""
    if "\t" in first or any(_has_image_cell(first, mark) for mark in ",;"):
        return False
    headed = ("," in first or ";" in first) and "/" not in first
    return not headed or any(map(is_image, first.split()))


def _has_image_cell(line: str, mark: str) -> bool:
    cells = (cell.strip().strip('"') for cell in line.split(mark)[:-1])
    return any(map(is_image, cells))
