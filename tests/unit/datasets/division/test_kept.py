import importlib.metadata

import numpy as np
import pytest

from convscope.datasets.division import kept
from convscope.datasets.division.draw import Pool
from convscope.datasets.division.kept import FOLDER, drawn_once
from convscope.storage import cache_dir

LABELS = np.arange(12) % 3
POOL = Pool(LABELS, None, 3)
PLACES = {"train": np.array([11, 0, 2, 3, 4, 5, 6, 7]), "val": np.array([1, 10, 9, 8])}


class Draw:
    """Counts how often it draws."""

    def __init__(self):
        self.n = 0

    def __call__(self):
        self.n += 1
        return PLACES


def kept_file():
    (file,) = (cache_dir() / FOLDER).iterdir()
    return file


def test_a_division_is_drawn_once_and_keeps_its_order():
    draw = Draw()
    for _ in range(3):
        found = drawn_once(POOL, {"seed": 1}, draw)
        assert found.keys() == PLACES.keys()
        for name, places in PLACES.items():
            np.testing.assert_array_equal(found[name], places)
            assert found[name].dtype == np.intp
    assert draw.n == 1


@pytest.mark.parametrize(
    ("pool", "settings"),
    [
        (POOL, {"seed": 2}),
        (Pool(LABELS[::-1], None, 3), {"seed": 1}),
        (Pool(LABELS, None, 4), {"seed": 1}),
        (Pool(LABELS, None, 3, grouped=True), {"seed": 1}),
        (Pool(LABELS, list("abcdefghijkk"), 3), {"seed": 1}),
        (Pool(np.eye(3, dtype=bool)[LABELS], None, 3), {"seed": 1}),
    ],
)
def test_other_images_or_settings_are_drawn_anew(pool, settings):
    draw = Draw()
    for each in ((POOL, {"seed": 1}), (pool, settings)):
        drawn_once(*each, draw)
    assert draw.n == 2


def test_what_other_code_drew_is_drawn_anew(monkeypatch):
    draw = Draw()
    drawn_once(POOL, {}, draw)
    monkeypatch.setattr(kept, "DRAWING_VERSION", kept.DRAWING_VERSION + 1)
    drawn_once(POOL, {}, draw)
    assert draw.n == 2


def damaged():
    return {
        "no archive": lambda file: file.write_text("damaged"),
        "cut short": lambda file: file.write_bytes(file.read_bytes()[:100]),
        "an image twice": lambda file: np.savez(file, train=np.arange(12), val=np.arange(2)),
        "an image missing": lambda file: np.savez(file, train=np.arange(11)),
        "no such image": lambda file: np.savez(file, train=np.arange(13)),
        "no such image, by far": lambda file: np.savez(file, train=np.arange(12) << 50),
        "negative": lambda file: np.savez(file, train=np.arange(12) - 1),
        "no part": lambda file: np.savez(file),
        "objects": lambda file: np.savez(file, train=np.array([None] * 12), allow_pickle=True),
    }


@pytest.mark.parametrize("damage", damaged())
def test_a_damaged_file_is_drawn_and_written_anew(damage):
    draw = Draw()
    drawn_once(POOL, {}, draw)
    damaged()[damage](kept_file())
    for _ in range(2):
        found = drawn_once(POOL, {}, draw)
        np.testing.assert_array_equal(found["train"], PLACES["train"])
    assert draw.n == 2


def test_without_a_cache_that_can_be_written_it_is_drawn_each_time(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("convscope.datasets.division.kept.cache_dir", lambda: tmp_path / "file")
    draw = Draw()
    for _ in range(2):
        assert drawn_once(POOL, {}, draw) is PLACES
    assert draw.n == 2


def test_without_scikit_learn_it_is_kept_too(monkeypatch):
    version = importlib.metadata.version

    def missing(package):
        if package == "scikit-learn":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    draw = Draw()
    for _ in range(2):
        drawn_once(POOL, {}, draw)
    assert draw.n == 1
