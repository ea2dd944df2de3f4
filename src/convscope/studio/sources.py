"""Folders of images that pages show: their classes, small pictures of them, corrected labels."""

import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote

import numpy as np
from PIL import Image

from convscope.datasets.folders.archives import unpacked
from convscope.datasets.folders.columns import LabelTable
from convscope.datasets.folders.contents import read_contents
from convscope.datasets.folders.layout import Layout
from convscope.datasets.source import data_settings
from convscope.errors import DataError
from convscope.images.decode import decode_image
from convscope.locks import LOCK, exclusive
from convscope.paths import short_name
from convscope.progress import Progress
from convscope.storage import atomic_path, read_object, write_text
from convscope.wording import printable

_SIDE = 192
"""Side of a small picture in pixels; it is drawn at half of that on sharp screens."""

_PIXELS_SEEN = 64
"""Largest side of an image whose pixels shall be seen."""

_MOST = 40
"""Number of folders of which pictures are shown at a time."""


class Source:
    """A folder or archive of images, as a page shows it.

    Attributes:
        data: Folder or archive, as the user named it.
        labels: Table of labels, as the user named it; empty for none.
        layout: Its images by part and class.
        changed: Time at which its images, folders or labels changed last, in seconds since 1970.
        key: Secret in the addresses of its pictures.
    """

    def __init__(self, data: str, labels: str = "") -> None:
        self.data, self.labels = data, labels
        place = data_settings(data, labels or None)
        if place["data_path"] is None:
            raise DataError(f"{data} is a dataset, not a folder")
        self._held = ExitStack()
        named = Path(place["data_path"])
        root = self._held.enter_context(unpacked(named, Progress()))
        archive = named if root != named else None
        self.layout: Layout = read_contents(root, place.get("labels"), archive)
        parts = [named]
        if table := place.get("labels") or self.layout.labels:
            parts.append(root / LabelTable.parse(table).path)
        if archive is None:
            files = [root / file for file in self.layout.names]
            parts += [*files, *{file.parent for file in files}]
        self.changed = _changed(parts)
        self.key = secrets.token_urlsafe(12)

    @property
    def name(self) -> str:
        """Name for people."""
        return (self.layout.named or self.layout.root).name

    @property
    def by_class(self) -> dict[str, list[str]]:
        """Image files by class, of all parts; one with several classes is in each of them."""
        found: dict[str, list[str]] = {}
        if self.layout.labels_of is not None:
            for file, names in self.layout.labels_of.items():
                for name in names:
                    found.setdefault(name, []).append(file)
            return dict(sorted(found.items()))
        for classes in self.layout.parts.values():
            for name, files in classes.items():
                found.setdefault(name, []).extend(files)
        return dict(sorted(found.items()))

    def file(self, name: str) -> Path:
        """Return the path of an image by its name below the folder.

        Raises:
            DataError: If the name leads elsewhere.
        """
        return below(self.layout.root, name)

    def corrected(self, corrections: Mapping[str, str], folder: Path) -> LabelTable:
        """Write a table of all images in which some labels are corrected; originals stay.

        Parts and groups of the images stay as they are.

        Args:
            corrections: New class of images, by their name below the folder.
            folder: Folder of such tables; the name of the file depends on its content.

        Raises:
            DataError: If the images have any number of classes, or a name of an image or a class is
                one that no table can hold.
            StorageError: If it cannot be written.
        """
        if self.layout.labels_of is not None:
            raise DataError("labels are corrected here where each image has one class")
        parts, group_of = self.layout.parts, self.layout.group_of
        columns = ["file", "label", "split", "group"]
        left_out = {"split"} if len(parts) == 1 else set()
        left_out |= {"group"} if group_of is None else set()
        kept = io.StringIO(newline="")
        writer = csv.DictWriter(
            kept,
            [column for column in columns if column not in left_out],
            extrasaction="ignore",
            lineterminator="\n",
        )
        writer.writeheader()
        written = []
        for part, classes in parts.items():
            for name, files in sorted(classes.items()):
                for file in files:
                    row = (file, corrections.get(file, name), part, (group_of or {}).get(file))
                    writer.writerow(dict(zip(columns, row, strict=True)))
                    written.append(row[:3])
        text = kept.getvalue()
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        path = folder / f"{short_name(self.name, 100)}-{digest}.csv"
        with (
            atomic_path(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file_,
        ):
            file_.write(text)
        # Nothing is left to guessing: a class may be called "red, large" or "[a]".
        table = LabelTable(
            str(path),
            file="file",
            label="label",
            split=None if "split" in left_out else "split",
            group=None if "group" in left_out else "group",
            separator="none",
            multi_label="no",
        )
        try:
            self._require_read_back(table, written)
        except DataError:
            path.unlink(missing_ok=True)
            raise
        return table

    def _require_read_back(self, table: LabelTable, written: list[tuple[str, str, str]]) -> None:
        """Read a table of labels again.

        Args:
            table: Table.
            written: File, class and part of each image.

        Raises:
            DataError: If an image, or its class, is another one now.
        """
        try:
            layout = read_contents(self.layout.root, str(table))
        except DataError as error:
            raise DataError(f"the corrected labels cannot be used as a table: {error}") from None
        read = {
            file: (name, part)
            for part, classes in layout.parts.items()
            for name, files in classes.items()
            for file in files
        }
        for file, name, part in written:
            if read.get(file) != (name, part):
                raise DataError(
                    f"no table of labels can hold '{printable(file)}' in the class "
                    f"'{printable(name)}': blanks at the beginning or end, '\\' and numbers such "
                    "as 1.0 are read otherwise; rename the image or its folder"
                )


def _changed(parts: Iterable[Path]) -> float:
    """Return the time at which one of some files and folders changed last."""
    newest = 0.0
    for path in parts:
        with contextlib.suppress(OSError):
            status = path.stat()
            # A file that is copied into the place of another keeps its own time of modification.
            newest = max(newest, status.st_mtime, status.st_ctime)
    return newest


class Corrections:
    """Decisions on suspect labels, kept beside the tables of labels.

    Several pages may show the same images, so nothing is held in memory: what one of them decides,
    all others see.

    Args:
        source: Images.
        folder: Folder in which they are kept.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        # A name only. A run may name its table by another path than the page of the data.
        table = os.path.abspath(source.labels) if source.labels else ""  # noqa: PTH100
        place = f"{os.path.abspath(source.data)}\n{table}"  # noqa: PTH100
        digest = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        self._file = folder / f"{short_name(source.name, 100)}-{digest}.json"

    @property
    def decided(self) -> dict[str, str]:
        """Class of each image that a person decided."""
        return {key: str(value) for key, value in read_object(self._file).items()}

    def decide(self, image: str, class_name: str | None) -> None:
        """Keep the class of an image as decided by a person; None takes a decision back."""
        with exclusive(self._file.parent / LOCK, wait=True):
            decided = self.decided
            decided.pop(image, None)
            if class_name is not None:
                decided[image] = class_name
            write_text(self._file, json.dumps(decided, indent=1) + "\n")


def picture_address(key: str, name: str) -> str:
    """Return the address of a small picture.

    Args:
        key: Secret of its folder.
        name: Name of the image below the folder, whatever its bytes.
    """
    return f"/thumb/{key}?name={quote(name, safe='', errors='surrogateescape')}"


def picture_name(query: str) -> str:
    r"""Return the name of the image in the query of such an address; empty if there is none.

    Examples:
        >>> picture_name(picture_address("k", "caf\udce9/1.png").partition("?")[2])
        'caf\udce9/1.png'
    """
    return parse_qs(query, errors="surrogateescape").get("name", [""])[0]


class Sources:
    """Folders whose pictures pages show at present; the oldest are forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Source | Path] = OrderedDict()

    def open(self, data: str, labels: str = "") -> Source:
        """Return the images of a folder or archive.

        Raises:
            ConvscopeError: If it cannot be read.
        """
        source = Source(data, labels)
        self._keep(source.key, source)
        return source

    def add(self, folder: Path) -> str:
        """Return the secret in the addresses of the pictures of a folder without classes."""
        key = secrets.token_urlsafe(12)
        self._keep(key, folder)
        return key

    def _keep(self, key: str, shown: Source | Path) -> None:
        self._known[key] = shown
        while len(self._known) > _MOST:
            self._known.popitem(last=False)

    def picture(self, key: str, name: str) -> bytes:
        """Return a small picture of an image, as a JPEG file.

        Raises:
            DataError: If there is no such folder, or the name leads out of it.
            ImageError: If it cannot be read.
        """
        if key not in self._known:
            raise DataError("this folder is not shown any more; load the page again")
        shown = self._known[key]
        root = shown if isinstance(shown, Path) else shown.layout.root
        return small(decode_image(below(root, name), channels=3))


def below(root: Path, name: str) -> Path:
    """Return the path of a file by its name below a folder.

    Raises:
        DataError: If the name leads elsewhere.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"{name!r} is no image of {root.name}")
    return root / path


def small(pixels: Any) -> bytes:
    """Return a small picture as a JPEG file.

    Args:
        pixels: Shape (height, width, 3), uint8.
    """
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((_SIDE, _SIDE))
    if max(image.size) <= _PIXELS_SEEN:
        # A browser would blur it.
        times = _SIDE // max(image.size)
        image = image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=82)
    return kept.getvalue()
