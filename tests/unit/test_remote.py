"""Run folders at addresses: a local file system and memory, as fsspec reaches them."""

import datetime
import json
import os
import shutil
import subprocess
import sys

import pytest

from convscope import heartbeat, remote
from convscope.errors import LockTakenError, PathError, RunError, StorageError
from convscope.housekeeping.cache import cache_parts, empty_cache
from convscope.housekeeping.runs import remove_runs
from convscope.locks import exclusive
from convscope.paths import user_path
from convscope.planning.data import load_of_run
from convscope.progress import Progress
from convscope.recipe import RunConfig, dump_config
from convscope.run import Run
from convscope.storage import write_text
from convscope.studies import executor

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["file", "memory"])
def bucket(request, tmp_path):
    if request.param == "file":
        return f"file://{tmp_path / 'bucket'}"
    return f"memory://{tmp_path.name}"


@pytest.fixture
def on_host(tmp_path, monkeypatch):
    """Function that goes on as if on another host: with a cache of its own."""

    def go(name: str) -> None:
        monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "caches" / name))

    go("first")
    yield go
    for folder in list(remote._open_copies):
        if folder.is_relative_to(tmp_path):
            del remote._open_copies[folder]


def there(address: str) -> dict[str, str]:
    """Return the text of each file at an address."""
    fs, root = fsspec.core.url_to_fs(address)
    fs.invalidate_cache()
    return {
        path.removeprefix(root).lstrip("/"): fs.cat_file(path).decode() for path in fs.find(root)
    }


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def test_what_is_written_is_at_the_address_at_once(bucket, on_host):
    folder = remote.folder_path(f"{bucket}/runs/birds", "--out")
    assert folder.name == "birds"
    write_text(folder / "config.yaml", "a: 1\n")
    write_text(folder / "weights" / "best.json", "one")
    assert there(f"{bucket}/runs/birds") == {"config.yaml": "a: 1\n", "weights/best.json": "one"}
    write_text(folder / "weights" / "best.json", "two")
    assert there(f"{bucket}/runs/birds")["weights/best.json"] == "two"
    assert remote.address_of(folder / "weights") == f"{bucket}/runs/birds/weights"
    assert remote.address_of(folder) == f"{bucket}/runs/birds"
    assert remote.address_of(folder.parent) is None


def test_another_host_goes_on_where_the_first_stopped(bucket, on_host):
    address = f"{bucket}/birds/"
    folder = remote.folder_path(address, "--out")
    write_text(folder / "run.json", "begun")
    write_text(folder / "weights" / "last.keras", "epoch 1")
    write_text(folder / "search" / "old.txt", "?")

    on_host("second")
    other = remote.folder_path(address, "RUN")
    assert other != folder
    assert (other / "weights" / "last.keras").read_text() == "epoch 1"
    write_text(other / "weights" / "last.keras", "epoch 2")
    (other / "search" / "old.txt").unlink()
    (other / "events.log").write_text("by a library")
    remote.settle(other)
    assert there(address.rstrip("/")) == {
        "run.json": "begun",
        "weights/last.keras": "epoch 2",
        "events.log": "by a library",
    }

    on_host("first")
    remote.fetch(folder)
    assert (folder / "weights" / "last.keras").read_text() == "epoch 2"
    assert not (folder / "search" / "old.txt").exists()
    assert (folder / "events.log").read_text() == "by a library"


def test_half_a_copy_never_empties_its_address(bucket, on_host):
    folder = remote.folder_path(f"{bucket}/birds", "--out")
    write_text(folder / "run.json", "begun")
    write_text(folder / "weights" / "last.keras", "w" * 2_000_000)
    whole = there(f"{bucket}/birds")
    for up_to in (1_000_000, float("inf")):
        # As by somebody who was killed while emptying the cache.
        shutil.rmtree(folder)
        del remote._open_copies[folder]
        assert remote.folder_path(f"{bucket}/birds", "RUN", up_to) == folder
        assert (folder / "weights" / "last.keras").exists() == (up_to > 2_000_000)
        remote.settle_all()
        assert there(f"{bucket}/birds") == whole
    # What is removed after that is meant to be.
    (folder / "weights" / "last.keras").unlink()
    remote.settle_all()
    assert there(f"{bucket}/birds") == {"run.json": "begun"}


