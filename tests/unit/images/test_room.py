"""Large images that several threads decode at once."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from convscope.errors import ImageError
from convscope.images import decode, formats, room
from convscope.images.decode import decode_image
from convscope.images.room import Room


def png(width, height, **options):
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG", **options)
    return stream.getvalue()


@pytest.fixture
def at_work(monkeypatch):
    """Room for two images of 20 x 20 pixels; returns how many were open, at each one."""
    monkeypatch.setattr(room, "_SMALL_PIXELS", 100)
    monkeypatch.setattr(formats, "_ROOM", Room(900))
    found, now, lock = [], [0], threading.Lock()
    pixels_of = decode.pixels_of

    def counted(image, **settings):
        with lock:
            now[0] += 1
            found.append(now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return pixels_of(image, **settings)

    monkeypatch.setattr(decode, "pixels_of", counted)
    return found


def decode_many(*images):
    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(lambda image: decode_image(image, channels=3), images))


@pytest.mark.parametrize(
    ("size", "most"), [((20, 20), {1, 2}), ((40, 40), {1}), ((10, 10), set(range(3, 9)))]
)
def test_only_so_many_large_images_are_decoded_at_once(at_work, size, most):
    decode_many(*[png(*size)] * 8)
    assert len(at_work) == 8
    assert max(at_work) in most


def test_a_larger_image_is_not_overtaken_for_ever(at_work):
    ends = []

    def one(size):
        decode_image(png(*size), channels=3)
        ends.append(size)

    with ThreadPoolExecutor(21) as pool:
        for number in range(21):
            pool.submit(one, (40, 40) if number == 4 else (20, 20))
            time.sleep(0.002)
    assert ends.index((40, 40)) < 20


def test_room_is_free_again_after_damaged_files_and_one_read_without_its_metadata(at_work):
    whole = png(20, 20)
    for _ in range(3):
        with pytest.raises(ImageError):
            decode_image(whole[:-40], channels=3)
    long_text = whole[:33] + b"\x00\x00\x00\x05tEXtabcde\x00\x00\x00\x00" + whole[33:]
    assert len(decode_many(*[long_text] * 3)) == 3
    assert decode_image(png(40, 40), channels=3).shape == (40, 40, 3)
