"""A look into an `.npz` file, before NumPy unpacks it: it may be another person's."""

import math
import zipfile
from typing import BinaryIO

import numpy as np

from convscope.wording import first_line

_FREE_BYTES = 2**30
"""Bytes of arrays that any file may unpack to."""

_MAX_RATIO = 200
"""Times its own size that a larger one may unpack to; names of images reach 20."""


def require_sound(stream: BinaryIO, n_rows: int | None = None) -> None:
    """Reject a file whose arrays are not as large as they state, or far larger than the file.

    NumPy takes the memory that a header names before it reads on, and unpacks whatever there is.

    Args:
        stream: Open file; it is at its beginning again afterwards.
        n_rows: Length that all arrays must have; None if they may have any.

    Raises:
        ValueError: If it is such a file, or damaged.
    """
    try:
        _require_sound(stream, n_rows)
    except Exception as error:  # zipfile and NumPy raise any exception on a damaged file.
        raise ValueError(first_line(error)) from None
    stream.seek(0)


def _require_sound(stream: BinaryIO, n_rows: int | None) -> None:
    n_packed = stream.seek(0, 2)
    with zipfile.ZipFile(stream) as file:
        arrays = file.infolist()
        # No more than these is unpacked: `zipfile` stops there.
        if sum(each.file_size for each in arrays) > max(_FREE_BYTES, _MAX_RATIO * n_packed):
            raise ValueError("its arrays are far larger than the file")
        for each in arrays:
            # NumPy would read one called "labels" too.
            if not each.filename.endswith(".npy"):
                raise ValueError(f"'{each.filename}' is no array")
            with file.open(each) as array:
                version = np.lib.format.read_magic(array)
                # The third one is for names of fields, which no array here has.
                read_header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(array)
                n_left = each.file_size - array.tell()
            if dtype.hasobject or math.prod(shape) * dtype.itemsize != n_left:
                raise ValueError(f"'{each.filename}' is not as large as it states")
            if n_rows is not None and shape[:1] != (n_rows,):
                raise ValueError(f"'{each.filename}' is not of {n_rows:,} images")
