"""What a request may cost: bytes, pixels, time, nesting. What is more is refused in one line."""

import asyncio
import base64
import binascii
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

MEGABYTE = 1 << 20

_T = TypeVar("_T")


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        text: One line that says what is wrong and what to do; the client sees it.
        retry_after: Seconds after which the client may try again.
    """

    def __init__(self, status: int, text: str, *, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limits:
    """Limits of one server.

    Attributes:
        max_body: Largest body of a request in bytes, also once it is decompressed.
        max_pixels: Largest number of pixels of an image; larger ones are refused by their header.
        body_s: Seconds within which the body has to arrive.
        deadline_ms: Milliseconds from the arrival of the body to the answer.
        max_held: Bytes of the bodies of all requests together, decompressed; None allows 512 MB, or
            two of the largest bodies if they are more: one that comes compressed is there twice.
    """

    max_body: int = 32 * MEGABYTE
    max_pixels: int = 50_000_000
    body_s: float = 30.0
    deadline_ms: float = 10_000.0
    max_held: int | None = None


def limits_of(max_body_mb: float, max_megapixels: float, deadline_ms: float) -> Limits:
    """Return limits as the public functions take them; see `serve`."""
    return Limits(
        max_body=int(max_body_mb * MEGABYTE),
        max_pixels=int(max_megapixels * 1e6),
        deadline_ms=deadline_ms,
    )


Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_MOST_LISTS = 2_000_000
"""Largest number of lists and objects in a JSON body: Python needs about 100 bytes for each."""

_PIECE = 4 * MEGABYTE
"""Bytes of a compressed body that are unpacked before they are counted."""

_READ = 1 << 16
"""Bytes of a compressed body that are read at a time: what follows a member of gzip is copied."""

_MOST_MEMBERS = 10_000
"""Largest number of gzip's members in a body: each costs some microseconds, even an empty one."""

_DISCARDED = 4
"""Multiple of the largest body that is read and dropped, so that the client gets to the answer."""


