"""Files in a body of multipart/form-data, in memory: photos are not written to a disk."""

import logging
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from convscope.serving.limits import RefusedError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MOST_PARTS = 10_000

# It warns of each damaged form; without a handler Python prints that on standard error.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


def files_in(body: bytes, content_type: str) -> list[tuple[str, bytes]]:
    """Return the name and content of each file.

    Args:
        body: Body of the request.
        content_type: Header "content-type".

    Raises:
        RefusedError: If it is damaged, or has no file in it.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise RefusedError(400, "the content-type of the form has no boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, ValueError) as error:
        raise RefusedError(400, f"the form is damaged: {str(error)[:100]}") from None
    if not reader.ended:
        raise RefusedError(400, "the form is damaged: it ends too early")
    if not reader.files:
        raise RefusedError(
            400, "the form has no file in it; send images as fields of the kind file"
        )
    return reader.files


class _Reader:
    """Files as the parser finds them."""

    def __init__(self) -> None:
        self.files: list[tuple[str, bytes]] = []
        self.ended = False
        self._field = self._value = b""
        self._disposition = b""
        self._content: list[bytes] = []
        self._parts = 0

    def callbacks(self) -> "MultipartCallbacks":
        """Return the functions that the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise RefusedError(413, f"the form has more than {_MOST_PARTS:,} parts")
        self._disposition, self._content = b"", []

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" in options:
            name = options[b"filename"].decode("utf-8", "replace")
            self.files.append((name, b"".join(self._content)))

    def _on_end(self) -> None:
        self.ended = True
