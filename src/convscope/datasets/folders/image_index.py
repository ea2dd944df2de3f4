"""Images of a folder by the paths that a table of labels writes for them."""

import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from convscope.datasets.folders.columns import LabelRow
from convscope.errors import DataError
from convscope.images.find import IMAGE_SUFFIXES
from convscope.wording import composed, printable

_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


class ImageIndex:
    """Images below a root, found by the ways in which tables write their paths.

    Only images that were found by walking the folder can be named, so nothing outside is.

    Args:
        root: Folder, without links in its path.
        images: Paths of the images below it, with forward slashes.
    """

    def __init__(self, root: Path, images: Iterable[str]) -> None:
        self._root = root
        self._by_path: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for image in images:
            for name in (_normal(image), _stem(image)):
                self._by_path.setdefault(name, []).append(image)
                base = posixpath.basename(name)
                if base != name:
                    self._by_name.setdefault(base, []).append(image)

    def find(self, row: LabelRow) -> list[str]:
        """Return the image of a row; none if it is not there, several if it is not clear.

        Raises:
            DataError: If its path is absolute, or leads out of the folder.
        """
        written = row.file.replace("\\", "/")
        if _ABSOLUTE.match(written):
            raise DataError(
                f"{row.place}: '{printable(row.file)}' is an absolute path; write paths relative "
                "to the folder of the images"
            )
        ways = [
            way
            for start in dict.fromkeys((row.table.parent, self._root))
            if (way := self._inside(start, written)) is not None
        ]
        if not ways:
            raise DataError(
                f"{row.place}: '{printable(row.file)}' leads out of the folder {self._root}, which "
                "no row may; name a folder that holds all images, or copy this one into it"
            )
        steps = written.split("/")
        # "train_images/1.jpg", where the folder that was named is train_images.
        for depth in range(1, min(len(steps), len(self._root.parts))):
            if list(self._root.parts[-depth:]) == steps[:depth]:
                ways.append("/".join(steps[depth:]))
        for way in ways:
            if hits := self._by_path.get(_normal(way)):
                exact = [image for image in hits if composed(image) == way]
                return exact or hits
        return self._by_name.get(_normal(written), []) if len(steps) == 1 else []

    def _inside(self, start: Path, written: str) -> str | None:
        """Return a path relative to the root; None if it leads out of it."""
        whole = os.path.normpath(f"{start}/{written}")
        top = os.path.normpath(self._root)
        if not whole.startswith(os.path.join(top, "")):  # noqa: PTH118 - "/" stays "/"
            return None
        return composed(whole[len(os.path.join(top, "")) :].replace(os.sep, "/"))  # noqa: PTH118


def _normal(path: str) -> str:
    """Return a path whose ending is in small letters: A.JPG is called A.jpg in many tables."""
    path = composed(path)
    stem, suffix = posixpath.splitext(path)
    return f"{stem}{suffix.lower()}" if suffix.lower() in IMAGE_SUFFIXES else path


def _stem(image: str) -> str:
    return posixpath.splitext(composed(image))[0]
