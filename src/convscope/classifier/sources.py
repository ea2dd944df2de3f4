"""What a user names for prediction, as a stream of images: files, folders, patterns, lists."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from convscope.datasets.folders.columns import file_column
from convscope.datasets.folders.tables import is_table, open_table
from convscope.errors import DataError
from convscope.images.find import find_images
from convscope.paths import user_path

STDIN = "-"
"""Name of standard input, which is a list of files: a path in each line."""


def is_stream(source: Path | str) -> bool:
    """Return whether a source is read while its images are classified: a list, or STDIN."""
    return source == STDIN or is_table(Path(source))


def iter_images_of(sources: Iterable[Path | str]) -> Iterator[Path]:
    """Yield the image files that sources name, in order.

    Args:
        sources: Files, folders, patterns (see `images.find.find_images`); lists of files (.txt,
            .csv, .jsonl, .parquet; paths are relative to the list); and `STDIN`.

    Raises:
        DataError: If a source does not exist, has no image, or is a table without a column of
            files.
    """
    for source in sources:
        if source == STDIN:
            yield from (Path(line.rstrip("\n")) for line in sys.stdin if line.strip())
        elif is_stream(source):
            table = open_table(user_path(source, "IMAGE"))
            column = file_column(table)
            if column is None:
                raise DataError(
                    f"{table.path} has no column called file, image, path or id, so it is not "
                    "clear which holds the images; rename it"
                )
            yield from (table.path.parent / cells[0] for _, cells in table.rows([column]))
        else:
            yield from find_images([source])
