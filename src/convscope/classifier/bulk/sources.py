"""What a user names for prediction, as a stream of images: files, folders, lists, archives."""

import contextlib
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from convscope.datasets.folders.archives import complaint, is_archive, within_limits
from convscope.datasets.folders.columns import file_column
from convscope.datasets.folders.members import DAMAGED, Member, open_members
from convscope.datasets.folders.tables import is_table, open_table, tidy
from convscope.errors import DataError
from convscope.images.find import LEFTOVERS, find_images, is_image
from convscope.paths import user_path
from convscope.types import PackedImage
from convscope.wording import counted, file_size

STDIN = "-"
"""Name of standard input, which is a list of files: a path in each line."""

_MAX_BYTES = 2**28
"""Largest image file in an archive, which is read into memory, in bytes."""

_CHUNK = 2**20


def is_stream(source: Path | str) -> bool:
    """Return whether a source is read while its images are classified: a list, archive, STDIN."""
    return source == STDIN or is_table(Path(source)) or is_archive(Path(source))


def files_read(sources: Iterable[Path | str]) -> Iterator[Path]:
    """Yield the files that sources name and that are no images: lists and archives."""
    for source in sources:
        if source != STDIN and is_stream(path := user_path(source, "IMAGE")):
            yield from _matches(path) or [path]


def iter_images_of(sources: Iterable[Path | str]) -> Iterator[Path | PackedImage]:
    """Yield the image files that sources name, in order.

    Args:
        sources: Files, folders, patterns (see `images.find.find_images`); lists of files (.txt,
            .csv, .jsonl, .parquet; paths are relative to the list); archives (.zip, .tar, .tar.gz,
            ...), which are not unpacked, such as shards of WebDataset; patterns of lists or
            archives ("shards/*.tar"), in the order of their names; and `STDIN`.

    Raises:
        DataError: If a source does not exist, has no image, is a table without a column of files,
            an archive that unpacks to absurd sizes, or there is no standard input.
    """
    for source in sources:
        if source == STDIN:
            yield from _on_stdin()
            continue
        path = user_path(source, "IMAGE")
        if is_stream(path) and (matches := _matches(path)):
            yield from iter_images_of(matches)
        elif is_archive(path) and path.is_file():
            yield from _packed_images(path)
        elif is_table(path):
            table = open_table(path, as_written=True)
            column = file_column(table)
            if column is None:
                raise DataError(
                    f"{table.path} has no column called file, image, path or id, so it is not "
                    "clear which holds the images; rename it"
                )
            yield from (_named(cells[0], table.path.parent) for _, cells in table.rows([column]))
        else:
            yield from find_images([source])


def _on_stdin() -> Iterator[Path]:
    """Yield the paths on standard input, whose bytes need not be UTF-8."""
    lines = getattr(sys.stdin, "buffer", None)
    if lines is None:  # closed
        raise DataError(f"'{STDIN}' is a list on standard input, and there is none; pipe one in")
    # Python closes its own reader at exit, and fails if a thread still waits for a line there.
    with contextlib.suppress(AttributeError, OSError):
        lines = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    for line in lines:
        if line.strip():
            yield Path(line.rstrip(b"\r\n").decode(sys.stdin.encoding, "surrogateescape"))


def _named(cell: str, folder: Path) -> Path:
    """Return the path in a cell of a table: as it is written, unless only the tidy one is there.

    A name may begin with a blank, and macOS has accents as characters of their own.
    """
    place, other = folder / cell, tidy(cell)
    if other != cell and not os.path.lexists(place) and os.path.lexists(folder / other):
        return folder / other
    return place


def _matches(pattern: Path) -> list[Path]:
    """Return the files that a pattern of lists or archives matches; none if it is a path."""
    if os.path.lexists(pattern) or not glob.has_magic(str(pattern)):
        return []
    return sorted(Path(match) for match in glob.iglob(str(pattern), recursive=True))  # noqa: PTH207


def _packed_images(archive: Path) -> Iterator[PackedImage]:
    """Yield the images in an archive in their order; those that cannot be read, with the reason.

    Names decide, as in a folder. If the archive is damaged, what comes before is yielded, and the
    archive itself, as an image that cannot be read.
    """
    count = 0
    try:
        with open_members(archive) as members:
            for member in within_limits(archive, members):
                if member.kind != "folder" and _is_wanted(member.name):
                    yield _read(archive, member)
                    count += 1
    except (*DAMAGED, OSError) as error:
        if not count:
            raise DataError(
                f"{archive} cannot be read as an archive ({complaint(error)})"
            ) from None
        after = f"is damaged after {counted(count, 'image')} ({complaint(error)}); copy it again"
        yield PackedImage(archive, reason=after)
    if not count:
        raise DataError(f"no image in {archive}, by the endings of the names in it")


def _is_wanted(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    return is_image(name) and not hidden and not any(part.casefold() in LEFTOVERS for part in parts)


def _read(archive: Path, member: Member) -> PackedImage:
    path = Path(f"{archive}/{member.name}")
    if member.kind != "file":
        return PackedImage(path, reason=f"is {member.kind}, not an image")
    if member.n_bytes > _MAX_BYTES:
        return PackedImage(path, reason=f"is larger than {file_size(_MAX_BYTES)}")
    try:
        opened = member.open()
        if opened is None:
            return PackedImage(path, reason="has no content")
        with opened:
            return PackedImage(path, b"".join(iter(lambda: opened.read(_CHUNK), b"")))
    except (*DAMAGED, OSError) as error:
        return PackedImage(path, reason=f"is damaged in the archive ({complaint(error)})")
