import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from pathlib import Path

import keras
import numpy as np
import pytest

from convscope.errors import ConfigError, StorageError
from convscope.locks import exclusive
from convscope.progress import ConsoleProgress, Progress
from convscope.storage import cache_dir
from convscope.training import features as module
from convscope.training import features_store, inference
from convscope.training.features import Features, compute_features

N_IMAGES, SIDE = 50, 12
IMAGES = np.random.default_rng(0).integers(0, 256, (N_IMAGES, SIDE, SIDE, 3), dtype=np.uint8)


def network(seed: int = 83) -> keras.Model:
    """A network with what matters: convolutions and statistics."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(8, 3)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module")
def net() -> keras.Model:
    return network()


class Counting:
    """Images that count the batches that are taken from them, and may fail at one."""

    def __init__(self, images=IMAGES, *, fail_at=None):
        self.images, self.fail_at, self.batches = images, fail_at, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        if self.batches == self.fail_at:
            raise KeyboardInterrupt
        self.batches += 1
        return self.images[key]


class Told(Progress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def compute(net, source=None, source_key="images", *, progress=None, **changes) -> Features:
    arguments = {"about": {"size": 12}, "batch_size": 16, "storage": "float32", **changes}
    source = Counting() if source is None else source
    return compute_features(
        net, source, source_key, label="Features", progress=progress or Progress(), **arguments
    )


def root() -> Path:
    return cache_dir() / "features"


def test_rows_count_as_done_when_they_are_on_the_disk(net, monkeypatch):
    # A power cut must not leave a count of rows that were never written.
    happened = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        happened.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    def replaced(source, target) -> None:
        happened.append(f"name {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    compute(net)
    assert "features.npy" in happened[: happened.index("name rows_done")]
    assert happened.index("name rows_done") < happened.index("name manifest.json")


def content(features: Features) -> bytes:
    return (root() / features.key / "features.npy").read_bytes()


@pytest.mark.parametrize("batch_size", [1, 16, 25, 64])
def test_they_are_what_the_network_says_the_last_batch_may_be_short(net, batch_size):
    features = compute(net, batch_size=batch_size)
    expected = net.predict(IMAGES, batch_size=N_IMAGES, verbose=0)
    assert features.array.dtype == np.float32
    np.testing.assert_allclose(features.array, expected, rtol=1e-5, atol=1e-6)
    assert not features.array.flags.writeable


def test_maps_keep_their_shape(net):
    maps = keras.Model(net.input, net.layers[2].output)
    features = compute(maps)
    assert features.array.shape == (N_IMAGES, 10, 10, 8)
    np.testing.assert_allclose(features.array, maps.predict(IMAGES, verbose=0), atol=1e-5)


def test_the_second_time_nothing_is_computed(net, monkeypatch):
    first = compute(net)
    told, source = Told(), Counting()
    again = network()

    def never(batch):
        raise AssertionError("the network was called")

    monkeypatch.setattr(again, "predict_on_batch", never)
    second = compute(again, source, progress=told)
    assert second.key == first.key
    assert source.batches == 0
    assert told.lines == ["Features: found in the cache"]
    np.testing.assert_array_equal(second.array, first.array)


def test_the_network_is_called_once_for_each_batch_with_one_shape(monkeypatch):
    net = network()
    shapes, plain = [], net.predict_on_batch

    def counted(batch):
        shapes.append(batch.shape)
        return plain(batch)

    monkeypatch.setattr(net, "predict_on_batch", counted)
    compute(net)
    assert shapes == [(16, SIDE, SIDE, 3)] * 4
    compute(net)
    assert len(shapes) == 4


def test_the_network_is_left_as_it_was():
    net = network()
    before = net.get_weights()
    compute(net)
    for mine, theirs in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("place", range(6))
def test_a_weight_that_differs_in_its_last_bit_is_another_key(net, place):
    other = network()
    assert len(other.weights) == 6
    values = other.get_weights()
    values[place].flat[-1] = np.nextafter(values[place].flat[-1], np.float32(9))
    other.set_weights(values)
    first, second = compute(net), compute(other)
    assert first.key != second.key
    np.testing.assert_allclose(second.array, other.predict(IMAGES, verbose=0), atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"source_key": "other images"},
        {"storage": "float16"},
        {"about": {"size": 13}},
        {"about": {"size": 12, "scaling": "tf"}},
        {"about": {}},
        {"source": Counting(IMAGES[:49])},
    ],
    ids=["source", "storage", "value", "more", "less", "length"],
)
def test_whatever_else_decides_is_in_the_key(net, changes):
    first, source = compute(net), changes.get("source") or Counting()
    second = compute(net, **{"source": source, **changes})
    assert second.key != first.key
    assert source.batches > 0


@pytest.mark.parametrize("what", ["machine", "version"])
def test_what_another_machine_or_keras_computed_is_not_taken_for_ours(net, monkeypatch, what):
    first, source = compute(net), Counting()
    if what == "machine":
        monkeypatch.setattr(inference, "machine", lambda: "NVIDIA L4, 2 cores, jax 0.9")
    else:
        monkeypatch.setattr(keras, "__version__", "3.99.0")
    second = compute(net, source)
    assert second.key != first.key
    assert source.batches > 0


def test_float16_takes_half_the_space_and_nearly_the_same_values(net):
    wide, narrow = compute(net), compute(net, storage="float16")
    assert narrow.array.dtype == np.float16
    np.testing.assert_array_equal(narrow.array, wide.array.astype(np.float16))
    assert len(content(narrow)) < 0.6 * len(content(wide))


def test_a_feature_too_large_for_float16_is_one_line_not_infinity():
    pixels = keras.Input((SIDE, SIDE, 3))
    net = keras.Model(pixels, keras.layers.Rescaling(1000.0)(pixels))
    with pytest.raises(ConfigError, match=r"too large for float16.*backbone.storage=float32"):
        compute(net, storage="float16")
    assert np.isfinite(compute(net).array).all()


def test_an_interrupted_computation_goes_on_where_it_was(net, monkeypatch):
    monkeypatch.setattr(module, "_SYNC_S", 0.0)
    straight = content(compute(net))
    shutil.rmtree(root())
    with pytest.raises(KeyboardInterrupt):
        compute(net, Counting(fail_at=2))
    source = Counting()
    features = compute(net, source)
    # Four batches, of which two were done.
    assert source.batches == 2
    assert content(features) == straight


KILLED = """
import os, signal, sys
import numpy as np
from convscope.progress import Progress
from convscope.training import features as module

