"""The miniature dataset's fixtures; its functions are imported from `miniature`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from miniature import ARCHIVE, Shelf, mini, mini_batches, tar_gz

from convscope.datasets import DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.storage import cache_dir


@pytest.fixture(scope="module")
def archive() -> bytes:
    return tar_gz(mini_batches())


@pytest.fixture
def shelf(archive):
    shelf = Shelf({ARCHIVE: archive})
    yield shelf
    shelf.close()


@pytest.fixture
def no_waiting(monkeypatch):
    """pooch waits seconds between attempts; these tests have other things to do."""
    import pooch.core

    class Clock:
        sleep = staticmethod(lambda seconds: None)

    monkeypatch.setattr(pooch.core, "time", Clock)


@pytest.fixture
def filled(tmp_path, archive) -> Path:
    """The cache folder of the miniature dataset, filled."""
    source = tmp_path / "source"
    source.mkdir()
    (source / ARCHIVE).write_bytes(archive)
    acquire(mini(archive), DataRequest(data_dir=source))
    return cache_dir() / "datasets" / "mini"