class Bodies:
    """Bodies of all requests in progress.

    Args:
        limits: Limits of the server.

    Attributes:
        held: Bytes that are in memory.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most = limits.max_held or max(512 * MEGABYTE, 2 * limits.max_body)
        self.held = 0

    @asynccontextmanager
    async def read(self, receive: Receive, length: bytes, encoding: str) -> AsyncIterator[bytes]:
        """Yield the body of a request, decompressed; None of it is held afterwards.

        Args:
            receive: Source of the messages, of ASGI.
            length: Header "content-length", empty if there is none.
            encoding: Header "content-encoding", empty if there is none.

        Raises:
            RefusedError: If it is too large (413), too slow (408), of an unknown encoding (415) or
                damaged (400), or if all bodies together are too large (503).
            ClientGoneError: If the client hung up.
        """
        limits = self._limits
        mine = 0
        try:
            async with asyncio.timeout(limits.body_s):
                # The size is known before anything is read, unless it comes in chunks.
                too_large = length.isdigit() and int(length[:20]) > limits.max_body
                chunks: list[bytes] = []
                discarded, more = 0, True
                while more and discarded <= _DISCARDED * limits.max_body:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    if too_large or mine + len(chunk) > limits.max_body:
                        too_large = True
                        chunks.clear()
                        discarded += len(chunk)
                        continue
                    self._hold(len(chunk))
                    mine += len(chunk)
                    chunks.append(chunk)
        except TimeoutError:
            self.held -= mine
            raise RefusedError(
                408, f"the request did not arrive within {limits.body_s:g} seconds"
            ) from None
        except BaseException:
            self.held -= mine
            raise
        try:
            if too_large:
                raise RefusedError(413, _over(limits))
            body = b"".join(chunks)
            chunks.clear()
            if encoding not in ("", "identity"):
                for chunk in _inflated(body, encoding, limits):
                    self._hold(len(chunk))
                    mine += len(chunk)
                    chunks.append(chunk)
                # From here on there is no more than what it unpacked to.
                self.held -= len(body)
                mine -= len(body)
                body = b"".join(chunks)
                chunks.clear()
            yield body
        finally:
            self.held -= mine

    def _hold(self, n_bytes: int) -> None:
        """Count bytes that come into memory.

        Raises:
            RefusedError: If there is no room for them (503).
        """
        if self.held + n_bytes > self._most:
            raise RefusedError(503, "too many large requests at once", retry_after=1)
        self.held += n_bytes


class ClientGoneError(Exception):
    """The client hung up before its request was complete."""


def _inflated(body: bytes, encoding: str, limits: Limits) -> Iterator[bytes]:
    """Yield a compressed body, decompressed, in pieces of up to `_PIECE` bytes.

    Raises:
        RefusedError: If it is too large, damaged, or of an unknown encoding.
    """
    windows = {"gzip": 31, "x-gzip": 31, "deflate": 15}
    if encoding not in windows:
        raise RefusedError(415, "the content-encoding has to be gzip, deflate or none")
    reader, rest = zlib.decompressobj(windows[encoding]), memoryview(body)
    n_bytes, n_members = 0, 1
    try:
        while True:
            given = rest[:_READ]
            piece = reader.decompress(given, _PIECE)
            rest = rest[len(given) - len(reader.unconsumed_tail) - len(reader.unused_data) :]
            n_bytes += len(piece)
            if n_bytes > limits.max_body:
                raise RefusedError(413, _over(limits))
            yield piece
            if not reader.eof:
                if not piece and not rest:
                    raise RefusedError(400, f"the body is not valid {encoding}: it ends too early")
                continue
            if not rest:
                return
            if encoding == "deflate":
                raise RefusedError(400, "the body is not valid deflate: more follows its end")
            # Members of gzip may follow one another.
            n_members += 1
            if n_members > _MOST_MEMBERS:
                raise RefusedError(413, f"the body has more than {_MOST_MEMBERS:,} gzip members")
            reader = zlib.decompressobj(windows[encoding])
    except zlib.error:
        raise RefusedError(400, f"the body is not valid {encoding}") from None


def whole_number(text: str, most: int) -> int | None:
    """Return the number in a text of decimal digits; None if it is none, or above `most`."""
    digits = text.lstrip("0")
    # Python refuses to read thousands of digits.
    if not (text.isascii() and text.isdigit()) or len(digits) > len(str(most)):
        return None
    number = int(digits or "0")
    return number if number <= most else None


def parse_json(body: bytes) -> dict[str, Any]:
    """Return the object in a JSON body.

    Raises:
        RefusedError: If it is not JSON, contains NaN or infinity, is nested too deeply, or is no
            object.
    """
    if body.count(b"[") + body.count(b"{") > _MOST_LISTS:
        raise RefusedError(
            413, f"the JSON has more than {_MOST_LISTS:,} lists; send the tensor binary"
        )
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise RefusedError(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        # UnicodeDecodeError quotes the whole body.
        reason = "" if isinstance(error, UnicodeDecodeError) else f": {str(error)[:100]}"
        raise RefusedError(400, f"the body is not valid JSON{reason}") from None
    if not isinstance(found, dict):
        raise RefusedError(400, "the JSON has to be an object, {...}")
    return found


def decode_base64(text: object, name: str) -> bytes:
    """Return the bytes in a base64 text, with or without "data:image/png;base64," before it.

    Raises:
        RefusedError: If it is none.
    """
    if isinstance(text, str):
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise RefusedError(400, f"{name} is no base64 text")


def require_possible(n_images: int, most: int) -> None:
    """Refuse more images in one request than can ever have places in the queue.

    To be called before each image becomes a Python object, which takes a hundred bytes however
    small the image is.

    Args:
        n_images: Number of images in the request.
        most: Largest number.

    Raises:
        RefusedError: If there are more (413).
    """
    if n_images > most:
        raise RefusedError(
            413, f"{n_images} images in one request; the server takes at most {most}"
        )


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _over(limits: Limits) -> str:
    return f"the body is over {limits.max_body / MEGABYTE:.3g} MB, the most that the server takes"


@asynccontextmanager
async def within(limits: Limits) -> AsyncIterator[None]:
    """Cancel the body of the block at the deadline.

    Raises:
        RefusedError: If the deadline passed (504).
    """
    try:
        async with asyncio.timeout(limits.deadline_ms / 1000):
            yield
    except TimeoutError:
        raise RefusedError(504, f"no answer within {limits.deadline_ms:g} ms") from None


async def aside(function: Callable[..., _T], *arguments: Any, much: bool) -> _T:
    """Return what a function returns; if it has much to do, from a thread beside the event loop.

    Other requests get in between, and the deadline passes in time.

    Args:
        function: Function.
        arguments: Its arguments.
        much: Whether it takes more than some milliseconds.
    """
    return await asyncio.to_thread(function, *arguments) if much else function(*arguments)