sys.path.insert(0, {here!r})
from test_features import Counting, compute, network

class Dying(Counting):
    def __getitem__(self, key):
        if self.batches == {batches}:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)

module._SYNC_S = {sync_s}
{more}
compute(network(), Dying())
"""


def start(*, batches=-1, sync_s=0.0, more="", **options) -> subprocess.Popen:
    """Compute in a process of its own, which dies after some batches."""
    here = str(Path(__file__).parent)
    code = KILLED.format(here=here, batches=batches, sync_s=sync_s, more=textwrap.dedent(more))
    return subprocess.Popen([sys.executable, "-c", code], **options)


@pytest.mark.parametrize(
    ("batches", "sync_s", "left"), [(3, 0.0, 1), pytest.param(3, 1e9, 4, marks=pytest.mark.slow)]
)
def test_killed_in_the_middle_it_ends_with_the_same_bytes(net, batches, sync_s, left):
    straight = content(compute(net))
    shutil.rmtree(root())
    assert start(batches=batches, sync_s=sync_s).wait() == -9
    source = Counting()
    assert content(compute(net, source)) == straight
    assert source.batches == left


@pytest.mark.parametrize("damage", ["rows", "header", "noted", "far", "shorter"])
def test_what_a_kill_or_a_power_cut_left_is_used_only_where_it_is_whole(net, monkeypatch, damage):
    monkeypatch.setattr(module, "_SYNC_S", 0.0)
    features = compute(net)
    straight, folder = content(features), root() / features.key
    shutil.rmtree(root())
    with pytest.raises(KeyboardInterrupt):
        compute(net, Counting(fail_at=2))
    path, noted = folder / "features.npy", folder / "rows_done"
    assert noted.read_text().split()[0] == "32"
    match damage:
        case "rows":  # Bytes after the last that were surely written.
            path.write_bytes(path.read_bytes() + b"\xff" * 999)
        case "header":
            path.write_bytes(b"\0" * 128 + path.read_bytes()[128:])
        case "noted":
            noted.write_text("many")
        case "far":
            noted.write_text("49 1.0")
        case "shorter":
            path.write_bytes(path.read_bytes()[:-1])
    source = Counting()
    assert content(compute(net, source)) == straight
    assert source.batches == (2 if damage == "rows" else 4)


def test_the_cost_of_features_counts_what_a_killed_process_spent(net, monkeypatch):
    monkeypatch.setattr(module, "_SYNC_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        compute(net, Counting(fail_at=2))
    (noted,) = root().glob("*/rows_done")
    noted.write_text(noted.read_text().split()[0] + " 1000.0\n")
    assert 1000 < compute(net).seconds < 1100
    assert 1000 < compute(net).seconds < 1100


@pytest.mark.parametrize("damage", ["truncated", "empty", "header", "absent", "other"])
def test_damaged_features_under_an_intact_manifest_are_computed_anew(net, damage):
    features = compute(net)
    straight = content(features)
    path = root() / features.key / "features.npy"
    del features
    match damage:
        case "truncated":
            path.write_bytes(straight[:-1])
        case "empty":
            path.write_bytes(b"")
        case "header":
            path.write_bytes(b"\0" * 64 + straight[64:])
        case "absent":
            path.unlink()
        case "other":
            np.save(path, np.zeros((3, 4), np.float32))
    source = Counting()
    assert content(compute(net, source)) == straight
    assert source.batches == 4


def test_killed_while_it_repairs_it_leaves_no_claim_behind(net, monkeypatch):
    features = compute(net)
    straight, folder = content(features), root() / features.key
    (folder / "features.npy").write_bytes(straight[:300])
    with pytest.raises(KeyboardInterrupt):
        compute(net, Counting(fail_at=1))
    # Else a file of full length whose bytes a power cut lost would pass for whole.
    assert os.listdir(folder) == ["features.npy"]
    assert content(compute(net)) == straight


# Disk space.

GIB = 2**30
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def small_disk(monkeypatch):
    """A disk with room for so many sets of features beside the margin."""

    def make(n_sets: float) -> None:
        one = len(content(compute(network())))
        shutil.rmtree(root())

        def disk_usage(path):
            there = sum(file.stat().st_size for file in root().rglob("features.npy"))
            free = int(n_sets * one) - there + features_store._MARGIN_BYTES
            return Usage(GIB, 0, free)

        monkeypatch.setattr(features_store.shutil, "disk_usage", disk_usage)

    return make


def left_behind(net, source_key: str, days: float) -> str:
    """Compute features that were last used days ago and that nobody reads; return their key."""
    key = compute(net, source_key=source_key).key
    then = time.time() - days * 24 * 3600
    os.utime(root() / key / "manifest.json", (then, then))
    return key


def sets() -> set[str]:
    return {path.name for path in root().iterdir()} - {"locks"}


def test_too_small_a_disk_is_one_line_before_anything_is_computed(net, small_disk, monkeypatch):
    small_disk(0.9)
    source = Counting()
    with pytest.raises(StorageError, match=r"GiB free; free some space, set CONVSCOPE_CACHE") as at:
        compute(net, source)
    assert "\n" not in str(at.value)
    assert source.batches == 0
    assert not list(root().rglob("manifest.json"))
    monkeypatch.undo()
    monkeypatch.setenv("CONVSCOPE_CACHE", str(root().parent))
    assert len(compute(net).array) == N_IMAGES


def test_the_sets_that_were_not_used_for_the_longest_time_go_first(net, small_disk):
    small_disk(3.5)
    kept = [left_behind(net, f"{n}", days) for n, days in enumerate((2, 3, 1))]
    # Used again, so not the oldest any more.
    compute(net, source_key="1")
    new = compute(net, source_key="new")
    assert sets() == {kept[1], kept[2], new.key}


def rows(indices) -> dict:
    return {"source": Counting(IMAGES[indices]), "row_keys": [f"image {i}" for i in indices]}


def test_rows_of_other_parts_are_copied_and_only_the_others_computed(net):
    # Two folds of the same images: their training parts overlap.
    whole = compute(net).array
    compute(net, source_key="first", **rows(range(0, 30)))
    mixed = [45, 3, 40, 29, 31, 0, 44]
    sources = {"images": rows(mixed)["source"], "keys": rows(mixed)["row_keys"]}
    found = compute(net, sources["images"], "second", row_keys=sources["keys"])
    # The four of no other set, in one batch.
    assert sources["images"].batches == 1
    np.testing.assert_array_equal(found.array, whole[mixed])
    # Every row is known by now.
    third = rows([3, 44, 3, 29])
    told = Told()
    again = compute(net, third["source"], "third", row_keys=third["row_keys"], progress=told)
    assert third["source"].batches == 0
    assert told.lines == ["Features: found in the cache"]
    np.testing.assert_array_equal(again.array, whole[[3, 44, 3, 29]])


def test_copied_rows_count_with_the_seconds_that_they_took(net):
    compute(net, source_key="first", **rows(range(40)))
    (manifest,) = root().glob("*/manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "seconds": 400.0}))
    assert 200 <= compute(net, source_key="second", **rows(range(10, 30))).seconds < 210


@pytest.mark.parametrize("other", [{"about": {"size": 13}}, {"storage": "float16"}])
def test_rows_of_another_network_are_not_copied(net, other):
    compute(net, source_key="first", **rows(range(30)), **other)
    source = rows(range(20))
    compute(net, source["source"], "second", row_keys=source["row_keys"])
    assert source["source"].batches == 2


def test_a_set_whose_keys_are_damaged_gives_no_rows(net):
    compute(net, source_key="first", **rows(range(30)))
    (keys,) = root().glob("*/rows.txt")
    keys.write_text("image 1\nimage 2")
    source = rows([1, 2])
    found = compute(net, source["source"], "second", row_keys=source["row_keys"]).array
    assert source["source"].batches == 1
    np.testing.assert_array_equal(found, compute(net).array[[1, 2]])


def test_a_locked_set_is_not_given_up(net, small_disk):
    small_disk(2.5)
    older, _ = left_behind(net, "older", 2), left_behind(net, "newer", 1)
    with exclusive(root() / "locks" / f"{older}.lock", wait=False):
        new = compute(net, source_key="new")
    assert sets() == {older, new.key}


@pytest.mark.usefixtures("no_locks")
def test_without_locks_no_set_is_given_up_that_another_may_be_reading(net, small_disk):
    small_disk(2.5)
    older, newer = left_behind(net, "older", 40), left_behind(net, "newer", 1)
    with pytest.raises(StorageError, match="GiB free"):
        compute(net, source_key="new")
    assert {older, newer} <= sets()


def test_what_this_process_reads_is_not_given_up_until_the_last_view_is_gone(net, small_disk):
    small_disk(1.5)
    array = compute(net, source_key="used").array
    again = compute(net, source_key="used")
    view = array[::2].T
    for reader in ("array", "again", "view"):
        with pytest.raises(StorageError, match="GiB free"):
            compute(net, source_key="new")
        match reader:
            case "array":
                del array
            case "again":
                used = again.key
                del again
            case "view":
                del view
    assert used in sets()
    assert compute(net, source_key="new").key in sets()
    assert used not in sets()


READING = """
    features = compute(network(), source_key="used")
    print("reading", flush=True)
    input()
    raise SystemExit
