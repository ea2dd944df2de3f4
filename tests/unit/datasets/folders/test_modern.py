"""Folders of AVIF and HEIC photographs, with and without what reads them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from convscope.datasets import DataRequest
from convscope.datasets.checks.check import check_folder
from convscope.datasets.folder import load_folder
from convscope.datasets.folders import scan
from convscope.errors import DataError
from convscope.images.decode import decode_image
from convscope.progress import Progress

COMMAND = "pip install 'convscope[heic]'"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photographs of a phone in each of two classes, one of them under a wrong suffix."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            coarse = noise.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            suffix = "jpg" if index == 0 else "HEIC"
            Image.fromarray(coarse).resize((64, 48)).save(
                tmp_path / "photos" / name / f"IMG_{index}.{suffix}", "HEIF"
            )
    return tmp_path / "photos"


def test_heic_photographs_are_loaded_like_any_others(photos):
    report = check_folder(photos, progress=Progress())
    assert not report.has_errors
    assert report.counts == {"train": {"cat": 12, "dog": 12}}
    dataset = load_folder(DataRequest(path=photos))
    assert dataset.image_shape == (48, 64, 3)
    first = decode_image(photos / dataset.train.ids[5], channels=3)
    np.testing.assert_array_equal(dataset.train.images[5], first)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_pictures_are_loaded_like_any_others(tmp_path):
    for index, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for shade in range(3):
            picture = Image.new("RGB", (40, 30), (200 * index, 60 * shade, 90))
            picture.save(tmp_path / name / f"{shade}.avif", quality=95)
    dataset = load_folder(DataRequest(path=tmp_path))
    assert dataset.image_shape == (30, 40, 3)
    np.testing.assert_allclose(dataset.train.images[4, 15, 20], (200, 60, 90), atol=6)


def test_without_their_reader_the_command_is_named(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # so that it cannot be imported
    report = check_folder(photos, progress=Progress())
    (found,) = [finding for finding in report.findings if finding.kind == "unsupported-format"]
    assert found.severity == "error"
    assert found.message.endswith(": 24")
    assert found.details[0].endswith(
        f"cat/IMG_0.jpg is a HEIC image, the format of phones; to read it: {COMMAND}"
    )
    assert "unreadable" not in {finding.kind for finding in report.findings}
    with pytest.raises(DataError) as caught:
        load_folder(DataRequest(path=photos))
    assert COMMAND in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_at_all_is_to_be_converted(photos):
    (photos / "cat" / "film.jxl").write_bytes(b"\xff\x0a\xfa\x7f")
    report = check_folder(photos, progress=Progress())
    (found,) = [finding for finding in report.findings if finding.kind == "unsupported-format"]
    assert (found.severity, found.files) == ("warning", ("cat/film.jxl",))
    assert "Convert them to PNG or JPEG" in found.remedy


def test_once_the_reader_is_installed_the_pictures_are_there(photos, monkeypatch):
    monkeypatch.setattr(scan, "SETTLED_NS", -(10**12))  # so that each look is remembered
    for name in ("cat", "dog"):
        for place in sorted((photos / name).glob("IMG_[1-9]*")):
            place.unlink()
        for shade in range(12):
            Image.new("RGB", (64, 48), (shade * 20, 90, 40)).save(photos / name / f"{shade}.png")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        for _ in range(2):
            assert len(load_folder(DataRequest(path=photos)).train) == 24
    assert len(load_folder(DataRequest(path=photos)).train) == 26