def test_what_both_hosts_removed_is_gone(bucket, on_host):
    folder = remote.folder_path(f"{bucket}/birds", "--out")
    write_text(folder / "run.json", "begun")
    write_text(folder / ".heartbeat", "now")
    on_host("second")
    other = remote.folder_path(f"{bucket}/birds", "RUN")
    (other / ".heartbeat").unlink()
    remote.settle(other)
    on_host("first")
    (folder / ".heartbeat").unlink()
    remote.settle(folder)
    assert there(f"{bucket}/birds") == {"run.json": "begun"}


def test_what_both_hosts_changed_is_taken_from_the_address(bucket, on_host):
    folder = remote.folder_path(f"{bucket}/birds", "--out")
    write_text(folder / "run.json", "begun")
    on_host("second")
    write_text(remote.folder_path(f"{bucket}/birds", "RUN") / "run.json", "finished")
    on_host("first")
    (folder / "run.json").write_text("it lost the network here")
    remote.settle(folder)
    assert (folder / "run.json").read_text() == "finished"


def test_an_address_that_is_empty_now_leaves_the_copy_intact(bucket, on_host):
    folder = remote.folder_path(f"{bucket}/birds", "--out")
    write_text(folder / "run.json", "begun")
    write_text(folder / "results.csv", "epoch\n")
    fs, root = fsspec.core.url_to_fs(f"{bucket}/birds")
    fs.rm(root, recursive=True)
    said = f"^nothing is at {bucket}/birds any more; the copy in {folder} is intact"
    for deed in (
        lambda: remote.folder_path(f"{bucket}/birds", "RUN"),
        lambda: remote.fetch(folder / "results.csv"),
        lambda: remote.settle(folder),
    ):
        with pytest.raises(StorageError, match=said):
            deed()
        assert {path.name for path in folder.iterdir()} >= {"results.csv", "run.json"}
    shutil.rmtree(folder.parent)
    assert remote.folder_path(f"{bucket}/birds", "--out") == folder


@pytest.mark.parametrize("removed", ["runs/birds", "runs"])
def test_what_was_removed_on_purpose_is_no_address_that_is_empty_now(removed, bucket, on_host):
    names = ("runs/birds", "runs")
    run = remote.folder_path(f"{bucket}/runs/birds", "--out")
    write_text(run / "run.json", "{}")
    copies = {name: remote.folder_path(f"{bucket}/{name}", "RUN") for name in names}
    assert [each.name for each in Run.find_all(f"{bucket}/runs")] == ["birds"]
    shutil.rmtree(run if removed == "runs/birds" else copies["runs"] / "birds")
    remote.settle(copies[removed])
    assert there(f"{bucket}/runs") == {}
    for name in names:
        assert remote.folder_path(f"{bucket}/{name}", "RUN") == copies[name]
    assert Run.find_all(f"{bucket}/runs") == []


def test_a_run_that_is_removed_is_removed_at_its_address(bucket, on_host):
    address = f"{bucket}/runs/birds"
    run = Run.create(remote.folder_path(address, "--out"), "birds")
    run.record(status="failed")
    write_text(run.weights("last"), "w")
    assert list(remove_runs([address])) == [run.path]
    assert there(address) == {}


def test_a_path_in_a_copy_is_fetched_and_sent_alone(bucket, on_host):
    folder = remote.folder_path(f"{bucket}/study", "--out")
    write_text(folder / "state.json", "1")
    write_text(folder / "runs" / "a" / "results.csv", "1")
    write_text(folder / "runs" / "ab" / "results.csv", "1")
    on_host("second")
    other = remote.folder_path(f"{bucket}/study", "RUN")
    for name in ("state.json", "runs/a/results.csv", "runs/ab/results.csv"):
        (other / name).write_text("20")
    remote.settle(other / "runs" / "a")
    new = {"runs/a/results.csv": "20"}
    old = {"runs/ab/results.csv": "1", "state.json": "1"}
    assert there(f"{bucket}/study") == new | old
    remote.settle(other)
    on_host("first")
    remote.fetch(folder / "runs" / "ab" / "results.csv")
    read = {name: (folder / name).read_text() for name in new | old}
    assert read == {"runs/a/results.csv": "1", "runs/ab/results.csv": "20", "state.json": "1"}


def test_what_could_not_be_sent_is_sent_later(tmp_path, on_host, monkeypatch):
    address = f"file://{tmp_path / 'bucket'}/birds"
    folder = remote.folder_path(address, "--out")
    write_text(folder / "run.json", "begun")
    (tmp_path / "bucket").rename(tmp_path / "away")
    (tmp_path / "bucket").write_text("a file in its place")
    with pytest.raises(StorageError, match=r"birds cannot be reached .* is intact$"):
        write_text(folder / "run.json", "epoch 1")
    assert (folder / "run.json").read_text() == "epoch 1"
    (tmp_path / "bucket").unlink()
    (tmp_path / "away").rename(tmp_path / "bucket")
    remote.settle(folder)
    assert there(address) == {"run.json": "epoch 1"}


