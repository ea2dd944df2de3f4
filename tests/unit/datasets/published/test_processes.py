"""Full disks, killed processes, and two processes at once."""

import os
import signal
import subprocess
import threading
import time

import pytest
from miniature import ARCHIVE, FINISHED, Listener, assert_mini, cached_files, child, md5, mini

from convscope.datasets import DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.storage import cache_dir


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_file_that_cannot_grow_leaves_the_data_in_memory(tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(archive)
    process = child(
        """
        import os, resource
        from pathlib import Path
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        archive = (Path(os.environ["SOURCE"]) / here.ARCHIVE).read_bytes()
        request = here.DataRequest(data_dir=Path(os.environ["SOURCE"]))
        dataset = here.acquire(here.mini(archive), request)
        here.assert_mini(dataset)
        print(dataset.notes)
        """,
        SOURCE=str(tmp_path),
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "used from memory, not cached" in out
    assert "train_images.npy would be larger" in out
    assert cached_files() == []  # nor is anything left that fills the disk


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 128 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_data_in_memory(tiny_disk, monkeypatch, shelf, archive):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tiny_disk / "cache"))
    dataset = acquire(mini(archive, shelf.base), DataRequest())
    assert_mini(dataset)
    assert "no space left on disk while writing" in dataset.notes[-1]
    assert cached_files() == []
    left = sum(path.stat().st_size for path in tiny_disk.rglob("*") if path.is_file())
    assert left == 0  # neither half a download nor half a cache


def test_a_process_killed_while_writing_the_cache_does_no_harm(tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(archive)
    process = child(
        """
        import os, time
        from pathlib import Path
        from convscope.datasets.published import array_cache
        def half(path, array):
            with path.open("wb") as stream:
                stream.write(array.tobytes()[: array.nbytes // 2])
                stream.flush()
                print("half", flush=True)
                time.sleep(60)
        save = array_cache._save
        # The first array is written whole, the third not.
        array_cache._save = lambda path, a: (half if "test_images" in path.name else save)(path, a)
        archive = (Path(os.environ["SOURCE"]) / here.ARCHIVE).read_bytes()
        here.acquire(here.mini(archive), here.DataRequest(data_dir=Path(os.environ["SOURCE"])))
        """,
        SOURCE=str(tmp_path),
    )
    assert process.stdout.readline() == "half\n", process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    home = cache_dir() / "datasets" / "mini"
    assert len(list(home.glob(".*.part.npy"))) == 1
    assert cached_files() != FINISHED
    dataset = acquire(mini(archive), DataRequest(data_dir=tmp_path))
    assert_mini(dataset)
    assert dataset.notes == ()
    assert cached_files() == FINISHED  # the leftover is gone


def test_two_processes_at_once_fetch_once(archive, shelf, tmp_path):
    shelf.delay_s = 0.3  # so that the second comes while the first is at it
    code = """
        import os, time
        from pathlib import Path
        print("ready", flush=True)
        while not Path(os.environ["GO"]).exists():
            time.sleep(0.002)
        archive = here.tar_gz(here.mini_batches())
        md5 = os.environ["MD5"]
        form = here.FILES.packed(here.ARCHIVE, md5)
        source = here.HttpSource(os.environ["BASE"], {here.ARCHIVE: md5}, form.read)
        dataset = here.acquire(here.mini(forms=(form,), sources=(source,)), here.DataRequest())
        here.assert_mini(dataset)
    """
    variables = {"GO": str(tmp_path / "go"), "MD5": md5(archive), "BASE": shelf.base}
    processes = [child(code, **variables) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    (tmp_path / "go").touch()
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert len(shelf.requests) == 1
    assert cached_files() == FINISHED


def test_who_waits_for_another_process_is_told(archive, tmp_path):
    from convscope.locks import exclusive

    (tmp_path / ARCHIVE).write_bytes(archive)
    listener = Listener()
    results = []

    def get() -> None:
        request = DataRequest(data_dir=tmp_path, progress=listener)
        results.append(acquire(mini(archive), request))

    with exclusive(cache_dir() / "datasets" / "mini.lock", wait=True):
        thread = threading.Thread(target=get)
        thread.start()
        deadline = time.monotonic() + 10
        while not listener.lines and time.monotonic() < deadline:
            time.sleep(0.005)
        assert listener.lines == ["waiting for another process that is getting mini"]
        thread.join(0.3)  # time enough to get it, if it did not wait
        assert thread.is_alive()
        assert results == []
    thread.join(30)
    assert_mini(results[0])
