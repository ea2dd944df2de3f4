"""The cache: verified when read, repaired when damaged, done without when it cannot be written."""

import os
from pathlib import Path

import numpy as np
import pytest
from miniature import ARCHIVE, assert_mini, mini

from convscope.datasets import DataRequest
from convscope.datasets.published import array_cache
from convscope.datasets.published.acquire import acquire
from convscope.errors import DownloadError, IntegrityError, StorageError


def test_the_second_time_comes_from_the_cache(filled, tmp_path):
    dataset = acquire(mini(), DataRequest())
    assert_mini(dataset)
    assert dataset.provenance["source"] == str(tmp_path / "source" / ARCHIVE)
    digest = mini().sha256["train_images"]
    assert f"train_images:{digest}" in dataset.provenance["checksum"]


def test_writing_into_loaded_images_does_not_change_the_cache(filled):
    dataset = acquire(mini(), DataRequest())
    dataset.train.images[:] = 0
    assert_mini(acquire(mini(), DataRequest()))


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "pickle", "manifest", "deep"])
def test_a_damaged_cache_is_told_and_made_again(filled, tmp_path, archive, damage):
    victim = filled / "train_images.npy"
    data = bytearray(victim.read_bytes())
    data[5000] ^= 1
    if damage == "flip":
        victim.write_bytes(data)
    elif damage == "truncate":
        victim.write_bytes(data[:5000])
    elif damage == "remove":
        victim.unlink()
    elif damage == "pickle":
        np.save(victim, np.array([{}], dtype=object), allow_pickle=True)
    else:
        half = '{"format": 1, "dataset": "mini"'
        (filled / "source.json").write_text("[" * 200_000 if damage == "deep" else half)
    dataset = acquire(mini(archive), DataRequest(data_dir=tmp_path / "source"))
    assert_mini(dataset)
    (note,) = dataset.notes
    assert str(filled) in note
    assert_mini(acquire(mini(), DataRequest()))  # it is whole again


def test_recorded_digests_guard_a_dataset_without_published_ones(filled, archive):
    collection = mini(sha256={})
    assert_mini(acquire(collection, DataRequest()))
    victim = filled / "test_images.npy"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(IntegrityError, match="the test images are not those of mini"):
        acquire(collection, DataRequest())


def test_the_cache_of_another_dataset_is_not_taken_for_this_one(filled):
    with pytest.raises(DownloadError):
        acquire(mini(name="other"), DataRequest(data_dir=filled))


def test_a_cache_below_a_file_leaves_the_data_in_memory(tmp_path, monkeypatch, shelf, archive):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    dataset = acquire(mini(archive, shelf.base), DataRequest())
    assert_mini(dataset)
    (note,) = dataset.notes
    assert note.startswith("used from memory, not cached:")


def test_a_cache_without_permission_leaves_the_data_in_memory(monkeypatch, tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(archive)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("this user may write everywhere")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(closed))
    dataset = acquire(mini(archive), DataRequest(data_dir=tmp_path))
    assert_mini(dataset)
    assert "not cached: cannot write" in dataset.notes[0]


def test_a_cache_that_refuses_leaves_the_data_in_memory(monkeypatch, tmp_path, archive):
    def refuse(path: Path):
        raise StorageError(f"cannot write {path} (Read-only file system)")

    monkeypatch.setattr(array_cache, "atomic_path", refuse)
    (tmp_path / ARCHIVE).write_bytes(archive)
    dataset = acquire(mini(archive), DataRequest(data_dir=tmp_path))
    assert_mini(dataset)
    assert "Read-only file system" in dataset.notes[0]
