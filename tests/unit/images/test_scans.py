"""JPEG files that keep a decoder busy."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from convscope.errors import ImageError
from convscope.images.decode import decode_image
from convscope.images.formats import read_header
from convscope.images.scans import MAX_SCANS, require_few_scans


def jpeg(photo, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "JPEG", **options)
    return stream.getvalue()


def with_scans(content: bytes, n_scans: int) -> bytes:
    """Return a file with that many scans, most of them its last one."""
    starts = [found.start() for found in re.finditer(rb"\xff\xda", content)]
    last = content[starts[-1] : -2]
    return content[:-2] + (n_scans - len(starts)) * last + content[-2:]


def test_a_progressive_file_of_very_many_scans_is_refused(photo, tmp_path):
    content = with_scans(jpeg(photo, progressive=True), MAX_SCANS + 1)
    for source in (content, io.BytesIO(content)):
        with pytest.raises(
            ImageError, match=r"is a JPEG of more than 100 scans, .*; save it again"
        ):
            decode_image(source, channels=3)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg is a JPEG of more than 100 scans"):
        decode_image(tmp_path / "a.jpg", channels=3)
    # Its size is known without them.
    assert read_header(content).height == 48


def test_so_is_a_baseline_file_that_repeats_its_scans(photo):
    # A scan for each colour, as a progressive file begins, but with all of its coefficients.
    content = bytearray(with_scans(jpeg(photo, progressive=True), MAX_SCANS + 1))
    at = content.index(b"\xff\xc2")
    content[at + 1] = 0xC0
    with pytest.raises(ImageError, match="is a JPEG of more than 100 scans"):
        decode_image(bytes(content), channels=3)


def test_a_marker_that_a_decoder_discards_hides_no_scans(photo):
    content = jpeg(photo, progressive=True, restart_marker_blocks=1)
    at = content.index(b"\xff\xda")
    at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    for marker in (0x02, 0xBF):
        hidden = content[:at] + bytes([0xFF, marker, 0xFF, 0xFF, 0]) + content[at:]
        with pytest.raises(ImageError, match="is a JPEG of more than 100 scans"):
            require_few_scans(with_scans(hidden, MAX_SCANS + 1))


def test_ordinary_files_are_decoded(photo):
    plain = decode_image(jpeg(photo, quality=95), channels=3)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, 2**22, np.uint8).tobytes()
    thumbnails = b"".join(b"\xff\xe5\xff\xff" + b"\xff\xda" * 32766 + b"\0" for _ in range(2))
    progressive = jpeg(photo, quality=95, progressive=True)
    for content in (
        progressive,
        # The video of a phone's moving picture, which happens to hold markers.
        progressive + noise,
        progressive[:2] + thumbnails + progressive[2:],
        jpeg(photo, quality=95, progressive=True, restart_marker_blocks=1),
        with_scans(progressive, MAX_SCANS),
    ):
        pixels = decode_image(content, channels=3)
        assert np.abs(pixels.astype(int) - plain).max() < 30


def test_the_end_of_the_file_is_an_end():
    for content in (b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xda", b"\xff\xd8\xff\xe0\xff"):
        require_few_scans(content)
