"""A checksum inside a saved model, by which a damaged file is refused.

A `.keras` file is a zip archive, and such an archive ends in a comment that no reader minds: here
"sha256:" and the hexadecimal digest of all bytes before it. Zip's own checksums do not cover its
headers.

References:
    PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 4.3.16, end of central directory record.
"""

import errno
import hashlib
import os
import zipfile
from pathlib import Path

from convscope.errors import IntegrityError

_MARK = b"sha256:"
_N_DIGITS = 64
_CHUNK = 1 << 20


def add_checksum(path: Path) -> None:
    """Put the checksum into a zip archive, in place.

    Raises:
        OSError: If it cannot be read or written.
    """
    with zipfile.ZipFile(path, "a") as archive:
        if not archive.namelist():
            # Where its end could not be read, zipfile begins a new, empty archive behind it.
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        archive.comment = _MARK + b"0" * _N_DIGITS
    digest = _digest_before_comment(path)
    with path.open("r+b") as file:
        file.seek(-_N_DIGITS, 2)
        file.write(digest)


def require_whole(path: Path) -> None:
    """Check a saved model. A file without a checksum, of an earlier version, passes.

    Raises:
        IntegrityError: If a byte of it was changed.
        BadZipFile: If it is no zip archive any more.
    """
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    if comment and comment != _MARK + _digest_before_comment(path):
        raise IntegrityError(f"the bytes of {path} do not match its own checksum")


def _digest_before_comment(path: Path) -> bytes:
    hashed = hashlib.sha256()
    left = path.stat().st_size - _N_DIGITS
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            hashed.update(chunk)
            left -= len(chunk)
    return hashed.hexdigest().encode()
