"""Datasets found in folders: whole, damaged, or not those that were asked for."""

import pytest
from miniature import (
    ARCHIVE,
    FINISHED,
    NOWHERE,
    Listener,
    assert_mini,
    cached_files,
    mini,
    mini_batches,
    tar_gz,
)

from convscope.datasets import DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.errors import DataError, IntegrityError
from convscope.storage import cache_dir


@pytest.mark.parametrize("subfolder", [".", "mini", "mini-bin", "mini/mini-bin"])
def test_extracted_files_are_found_in_the_data_folder(tmp_path, subfolder):
    folder = tmp_path / subfolder
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in mini_batches().items():
        (folder / name).write_bytes(data)
    dataset = acquire(mini(), DataRequest(data_dir=tmp_path))
    assert_mini(dataset)
    assert dataset.provenance["source"] == str(folder)
    assert dataset.notes == ()
    assert cached_files() == FINISHED


def test_the_archive_is_found_by_the_environment_variable(tmp_path, monkeypatch, archive):
    (tmp_path / ARCHIVE).write_bytes(archive)
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    dataset = acquire(mini(archive), DataRequest())
    assert_mini(dataset)
    assert dataset.provenance["source"] == str(tmp_path / ARCHIVE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ARCHIVE]


def test_the_archive_may_be_named_itself(tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(archive)
    assert_mini(acquire(mini(archive), DataRequest(data_dir=tmp_path / ARCHIVE)))


def test_the_archive_may_lie_in_the_cache_folder(archive):
    cache_dir().mkdir(parents=True, exist_ok=True)
    (cache_dir() / ARCHIVE).write_bytes(archive)
    assert_mini(acquire(mini(archive), DataRequest()))


def test_a_system_folder_is_searched(tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(archive)
    assert_mini(acquire(mini(archive, system_folders=(tmp_path,)), DataRequest()))


def test_a_cache_that_was_carried_elsewhere_is_found(tmp_path, monkeypatch, archive):
    (tmp_path / ARCHIVE).write_bytes(archive)
    acquire(mini(archive), DataRequest(data_dir=tmp_path))
    carried = cache_dir()
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "empty"))
    for folder in (carried, carried / "datasets", carried / "datasets" / "mini"):
        assert_mini(acquire(mini(), DataRequest(data_dir=folder)))
    assert cached_files() == []  # it is used where it lies


def test_a_data_folder_that_does_not_exist_is_the_users_mistake(tmp_path):
    with pytest.raises(DataError, match="no-such-folder does not exist"):
        acquire(mini(), DataRequest(data_dir=tmp_path / "no-such-folder"))


def test_a_truncated_archive_is_told_and_the_next_source_is_used(tmp_path, archive, shelf):
    (tmp_path / ARCHIVE).write_bytes(archive[: len(archive) // 2])
    listener = Listener()
    collection = mini(archive, shelf.base)
    dataset = acquire(collection, DataRequest(data_dir=tmp_path, progress=listener))
    assert_mini(dataset)
    assert dataset.provenance["source"] == shelf.base + ARCHIVE
    (note,) = dataset.notes
    assert f"{tmp_path / ARCHIVE} is not the published file" in note
    assert listener.lines == ["no usable copy of mini on this machine"]


def test_without_another_source_the_error_lists_what_was_tried(tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(archive[:1000])
    with pytest.raises(IntegrityError) as caught:
        acquire(mini(archive), DataRequest(data_dir=tmp_path))
    message = str(caught.value)
    assert f"{tmp_path / ARCHIVE} is not the published file" in message
    assert "1,000 bytes" in message
    assert f"{NOWHERE}{ARCHIVE}: connection refused" in message
    assert f"Put {ARCHIVE} into a folder" in message
    assert "--data-dir" in message
    assert "\n" not in message
    assert cached_files() == []


@pytest.mark.parametrize("change", ["pixel", "label", "order"])
def test_well_formed_but_wrong_data_is_refused_and_not_cached(tmp_path, change):
    batches = {name: bytearray(data) for name, data in mini_batches().items()}
    if change == "pixel":
        batches["test.bin"][1234] ^= 1
    elif change == "label":
        batches["one.bin"][0] = (batches["one.bin"][0] + 1) % 10
    else:
        batches["one.bin"], batches["two.bin"] = batches["two.bin"], batches["one.bin"]
    for name, data in batches.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"are not those of mini: sha256 \w{12}\.\.\., expect"):
        acquire(mini(), DataRequest(data_dir=tmp_path))
    assert cached_files() == []


def test_a_missing_batch_is_named(tmp_path):
    batches = mini_batches()
    del batches["two.bin"]
    for name, data in batches.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"lacks two\.bin"):
        acquire(mini(), DataRequest(data_dir=tmp_path))


def test_a_cut_batch_is_named(tmp_path):
    for name, data in mini_batches().items():
        (tmp_path / name).write_bytes(data[:-5] if name == "two.bin" else data)
    with pytest.raises(IntegrityError, match=r"cannot be read \(cannot reshape"):
        acquire(mini(), DataRequest(data_dir=tmp_path))


def test_a_tar_writes_nothing_outside_itself(tmp_path):
    evil = tar_gz({"one.bin": b"x"}, folder="../../mini-bin")
    data = tmp_path / "a" / "b"
    data.mkdir(parents=True)
    (data / ARCHIVE).write_bytes(evil)
    with pytest.raises(IntegrityError):
        acquire(mini(evil), DataRequest(data_dir=data))
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert found == [data / ARCHIVE]


def test_labels_beyond_the_classes_are_refused(tmp_path):
    for name, data in mini_batches().items():
        (tmp_path / name).write_bytes(data)
    collection = mini(sha256={}, class_names=("only", "two"))
    with pytest.raises(IntegrityError, match="go up to 9, but mini has 2 classes"):
        acquire(collection, DataRequest(data_dir=tmp_path))