"""


def test_what_another_process_reads_is_not_given_up_until_it_ends(net, small_disk):
    small_disk(2.5)
    used, idle = left_behind(net, "used", 2), left_behind(net, "idle", 1)
    reader = start(more=READING, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with reader:
        assert reader.stdout.readline() == "reading\n"
        # It was opened long ago, so it would be the first to go.
        assert left_behind(net, "used", 5) == used
        # The other one would not be enough, so it is not given up for nothing.
        with pytest.raises(StorageError, match="GiB free"):
            compute(net, np.tile(IMAGES, (2, 1, 1, 1)), "twice as many")
        assert sets() >= {used, idle}
        new = left_behind(net, "new", 1)
        assert idle not in sets()
        assert sets() >= {used, new}
        reader.communicate("end\n")
    assert reader.returncode == 0
    newest = compute(net, source_key="newest")
    assert sets() >= {new, newest.key}
    assert used not in sets()


def test_what_nobody_used_for_a_month_goes_but_not_what_is_read(net):
    reading = compute(net, source_key="reading")
    left_behind(net, "reading", 31)
    recent, old = left_behind(net, "recent", 29), left_behind(net, "old", 31)
    assert old in sets()
    new = compute(net, source_key="new")
    assert sets() == {reading.key, recent, new.key}


def test_a_full_disk_is_one_line_and_a_later_call_goes_on(net):
    straight = content(compute(net))
    shutil.rmtree(root())
    # A limit on the size of files is the full disk that needs no rights: more than the header.
    more = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    """
    process = start(more=more, stderr=subprocess.PIPE, text=True)
    _, err = process.communicate()
    assert process.returncode == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("convscope.errors.StorageError: ")
    assert "features.npy would be larger than the file size limit allows" in last
    assert not list(root().rglob("manifest.json"))
    assert content(compute(net)) == straight


