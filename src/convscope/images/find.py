"""Image files of a folder, recognised by their names before any is opened."""

import contextlib
import glob
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

from convscope.errors import DataError
from convscope.paths import is_path, user_path

_SUFFIXES = "avif bmp dib gif heic heif hif jfif jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Files with these suffixes, in small or capital letters, count as images."""


LEFTOVERS = frozenset(
    {
        "__macosx",  # zip archives made on a Mac
        "@eadir",  # Synology: thumbnails
        "@recycle",  # QNAP: bin
        "@recently-snapshot",  # QNAP
        "#recycle",  # Synology: bin
        "#snapshot",  # Synology
        "$recycle.bin",  # Windows
        "system volume information",  # Windows
        "found.000",  # Windows: chkdsk
        "lost+found",  # Linux: fsck
        "network trash folder",  # Netatalk
        "temporary items",  # Netatalk
        "__pycache__",  # Python
        "node_modules",  # npm
    }
)
"""Files and folders that systems and programs leave behind, in small letters."""

RESULTS = (
    *("run.json", "comparison.json", "folds.json", "ladder.json", "learning_curve.json"),
    *("search.json", "suspects.json", "tuning.json", "tutorial.json"),
)
"""The files that make a folder a run or a study of convscope; each has a key "format"."""


@dataclass
class Skipped:
    """Files and folders that a walk skipped.

    Attributes:
        hidden: Files and folders whose name starts with a dot.
        leftovers: Thumbnails, bins and the like of systems and programs, by `LEFTOVERS`.
        results: Folders of runs and studies of convscope.
        others: Files whose suffix is not that of an image.
        loops: Links to folders that the walk had already entered.
    """

    hidden: list[Path] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)

    def add(self, more: "Skipped") -> None:
        """Add what another walk skipped."""
        for name in vars(self):
            getattr(self, name).extend(getattr(more, name))


def pass_over(path: Path, kind: str, skipped: Skipped) -> bool:
    """Return whether a file or folder is not part of the user's images, and record why.

    Args:
        path: File or folder.
        kind: Result of `kind_of`.
        skipped: Object that records it.
    """
    if path.name.startswith("."):
        skipped.hidden.append(path)
    elif path.name.casefold() in LEFTOVERS:
        skipped.leftovers.append(path)
    elif kind == "folder" and any(_is_result(path / name) for name in RESULTS):
        skipped.results.append(path)
    else:
        return False
    return True


def _is_result(file: Path) -> bool:
    with contextlib.suppress(OSError), file.open("rb") as state:
        return b'"format"' in state.read(4096)
    return False


def is_image(name: str) -> bool:
    """Return whether a file of this name counts as an image, by its suffix."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def walk_images(
    folder: Path, *, skipped: Skipped | None = None, above: Iterable[Path] = ()
) -> list[Path]:
    """Return the image files in a folder and below, sorted by path.

    Args:
        folder: Folder to search.
        skipped: Object that records everything that is skipped.
        above: Folders that links must not lead back into.

    Raises:
        DataError: If a folder cannot be listed.
    """
    return sorted(iter_images(folder, skipped=skipped, above=above), key=lambda path: path.parts)


def iter_images(
    folder: Path, *, skipped: Skipped | None = None, above: Iterable[Path] = ()
) -> Iterator[Path]:
    """Yield the image files in a folder and below as they are found, for callers that stop early.

    Links are followed, but no folder is entered twice, so a loop of links ends. Pipes and devices
    count as not images. A dangling link counts by its suffix, so that its image is reported missing
    rather than forgotten.

    Args:
        folder: Folder to search.
        skipped: Object that records everything that is skipped.
        above: Folders that links must not lead back into.

    Raises:
        DataError: If a folder cannot be listed.
    """
    skipped = skipped if skipped is not None else Skipped()
    entered = {_identity(place) for place in above}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        identity = _identity(place)
        if identity in entered:
            skipped.loops.append(place)
            continue
        entered.add(identity)
        for path in list_folder(place):
            kind = kind_of(path)
            if pass_over(path, kind, skipped):
                continue
            if kind == "folder":
                waiting.append(path)
            elif kind != "other" and is_image(path.name):
                yield path
            else:
                skipped.others.append(path)


def list_folder(place: Path) -> list[Path]:
    """Return the contents of a folder, sorted by name, including hidden ones.

    Raises:
        DataError: If it cannot be listed.
    """
    try:
        return [place / name for name in sorted(os.listdir(place))]  # noqa: PTH208 - strings sort
    except OSError as error:
        raise DataError(f"the folder {place} cannot be listed ({error.strerror})") from error


def kind_of(path: Path) -> Literal["file", "folder", "other", "dangling"]:
    """Return the kind of a path, following links; "dangling" for a link without a target."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "dangling"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def _identity(place: Path) -> tuple[int, int]:
    status = place.stat()
    return status.st_dev, status.st_ino


def one_or_more(sources: Path | str | Iterable[Path | str]) -> list[Path | str]:
    """Return what names images as a list, if it is a single name too.

    Raises:
        DataError: If something is no path, such as the pixels of an image.
    """
    alone = is_path(sources) or not isinstance(sources, Iterable)
    named: list[Any] = [sources] if alone else [*sources]  # type: ignore[misc]
    for source in named:
        if not is_path(source):
            raise DataError(
                f"an image is of type {type(source).__name__}; give paths of images (those in "
                "memory: convscope.Classifier(...).predict)"
            )
    return named


def find_images(sources: Path | str | Iterable[Path | str]) -> list[Path]:
    """Return the image files that `sources` name, each once, in that order.

    A named file is taken whatever its suffix. Folders are searched recursively, and their contents,
    or matches of a pattern, are sorted; there, hidden files, leftovers of other programs and
    convscope's own results are skipped.

    Args:
        sources: Files, folders, and patterns such as "photos/**/*.jpg"; one or several.

    Raises:
        DataError: If a source does not exist, or none has an image.
    """
    # A dictionary keeps the first of each, in order.
    found: dict[Path, None] = {}
    named = one_or_more(sources)
    for source in named:
        for path in _find(user_path(source, "IMAGE")):
            found.setdefault(path)
    if not found:
        said = ", ".join(str(source) for source in named) or "nothing"
        raise DataError(f"no image in {said}; name image files, a folder or a quoted pattern")
    return list(found)


def folder_searched(source: Path | str) -> Path | None:
    """Return the folder that a source is, or in which its pattern begins; None of a file."""
    path = user_path(source, "IMAGE")
    if not os.path.lexists(path) and glob.has_magic(str(path)):
        path = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    return path if path.is_dir() else None


def _find(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield from walk_images(source)
    elif os.path.lexists(source):
        yield source
    elif glob.has_magic(str(source)):
        matches = (Path(match) for match in glob.iglob(str(source), recursive=True))  # noqa: PTH207
        yield from sorted(path for path in matches if path.is_file() and is_image(path.name))
    else:
        raise DataError(f"there is no file or folder {source}")
