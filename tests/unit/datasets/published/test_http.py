"""Downloads that break off, are refused, or bring the wrong file."""

import sys

import pytest
from miniature import ARCHIVE, FINISHED, Listener, assert_mini, cached_files, mini, tar_gz

from convscope.datasets import DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.errors import DownloadError, IntegrityError
from convscope.storage import cache_dir


def test_a_download_is_checked_cached_and_cleared_away(archive, shelf):
    listener = Listener()
    dataset = acquire(mini(archive, shelf.base), DataRequest(progress=listener))
    assert_mini(dataset)
    assert dataset.provenance["source"] == shelf.base + ARCHIVE
    assert listener.counted[f"Downloading {ARCHIVE}"] == len(archive)
    assert not (cache_dir() / "datasets" / "mini" / "downloads").exists()
    assert cached_files() == FINISHED


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(archive, shelf, no_waiting):
    shelf.faults = ["drop", "drop"]
    assert_mini(acquire(mini(archive, shelf.base), DataRequest()))
    half = len(archive) // 2
    three_quarters = half + (len(archive) - half) // 2
    assert [wanted for _, wanted in shelf.requests] == [
        None,
        f"bytes={half}-",
        f"bytes={three_quarters}-",
    ]


def test_a_server_that_cannot_resume_starts_the_transfer_anew(archive, shelf, no_waiting):
    shelf.ranges = False
    shelf.faults = ["drop"]
    assert_mini(acquire(mini(archive, shelf.base), DataRequest()))
    assert len(shelf.requests) == 2


def test_a_later_call_resumes_what_an_earlier_one_left(archive, shelf, no_waiting):
    shelf.faults = ["drop"] * 4
    with pytest.raises(DownloadError, match="broke off"):
        acquire(mini(archive, shelf.base), DataRequest())
    assert len(shelf.requests) == 4
    assert_mini(acquire(mini(archive, shelf.base), DataRequest()))
    start = int(shelf.requests[-1][1].removeprefix("bytes=").rstrip("-"))
    assert start > 0.9 * len(archive)


@pytest.mark.parametrize("size", [1000, 10_000_000])
def test_a_partial_file_of_something_else_does_not_spoil_the_result(
    archive, shelf, no_waiting, size
):
    downloads = cache_dir() / "datasets" / "mini" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / f"{ARCHIVE}.partial").write_bytes(b"?" * size)
    assert_mini(acquire(mini(archive, shelf.base), DataRequest()))


def test_a_server_error_that_passes_is_waited_out(archive, shelf, no_waiting):
    shelf.faults = ["500", "500"]
    assert_mini(acquire(mini(archive, shelf.base), DataRequest()))
    assert len(shelf.requests) == 3


def test_a_server_that_declares_an_archive_as_encoded_does_not_get_it_unpacked(archive, shelf):
    shelf.faults = ["gzip"]
    assert_mini(acquire(mini(archive, shelf.base), DataRequest()))
    assert len(shelf.requests) == 1


def test_a_file_that_is_not_there_is_not_asked_for_again(archive, shelf):
    shelf.files.clear()
    with pytest.raises(DownloadError, match=r"the server answers 404"):
        acquire(mini(archive, shelf.base), DataRequest())
    assert len(shelf.requests) == 1


@pytest.mark.parametrize("served", ["truncated", "other"])
def test_a_server_with_the_wrong_file_is_an_integrity_error(archive, shelf, no_waiting, served):
    wrong = archive[: len(archive) // 2] if served == "truncated" else tar_gz({"x": b"y"})
    shelf.files[ARCHIVE] = wrong
    with pytest.raises(IntegrityError, match="is not the published file"):
        acquire(mini(archive, shelf.base), DataRequest())
    assert cached_files() == []


def test_a_missing_downloader_is_told_with_the_command_that_mends_it(archive, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DownloadError, match=r"pip install 'convscope\[train\]'"):
        acquire(mini(archive), DataRequest())