def test_nothing_is_fetched_over_a_run_at_work_here(bucket, on_host):
    folder = remote.folder_path(f"{bucket}/birds", "--out")
    write_text(folder / "run.json", "mine")
    on_host("second")
    write_text(remote.folder_path(f"{bucket}/birds", "RUN") / "run.json", "yours")
    on_host("first")
    del remote._open_copies[folder]
    with exclusive(folder / ".lock", wait=False):
        assert remote.folder_path(f"{bucket}/birds", "RUN") == folder
        assert (folder / "run.json").read_text() == "mine"


def test_a_list_of_runs_leaves_large_files_where_they_are(bucket, on_host):
    run = Run.create(remote.folder_path(f"{bucket}/runs/birds", "--out"), "birds")
    run.record(status="finished")
    write_text(run.weights("best"), "w" * 2_000_000)
    on_host("second")
    (found,) = Run.find_all(f"{bucket}/runs")
    assert found.status == "finished"
    assert not found.weights("best").exists()
    remote.settle(found.path)
    assert len(there(f"{bucket}/runs/birds")["weights/best.keras"]) == 2_000_000
    assert Run.open(f"{bucket}/runs/birds").weights("best").stat().st_size == 2_000_000


def test_a_run_that_trains_elsewhere_is_seen_to_train_and_to_be_killed(
    bucket, on_host, monkeypatch
):
    run = Run.create(remote.folder_path(f"{bucket}/birds", "--out"), "birds")
    with run.training_lock():
        monkeypatch.setattr("platform.node", lambda: "first")
        run.record(status="training", trainer={"host": "first", "pid": os.getpid()})
        on_host("second")
        monkeypatch.setattr("platform.node", lambda: "second")
        assert Run.open(f"{bucket}/birds").status == "training"
        on_host("first")
    on_host("second")
    # The heartbeat ended with the lock, and nobody recorded another status.
    assert Run.open(f"{bucket}/birds").status == "killed"


def test_a_run_that_trains_on_another_host_is_not_trained_here_too(tmp_path, on_host, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.4)
    address = f"file://{tmp_path / 'bucket'}/birds"
    first = Run.create(remote.folder_path(address, "--out"), "birds")
    first.record(status="created")
    monkeypatch.setattr(heartbeat, "this_process", lambda: {"host": "first", "pid": 7})
    with heartbeat.beating(first.path / ".heartbeat"):
        on_host("second")
        second = Run.open(address)
        assert second.path != first.path
        with pytest.raises(LockTakenError, match="by process 7 on first"), second.training_lock():
            pass
    # That host was switched off after it had finished an epoch, and no beat follows.
    write_text(first.results_file, "epoch 1")
    write_text(first.path / ".heartbeat", json.dumps({"at": now(), "host": "first", "pid": 7}))
    with second.training_lock():
        assert second.results_file.read_text() == "epoch 1"


def test_a_study_waits_for_a_run_that_another_host_trains(tmp_path, on_host, monkeypatch):
    address = f"file://{tmp_path / 'bucket'}/birds"
    first = Run.create(remote.folder_path(address, "--out"), "birds")
    write_text(first.config_file, dump_config(RunConfig()))
    first.record(status="training")
    write_text(first.path / ".heartbeat", json.dumps({"at": now(), "host": "first", "pid": 7}))
    on_host("second")
    second = Run.open(address)

    def finish(seconds: float) -> None:
        first.record(status="finished")
        (first.path / ".heartbeat").unlink()
        remote.settle(first.path)

    monkeypatch.setattr(executor.time, "sleep", finish)
    outcome = executor.execute(executor.Job(RunConfig(), second.path), Progress())
    assert outcome.failure is None
    assert second.status == "finished"


