"""A folder of deep images: what white is, is decided once for all of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets import DataRequest
from convscope.datasets.checks.check import check_folder
from convscope.datasets.folder import load_folder
from convscope.datasets.folders import scan
from convscope.datasets.folders.pack import pack_images
from convscope.progress import Progress
from convscope.types import Dataset


def fill(root: Path, peaks: dict[str, float], *, count: int = 4, dtype: type = np.float32) -> Path:
    """Write noise of values up to a peak into a folder for each class."""
    noise = np.random.default_rng(0)
    for name, peak in peaks.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            values = (noise.random((16, 16)) * peak).astype(dtype)
            values[0, 0] = peak
            Image.fromarray(values).save(root / name / f"{index}.tif")
    return root


def load(root: Path) -> Dataset:
    return load_folder(DataRequest(path=root))


def mean_of(dataset: Dataset, name: str) -> float:
    label = dataset.class_names.index(name)
    return float(dataset.train.images[dataset.train.labels == label].mean())


def test_one_value_above_white_does_not_make_an_image_black(tmp_path):
    dataset = load(fill(tmp_path / "tif", {"a": 1.0, "b": 1.0001}))
    assert dataset.white == 1
    assert mean_of(dataset, "a") == pytest.approx(127, abs=6)
    assert mean_of(dataset, "b") == pytest.approx(127, abs=6)
    assert "white is assumed to be 1 in 8 floating-point or 32-bit images" in "\n".join(
        dataset.notes
    )


def test_the_scale_is_that_of_the_brightest_image(tmp_path):
    dataset = load(fill(tmp_path / "tif", {"bright": 255, "dark": 25}))
    assert dataset.white == 255
    assert mean_of(dataset, "bright") == pytest.approx(127, abs=6)
    assert mean_of(dataset, "dark") == pytest.approx(12, abs=2)
    whole = load(fill(tmp_path / "int", {"bright": 255, "dark": 25}, dtype=np.int32))
    assert whole.white == 255


def test_images_that_are_refused_do_not_decide(tmp_path):
    root = fill(tmp_path / "tif", {"a": 1.0, "b": 0.5}, count=12)
    Image.fromarray(np.array([[-50.0, 200.0]], np.float32)).save(root / "a" / "0.tif")
    dataset = load(root)
    assert dataset.white == 1
    assert len(dataset.train) == 23
    assert "holds values that are negative" in "\n".join(dataset.notes)


def test_other_folders_have_no_white_and_are_not_decoded_to_scan_them(tmp_path, monkeypatch):
    read = []
    peak = scan.read_peak
    monkeypatch.setattr(scan, "read_peak", lambda *args, **named: read.append(1) or peak(*args))
    dataset = load(fill(tmp_path / "png", {"a": 255, "b": 100}, dtype=np.uint16))
    assert dataset.white is None
    assert read == []
    load(fill(tmp_path / "tif", {"a": 1.0, "b": 1.0}))
    assert len(read) == 8


def test_another_white_is_another_pack_and_another_fingerprint(tmp_path):
    root = fill(tmp_path / "tif", {"a": 1.0, "b": 0.5})
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.tif"))
    files = scan.scan_files(root, names, progress=Progress())
    brightest = [
        pack_images(
            root, files, size=(16, 16), channels=1, white=white, progress=Progress()
        ).images.max()
        for white in (1, 255, 1)
    ]
    assert brightest == [255, 1, 255]
    before = load(root).provenance["fingerprint"]
    Image.fromarray(np.full((16, 16), 99.0, np.float32)).save(root / "b" / "more.tif")
    (root / "b" / "more.tif").rename(tmp_path / "more.tif")
    assert load(root).provenance["fingerprint"] == before


def test_check_says_what_white_was_taken_to_be(tmp_path):
    root = fill(tmp_path / "tif", {"a": 1.0, "b": 0.5})
    report = check_folder(root, progress=Progress())
    (found,) = [finding for finding in report.findings if finding.kind == "white"]
    assert found.severity == "note"
    assert "white is assumed to be 1, since" in found.message
    assert len(found.files) == 8
    assert not any(finding.kind == "white-differs" for finding in report.findings)
    assert report.counts == {"train": {"a": 4, "b": 4}}


def test_check_warns_of_images_on_two_scales(tmp_path):
    root = fill(tmp_path / "tif", {"a": 1.0, "b": 255.0})
    report = check_folder(root, progress=Progress())
    (found,) = [finding for finding in report.findings if finding.kind == "white-differs"]
    assert found.severity == "warning"
    assert found.files == tuple(f"a/{index}.tif" for index in range(4))
    assert "4 of 8" in found.message
