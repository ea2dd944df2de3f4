"""Arrays as text in a page: exact, compressed, and read with what browsers have built in."""

import base64
import zlib

import numpy as np

from convscope.types import FloatArray, UInt8Array


def pack_floats(values: FloatArray) -> str:
    """Return float32 values as text, without loss.

    The first bytes of all values come first, then the second ones, and so on: signs and exponents
    of weights resemble each other, and compress to less than a half. The page unpacks them in
    `page/unpack.mjs`.

    Args:
        values: Any shape; in C order.

    Returns:
        Base64 of zlib's format.
    """
    # Little-endian on every machine.
    flat = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
    planes = flat.view(np.uint8).reshape(-1, 4).T
    return _pack(planes.tobytes())


def pack_bytes(values: UInt8Array) -> str:
    """Return bytes as text.

    Args:
        values: Any shape, uint8; in C order.
    """
    return _pack(np.ascontiguousarray(values).tobytes())


def _pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")
