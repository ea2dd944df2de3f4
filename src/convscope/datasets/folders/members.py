"""Files and folders in a zip or tar archive, one after another, whatever a stranger put into it."""

import bz2
import contextlib
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

_CHUNK = 2**20
_MOST_CHUNKS_AFTER = 64
_HEADER_BYTES = 2**26
"""Largest part of a tar file read at once; only headers are, and long ones are an attack."""

_SAYS_UTF_8 = 0x800
"""Flag of a member of a zip file whose name is UTF-8; without it, it is read as code page 437."""

_HANGUL = re.compile(rb"(?:[\x00-\x7f]|[\xb0-\xc8][\xa1-\xfe])+")
"""Names of ASCII and syllables of KS X 1001, whose first bytes are lines of boxes in code page 437,
of which no name is made."""

DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)
"""What the readers raise for damaged archives, besides `OSError`."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file or folder in an archive.

    Attributes:
        name: Name as stored.
        kind: "file", "folder", or a word for what it is otherwise.
        n_bytes: Unpacked size, as the archive states.
        open: Function that opens its content.
    """

    name: str
    kind: str
    n_bytes: int
    open: Callable[[], IO[bytes] | None]


@contextlib.contextmanager
def open_members(path: Path) -> Iterator[Iterator[Member]]:
    """Yield the members of an archive; the content of one can be read until the next is asked for.

    Args:
        path: Archive: .zip, or a tar file with any compression.
    """
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as packed:
            yield (_of_zip(packed, info) for info in packed.infolist())
        return
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        stream = stack.enter_context(_decompressed(raw))
        # Not by the compression modes of tarfile: those go back to the start for a single byte.
        forward = _Forward(stream)
        whole = tarfile.open(fileobj=cast(BinaryIO, forward), mode="r:")  # noqa: SIM115
        yield _tar_members(stack.enter_context(whole), forward)


def _of_zip(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    name = _zip_name(info)
    # Some programs of Windows write its own separator.
    is_folder = name.endswith(("/", "\\"))
    kind = "folder" if is_folder else _kind(mode) if stat.S_IFMT(mode) else "file"
    if info.flag_bits & 1:
        kind = "encrypted"
    return Member(name, kind, info.file_size, lambda: packed.open(info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member.

    The Finder of a Mac writes UTF-8 and does not say so, nor does a Korean Windows of its Hangul.
    """
    if info.flag_bits & _SAYS_UTF_8:
        return info.filename
    with contextlib.suppress(UnicodeEncodeError):
        raw = info.filename.encode("cp437")
        with contextlib.suppress(UnicodeDecodeError):
            return raw.decode()
        if _HANGUL.fullmatch(raw):
            return raw.decode("cp949")
    return info.filename


def _tar_members(packed: tarfile.TarFile, stream: "_Forward") -> Iterator[Member]:
    while (info := packed.next()) is not None:
        yield _of_tar(packed, info)
        cast(Any, packed).members.clear()  # it would keep all of them
    if stream.ended:  # tarfile takes it for the end
        raise tarfile.ReadError("it is cut off")
    # The checksum of a compressed stream is at its very end, after zeros of any number.
    for _ in range(_MOST_CHUNKS_AFTER):
        if not stream.read(_CHUNK):
            break


def _of_tar(packed: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kinds = (
        (info.issym() or info.islnk(), "a link"),
        (info.issparse(), "a sparse file"),
        (info.isdir(), "folder"),
        (info.isreg(), "file"),
    )
    kind = next((word for holds, word in kinds if holds), "a device or pipe")
    return Member(info.name, kind, info.size, lambda: packed.extractfile(info))


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "a link" if stat.S_ISLNK(mode) else "a device or pipe"


def _decompressed(raw: BinaryIO) -> contextlib.AbstractContextManager[Any]:
    """Return the stream of a tar file, by its first bytes and not by its name."""
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if start == b"\xfd7zXZ\0":
        return lzma.LZMAFile(raw)
    return contextlib.nullcontext(raw)


class _Forward:
    """A stream that is only read forward, but for its last byte, and never much at once.

    `tarfile` goes back one byte before each member, for which a compressed stream would start again
    from its beginning, and reads headers of any stated size into memory.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._place = 0
        self._last = b""
        self._again = b""
        self.ended = False

    def tell(self) -> int:
        return self._place

    def seek(self, place: int) -> int:
        if self._last and place == self._place - 1:
            self._again, self._place = self._last, place
        while self._place < place:
            if not self.read(min(_CHUNK, place - self._place)):
                break
        if place < self._place:
            raise tarfile.ReadError("its members are not in order")
        return self._place

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise tarfile.ReadError("a header of absurd size")
        chunk = self._again[:size]
        self._again = b"" if chunk else self._again
        chunk += self._stream.read(size - len(chunk))
        self.ended = size > 0 and not chunk
        self._place += len(chunk)
        self._last = chunk[-1:] or self._last
        return chunk