def test_a_child_process_that_gets_the_copys_path_sends_too(tmp_path, on_host):
    address = f"file://{tmp_path / 'bucket'}/study"
    inside = remote.folder_path(address, "--out") / "runs" / "1"
    program = (
        "import sys; from convscope import remote; from convscope.storage import write_text\n"
        "write_text(remote.folder_path(sys.argv[1], 'the folder') / 'run.json', 'done')"
    )
    subprocess.run([sys.executable, "-c", program, str(inside)], check=True)
    assert there(address) == {"runs/1/run.json": "done"}
    # This process knows of it, so it is not sent or fetched again.
    remote.settle(inside)
    assert there(address) == {"runs/1/run.json": "done"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("file://", "names no folder"),
        ("memory://a/..", "names no folder"),
        ("nokind://bucket/a", "of the kind 'nokind' are not opened, only abfs, "),
    ],
)
def test_an_address_that_means_nothing_is_refused(given, said, on_host):
    with pytest.raises(PathError, match=said):
        remote.folder_path(given, "--out")


@pytest.mark.parametrize(
    "given",
    [
        "reference://x?::data:application/json;base64,{}",
        "reference://::http://127.0.0.1/refs.json",
        "reference://x",
        "data://application/json;base64,{}",
        "zip://x::file:///tmp/a.zip",
        "file://x::reference://y",
        "memory:// ::reference::data:application/json;base64,{}",
        "sftp://ann:secret@host/runs",
    ],
)
def test_an_address_that_may_run_code_never_reaches_fsspec(given, on_host, monkeypatch):
    def open_it(*_args, **_settings):
        raise AssertionError("fsspec was asked")

    monkeypatch.setattr(fsspec.core, "url_to_fs", open_it)
    config = RunConfig(data="shards", data_path=given)
    for use in (
        lambda: remote.folder_path(given, "--out"),
        lambda: load_of_run(config, None, None, None, None, Progress()),
    ):
        with pytest.raises(PathError) as refused:
            use()
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_package_that_is_missing_is_named(on_host):
    if any(_has(name) for name in ("s3fs",)):
        pytest.skip("s3fs is installed")
    with pytest.raises(StorageError, match=r"s3://bucket/a needs a further package: .*s3fs"):
        remote.folder_path("s3://bucket/a", "--out")


def _has(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def test_nothing_at_an_address_is_one_line(bucket, on_host):
    with pytest.raises(RunError, match=f"^there is nothing at {bucket}/none$"):
        Run.open(f"{bucket}/none")


def test_a_damaged_record_says_what_to_remove(bucket, on_host):
    folder = remote.folder_path(f"{bucket}/birds", "--out")
    (folder.parent / "files.json").write_text("{")
    del remote._open_copies[folder]
    with pytest.raises(StorageError, match=rf"is damaged; remove {folder.parent}, a copy"):
        remote.folder_path(f"{bucket}/birds", "RUN")


def test_emptying_the_cache_keeps_what_was_not_sent_and_what_is_in_use(bucket, on_host):
    names = ("sent", "unsent", "busy")
    folders = {name: remote.folder_path(f"{bucket}/{name}", "--out") for name in names}
    for folder in folders.values():
        write_text(folder / "run.json", "{}")
    (folders["unsent"] / "events.log").write_text("by a library")
    (part,) = (part for part in cache_parts() if part.kind == "remote")
    assert part.n_bytes > 0
    with exclusive(folders["busy"] / ".lock", wait=False):
        emptied = empty_cache(["remote"])
    assert [name for name, folder in folders.items() if folder.exists()] == ["unsent", "busy"]
    assert emptied.stay.keys() == {folders["busy"].parent}
    assert there(f"{bucket}/sent") == {"run.json": "{}"}


@pytest.mark.parametrize("hinders", ["nothing is there", "no network", "no package"])
def test_emptying_the_cache_keeps_a_copy_that_could_not_be_fetched_again(
    hinders, tmp_path, on_host, monkeypatch
):
    def fail(fs):
        raise OSError("no route to host")

    folder = remote.folder_path(f"file://{tmp_path / 'bucket'}/birds", "--out")
    write_text(folder / "run.json", "{}")
    match hinders:
        case "nothing is there":
            shutil.rmtree(tmp_path / "bucket")
            said = "birds any more; the copy in"
        case "no network":
            monkeypatch.setattr(fsspec.get_filesystem_class("file"), "invalidate_cache", fail)
            said = "birds cannot be reached (no route to host)"
        case "no package":
            monkeypatch.setitem(sys.modules, "fsspec", None)
            said = "pip install 'convscope[remote]'"
    (reason,) = empty_cache(["remote"]).stay.values()
    assert said in reason
    assert (folder / "run.json").read_text() == "{}"


def test_files_that_are_no_run_folder_need_a_path():
    with pytest.raises(
        PathError, match=r"--labels is 's3://b/l\.csv', but only the folder of a run"
    ):
        user_path("s3://b/l.csv", "--labels")