def test_two_processes_at_once_compute_once(net, tmp_path):
    # The other process waits in its first batch until this one waits for it.
    more = f"""
        import time
        from pathlib import Path
        folder = Path({str(tmp_path)!r})
        class Dying(Counting):
            def __getitem__(self, key):
                (folder / "computing").touch()
                while not (folder / "go on").exists():
                    time.sleep(0.01)
                return super().__getitem__(key)
    """
    other = start(more=more)
    while not (tmp_path / "computing").exists() and other.poll() is None:
        time.sleep(0.01)

    class Waiting(Told):
        def say(self, text):
            super().say(text)
            (tmp_path / "go on").touch()

    told, source = Waiting(), Counting()
    features = compute(net, source, progress=told)
    assert told.lines == [
        "Waiting for another process that computes the same features",
        "Features: found in the cache",
    ]
    assert source.batches == 0
    assert other.wait() == 0
    assert sets() == {features.key}


def test_what_was_computed_or_found_before_is_no_news(net):
    told = Told()
    compute(net, progress=told)
    compute(net, progress=told)
    assert told.lines == []
    again = Told()
    compute(net, progress=again)
    compute(net, progress=again)
    assert again.lines == ["Features: found in the cache"]


def test_rows_that_are_only_copied_are_one_line_and_no_task(net, capsys):
    compute(net, **rows(range(20)))
    compute(net, source_key="others", **rows(range(5)), progress=ConsoleProgress())
    assert capsys.readouterr().err.splitlines() == ["Features: found in the cache"]
