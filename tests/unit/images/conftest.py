import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, features


@pytest.fixture
def photo() -> np.ndarray:
    """A smooth picture of 48 x 64 pixels, whose corners differ."""
    rows, columns = np.mgrid[:48, :64]
    return np.stack([rows * 4, columns * 3, 120 - rows - columns // 2], axis=2).astype(np.uint8)


@pytest.fixture
def encode() -> Callable[..., bytes]:
    def encoded(pixels: np.ndarray, file_format: str, **options: object) -> bytes:
        if file_format == "HEIF":
            pytest.importorskip("pillow_heif").register_heif_opener()
        if file_format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, file_format, **options)
        return stream.getvalue()

    return encoded


@pytest.fixture
def chunk() -> Callable[[bytes, bytes], bytes]:
    def of(kind: bytes, body: bytes) -> bytes:
        """A chunk of a PNG."""
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    return of
