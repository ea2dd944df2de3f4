"""Sets of images in shards: written from any data, read from a folder or an address."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.datasets.sharded import source, store, writing
from convscope.datasets.sharded.store import ShardEntry, Store
from convscope.datasets.sharded.unfinished import Note
from convscope.errors import ConfigError, DataError, IntegrityError, LockTakenError, StorageError
from convscope.locks import LOCK, exclusive
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.storage import cache_dir
from convscope.training.batches import order_of
from convscope.types import Split, Stacked


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 60 images of 12 x 12 pixels in three classes, and four test images."""
    root, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(5)
    for part, count in (("train", 20), ("test", 2)):
        for name in ("ant", "bee", "cow"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number:02}.png")
    return root


def write(photos, out, **settings):
    settings = {"shard_mb": 8 * 432 / 1e6, "near": 2} | settings
    return convscope.write_shards(photos, out, progress=Progress(), **settings)


def load(place) -> convscope.Dataset:
    return convscope.load(place, progress=Progress())


@pytest.fixture(params=["folder", "address"])
def place(request, tmp_path):
    if request.param == "folder":
        return tmp_path / "shards"
    pytest.importorskip("fsspec")
    return f"memory://{tmp_path.name}/shards"


@contextlib.contextmanager
def at_folder(place):
    """Yield the file system of a place, and the folder there, which exists."""
    fsspec = pytest.importorskip("fsspec")
    fs, folder = fsspec.url_to_fs(str(place))
    fs.makedirs(folder, exist_ok=True)
    yield fs, folder


def pixels_by_id(split: Split) -> dict[str, bytes]:
    images = split.images[np.arange(len(split))]
    return {str(name): image.tobytes() for name, image in zip(split.ids, images, strict=True)}


def test_shards_hold_what_the_folder_holds(photos, place):
    written = write(photos, place)
    assert (written.n_images, written.n_shards, written.faults) == (66, 9, {})
    assert written.n_bytes == 66 * 432
    whole, sharded = convscope.load(photos, progress=Progress()), load(place)
    assert sharded.name == "photos"
    assert sharded.class_names == whole.class_names
    for name in ("train", "val"):
        a, b = getattr(whole, name), getattr(sharded, name)
        # The order in the shards is another, so the drawn validation images are too.
        assert len(a) == len(b)
    opened = [part.test.open(lambda n_images: None) for part in (whole, sharded)]
    both = [
        pixels_by_id(part.train) | pixels_by_id(part.val) | pixels_by_id(test)
        for part, test in zip((whole, sharded), opened, strict=True)
    ]
    assert both[0] == both[1]
    labels = [dict(zip(part.ids, part.labels, strict=True)) for part in opened]
    assert labels[0] == labels[1]
    hashes = dict(zip(sharded.train.ids, sharded.train.hashes, strict=True))
    known = dict(zip(whole.train.ids, whole.train.hashes, strict=True))
    shared = hashes.keys() & known.keys()
    assert len(shared) > 20
    assert all(hashes[name] == known[name] for name in shared)


def test_shards_keep_groups(photos, tmp_path):
    rows = ["file,label,burst"]
    for path in sorted((photos / "train").rglob("*.png")):
        name = path.relative_to(photos).as_posix()
        rows.append(f"{name},{name.split('/')[1]},{path.parent.name}-{int(path.stem) // 4}")
    table = tmp_path / "t.csv"
    table.write_text("\n".join(rows))
    labels = f"{table}:group=burst"
    convscope.write_shards(photos, tmp_path / "shards", labels=labels, progress=Progress())
    whole = convscope.load(photos, labels=labels, progress=Progress())
    sharded = convscope.load(str(tmp_path / "shards"), progress=Progress())
    known = {}
    for part in whole.parts.values():
        known |= dict(zip(part.ids.tolist(), part.groups.tolist(), strict=True))
    named = []
    for part in sharded.parts.values():
        assert part.groups.tolist() == [known[name] for name in part.ids]
        named.append(set(part.groups))
    assert sum(map(len, named)) == len(set().union(*named)) == 15


def contents(place) -> dict[str, bytes]:
    if isinstance(place, str):
        import fsspec

        fs, root = fsspec.core.url_to_fs(place)
        return {file.rpartition("/")[2]: fs.cat_file(file) for file in fs.ls(root, detail=False)}
    return {file.name: file.read_bytes() for file in place.iterdir() if file.name != LOCK}


class Decoding:
    """Counts the images that are decoded; a kill may come before one of them."""

    def __init__(self, monkeypatch, kill_at: int | None = None) -> None:
        self.names: list[str] = []
        plain = source.decode_file

        def decode(root, file, **settings):
            if len(self.names) == kill_at:
                raise KeyboardInterrupt
            self.names.append(file.name)
            return plain(root, file, **settings)

        monkeypatch.setattr(source, "decode_file", decode)
        # One image at a time, so that the kill comes between two.
        monkeypatch.setattr(source, "n_decoders", lambda files: 1)
        monkeypatch.setattr(writing, "CHUNK", 3)


@pytest.fixture
def some_damaged(photos, tmp_path):
    root = shutil.copytree(photos, tmp_path / "some" / "photos")
    for name in ("ant/03", "bee/11"):
        file = root / "train" / f"{name}.png"
        # The header is whole, so only decoding finds out.
        file.write_bytes(file.read_bytes()[:-60])
    return root


def test_a_killed_writing_goes_on_after_its_last_whole_shard(
    some_damaged, place, tmp_path, monkeypatch
):
    straight = write(some_damaged, tmp_path / "straight")
    assert len(straight.faults) == 2
    Decoding(monkeypatch, kill_at=37)
    with pytest.raises(KeyboardInterrupt):
        write(some_damaged, place)
    monkeypatch.undo()
    assert "shards.json" not in contents(place)
    again = Decoding(monkeypatch)
    written = write(some_damaged, place)
    assert 66 - 37 <= len(again.names) <= 66 - 37 + 8 + 2 + 3
    assert (written.n_images, written.n_shards) == (64, straight.n_shards)
    assert written.faults == straight.faults
    assert contents(place) == contents(tmp_path / "straight")


@pytest.mark.parametrize("changed", ["size of shards", "way of fitting", "an image", "a note"])
def test_it_begins_anew_where_something_is_another(photos, changed, tmp_path, monkeypatch):
    root = shutil.copytree(photos, tmp_path / "some" / "photos")
    settings = {}
    Decoding(monkeypatch, kill_at=37)
    with pytest.raises(KeyboardInterrupt):
        write(root, tmp_path / "shards")
    monkeypatch.undo()
    if changed == "size of shards":
        settings["shard_mb"] = 16 * 432 / 1e6
    elif changed == "way of fitting":
        settings["fit"] = "pad"
    elif changed == "an image":
        one, other = (root / "train" / "ant" / f"0{n}.png" for n in (0, 1))
        one.write_bytes(other.read_bytes())
    else:
        note = tmp_path / "shards" / "train-00000.done.npz"
        note.write_bytes(note.read_bytes()[:-50])
    again = Decoding(monkeypatch)
    write(root, tmp_path / "shards", **settings)
    assert len(again.names) == 66
    straight = tmp_path / "straight"
    write(root, straight, **settings)
    found, wanted = contents(tmp_path / "shards"), contents(straight)
    # Notes of the other plan lie beside numbers that this one does not reach.
    assert {name: found[name] for name in wanted} == wanted


def test_notes_of_one_plan_never_stand_for_shards_of_another(photos, tmp_path, monkeypatch):
    root = shutil.copytree(photos, tmp_path / "some" / "photos")
    write(root, tmp_path / "straight")
    Decoding(monkeypatch, kill_at=37)
    with pytest.raises(KeyboardInterrupt):
        write(root, tmp_path / "shards")
    monkeypatch.undo()
    # Other images; killed between the first shard and its note.
    other = tmp_path / "other" / "photos"
    for file in root.rglob("*.png"):
        (other / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        mirrored = Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored.save(other / file.relative_to(root))

    def killed(self, plan):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.Note, "to_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        write(other, tmp_path / "shards")
    monkeypatch.undo()
    write(root, tmp_path / "shards")
    assert contents(tmp_path / "shards") == contents(tmp_path / "straight")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x93NUMPY", "list", "array", "no rows", "too far", "no such row"],
)
def test_a_note_that_is_none_is_left_alone(content):
    shard = ShardEntry(name="train-00000.npy", n_images=2, sha256="0" * 64)
    note = Note(shard, np.array([4, 1]), ["a", "b"], 3, {"x": "cut short"})
    held = io.BytesIO()
    if content == "list":
        np.savez(held, about=np.frombuffer(b"[]", np.uint8), rows=[0], hashes=["a"])
    elif content == "array":
        np.save(held, np.arange(3))
    elif content == "no rows":
        np.savez(held, about=np.frombuffer(b'{"plan": "p"}', np.uint8))
    elif content == "too far":
        held.write(dataclasses.replace(note, position=6).to_bytes("p"))
    elif content == "no such row":
        held.write(dataclasses.replace(note, rows=np.array([4, 5])).to_bytes("p"))
    else:
        held.write(content)
    assert Note.from_bytes(held.getvalue(), "p", 0, 5) is None
    back = Note.from_bytes(note.to_bytes("p"), "p", 0, 5)
    assert (back.shard, back.rows.tolist(), back.hashes) == (shard, [4, 1], ["a", "b"])
    assert (back.position, back.faults) == (3, {"x": "cut short"})
    assert Note.from_bytes(note.to_bytes("p"), "q", 0, 5) is None


def test_an_order_stays_in_a_window_of_few_shards(photos, tmp_path):
    write(photos, tmp_path / "shards")
    train = load(tmp_path / "shards").train
    base = train.images.base
    assert isinstance(base, Stacked)
    assert len(base.parts) == 8
    orders = [
        order_of(RunConfig(seed=83), train.labels, epoch, images=train.images)
        for epoch in (0, 1, 0)
    ]
    assert orders[0].tolist() == orders[2].tolist() != orders[1].tolist()
    for order in orders[:2]:
        assert sorted(order) == list(range(len(train)))
        shards = base.part_of(train.images.rows[order])
        changes = [set(shards[:i]) & set(shards[i:]) for i in range(1, len(shards))]
        # At most two shards are in use at any time.
        assert max(map(len, changes)) == 2
        assert len(set(shards[:10])) == 2
    firsts = [set(base.part_of(train.images.rows[order])[:10]) for order in orders[:2]]
    assert firsts[0] != firsts[1]


@pytest.mark.parametrize("images", [None, 40], ids=["all", "some"])
def test_given_parts_in_shards_are_joined_shard_by_shard(photos, tmp_path, images):
    folder = tmp_path / "photos"
    shutil.copytree(photos / "train", folder / "train")
    shutil.copytree(photos / "train", folder / "val")  # and test images drawn from `train`
    write(folder, tmp_path / "shards")
    split = {"test_fraction": 0.2} | ({} if images is None else {"images": images})
    dataset = convscope.load(tmp_path / "shards", split=split, progress=Progress())
    train, val = parts = dataset.parts_to_learn(refit=True)
    joined = Split.joined(parts)
    np.testing.assert_array_equal(
        joined.images[:], np.concatenate([train.images[:], val.images[:]])
    )
    # As in the refit: an order of few shards at a time, which the shards are told.
    order = order_of(RunConfig(), joined.labels, 0, images=joined.images)
    joined.images.expect(order)
    base = joined.images.base
    assert base.n_near == 2
    shards = base.part_of(joined.images.rows[order])
    assert max(len(set(shards[:i]) & set(shards[i:])) for i in range(1, len(shards))) <= 2
    # Folds of all.
    folds = {"fold_as": "val_of_all", "folds": 3} | split
    fold = convscope.load(tmp_path / "shards", split=folds, progress=Progress())
    assert fold.train.images.base.n_near == 2
    fold.train.images.expect(np.arange(len(fold.train)))


def test_few_fetched_shards_are_kept(photos, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    address = f"memory://{tmp_path.name}/few"
    write(photos, address)
    monkeypatch.setenv("CONVSCOPE_SHARDS_GB", str(3.5 * 8 * 432 / 1e9))
    train = load(address).train
    batch = train.images[np.arange(len(train))]
    assert batch.shape == (len(train), 12, 12, 3)
    kept = list((cache_dir() / "shards").glob("*/*.npy"))
    assert len(kept) == 3
    monkeypatch.setenv("CONVSCOPE_SHARDS_GB", "0.000001")
    for file in kept:
        file.unlink()
    with pytest.raises(
        StorageError, match=r"a shard of memory://.* set CONVSCOPE_SHARDS_GB to more gigabytes"
    ):
        load(address).train.images[:20]
    monkeypatch.setenv("CONVSCOPE_SHARDS_GB", "much")
    with pytest.raises(StorageError, match="CONVSCOPE_SHARDS_GB is 'much'; give a number"):
        load(address).train.images[:20]


def test_shards_are_fetched_before_their_turn_where_there_is_room(photos, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    address = f"memory://{tmp_path.name}/ahead"
    write(photos, address)
    folder = cache_dir() / "shards"

    def fetched_after_one(room: float) -> int:
        shutil.rmtree(folder, ignore_errors=True)
        monkeypatch.setenv("CONVSCOPE_SHARDS_GB", str(room * 9 * 432 / 1e9))
        train = load(address).train
        order = order_of(RunConfig(), train.labels, 0, images=train.images)
        train.images.expect(order)
        store = train.images.base.parts[0]._store
        train.images[order[:1]]
        for ahead in list(store._ahead.values()):
            ahead.result()
        return len(list(folder.glob("*/*.npy")))

    # Windows of two shards: the first, and with room for both the next.
    assert fetched_after_one(3) == 2
    assert fetched_after_one(8) == 4


_INTERRUPTED = """
import sys, time
from convscope.datasets.sharded.store import Store

def fetch(store, shard):
    time.sleep(0.1)
    print(shard.name, flush=True)

Store._fetched = fetch
store = Store(sys.argv[1])
shards = store.index.parts["train"].shards
store.expect(shards)
store._ahead[shards[0].name].result()
print("interrupted", flush=True)
raise KeyboardInterrupt
"""


def test_what_is_not_yet_on_its_way_at_the_end_of_a_process_is_not_fetched(photos, tmp_path):
    pytest.importorskip("fsspec")
    address = f"file://{tmp_path / 'shards'}"
    write(photos, address, shard_mb=432 / 1e6, near=48)
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, address], capture_output=True, text=True
    )
    assert "KeyboardInterrupt" in done.stderr
    after = done.stdout.partition("interrupted\n")[2].split()
    # Eight: four that were on their way, and four that began in the meantime.
    assert len(after) <= 8


def test_parts_drawn_from_shards_keep_the_order_of_the_shards(photos, tmp_path):
    write(photos, tmp_path / "shards")
    divided = load(tmp_path / "shards")
    for part in (divided.train, divided.val):
        assert np.all(np.diff(part.images.rows) > 0)
    rows = np.concatenate([divided.train.images.rows, divided.val.images.rows])
    assert sorted(rows) == list(range(60))


def test_a_shard_is_hashed_once_until_it_is_replaced(photos, tmp_path, monkeypatch):
    write(photos, tmp_path / "shards")
    hashed, plain = [], store.hashlib.file_digest

    def digest(file, name):
        hashed.append(file.name)
        return plain(file, name)

    monkeypatch.setattr(store.hashlib, "file_digest", digest)
    monkeypatch.setattr(store, "_MOST_OPEN", 1)
    for _ in range(2):
        images = load(tmp_path / "shards").train.images.base
        for _ in range(2):
            for part in images.parts:
                part[0]
    assert len(hashed) == len(set(hashed)) == len(images.parts) > 1
    file = tmp_path / "shards" / "train-00000.npy"
    status, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(IntegrityError, match="train-00000.npy is damaged"):
        images.parts[0][0]


def test_a_changed_byte_is_found(photos, tmp_path):
    write(photos, tmp_path / "shards")
    for name, said in (
        ("train-00003.npy", r"train-00003\.npy is damaged: its hash"),
        ("train.npz", r"train\.npz is damaged: its hash"),
    ):
        copy = tmp_path / f"copy-{name}"
        shutil.copytree(tmp_path / "shards", copy)
        content = bytearray((copy / name).read_bytes())
        content[-7] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(IntegrityError, match=said):
            load(copy).train.images[:48]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"near": 0}, "near: Input should be greater than 0"),
        ({"name": "../../escaped"}, r"name: '\.\./\.\./escaped' is no name$"),
        ({"name": "a\\b"}, "is no name"),
        ({"name": "\x1b[2J"}, r"name: '\\x1b\[2J' is no name$"),
        ({"class_names": ["ant", "\x1b[2J", "cow"]}, r"'\\x1b\[2J' has control characters$"),
        ({"class_names": ["ant", "bee", "ant"]}, "class_names: 'ant' is there 2 times$"),
        ({"class_names": ["\u00e9", "e\u0301", "ant"]}, "class_names: '\u00e9' is there 2 times$"),
        ({"image_shape": [-1, 12, 3]}, "image_shape: no image is -1 x 12 pixels of 3 channels"),
        ({"image_shape": [12, 10**9, 3]}, "image_shape: no image is 12 x 1000000000 pixels"),
        ({"image_shape": [12, 12, 0]}, "image_shape: no image is 12 x 12 pixels of 0 channels"),
        ({"white": 7}, "white: 7 is no white$"),
        ({"format": 99}, "was made by a newer convscope"),
        ({"format": 99, "codec": "webp"}, "was made by a newer convscope"),
        ({"parts": {}}, "it names no training images"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(photos, tmp_path, change, said):
    write(photos, tmp_path / "shards")
    file = tmp_path / "shards" / "shards.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=said):
        load(tmp_path / "shards")


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.full(60, 3)},
        {"labels": np.full(60, -1)},
        {"labels": np.zeros(60)},
        {"ids": np.arange(60)},
        {"hashes": np.arange(60)},
        {"labels": np.full((60, 3), 2, np.uint8)},
    ],
)
def test_a_table_that_makes_no_sense_is_refused(photos, tmp_path, change):
    write(photos, tmp_path / "shards")
    table, index = tmp_path / "shards" / "train.npz", tmp_path / "shards" / "shards.json"
    with np.load(table) as held:
        arrays = dict(held)
    np.savez(table, **{**arrays, **change})
    content = json.loads(index.read_text())
    content["parts"]["train"]["sha256"] = hashlib.sha256(table.read_bytes()).hexdigest()
    index.write_text(json.dumps(content))
    with pytest.raises(
        IntegrityError, match=r"does not match shards.json \(number, size or labels"
    ):
        load(tmp_path / "shards")


def test_an_unfinished_set_is_none(photos, place, monkeypatch):
    def fail(self, rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing._Part, "read", fail)
    with pytest.raises(KeyboardInterrupt):
        write(photos, place)
    with pytest.raises(DataError):
        load(place)


def test_a_name_that_leads_elsewhere_is_refused(photos, tmp_path):
    write(photos, tmp_path / "shards")
    file = tmp_path / "shards" / "shards.json"
    file.write_text(file.read_text().replace("train-00001.npy", "../../train-00001.npy"))
    with pytest.raises(DataError, match=r"parts\.train\.shards\.1\.name: String should match"):
        load(tmp_path / "shards")


def test_unreadable_images_are_left_out_or_too_many(photos, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    broken = copy / "train" / "ant" / "03.png"
    broken.write_bytes(broken.read_bytes()[:200])
    written = write(copy, tmp_path / "shards")
    assert list(written.faults) == ["train/ant/03.png"]
    assert written.n_images == 65
    for number in range(5, 9):
        (copy / "train" / "ant" / f"{number:02}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"5 of 20 images in class 'ant' of train cannot be read"):
        write(copy, tmp_path / "other")
    with pytest.raises(DataError):
        load(tmp_path / "other")


def test_a_finished_set_is_left_as_it_is(photos, place, monkeypatch):
    first = write(photos, place)
    with at_folder(place) as (fs, folder):
        before = {path: fs.cat_file(path) for path in fs.ls(folder, False)}

    def fail(self, rows):
        raise AssertionError("nothing is decoded")

    monkeypatch.setattr(writing._Part, "read", fail)
    assert write(photos, place) == first
    with pytest.raises(DataError, match="holds another sharded set .* choose another --out"):
        write(photos, place, shard_mb=1)
    with at_folder(place) as (fs, folder):
        assert {path: fs.cat_file(path) for path in fs.ls(folder, False)} == before
    write(photos, place, near=3)
    assert Store(place).index.near == 3


def test_two_writings_into_one_folder_do_not_meet(photos, tmp_path):
    place = tmp_path / "shards"
    place.mkdir()
    with (
        exclusive(place / LOCK, wait=False),
        pytest.raises(LockTakenError, match="is being written by another process"),
    ):
        write(photos, place)
    write(photos, place)


def test_shards_of_an_unfinished_writing_with_other_settings_do_not_stay(photos, tmp_path):
    place = tmp_path / "shards"
    small, large = 0.002, 1
    write(photos, tmp_path / "small", shard_mb=small)
    place.mkdir()
    for name in ("train-00000.npy", "train-00001.npy", "train-00002.npy", "train-00002.done.npz"):
        shutil.copy(tmp_path / "small" / name.replace("done.npz", "npy"), place / name)
    write(photos, place, shard_mb=large)
    shards = [shard.name for part in Store(place).index.parts.values() for shard in part.shards]
    assert sorted(path.name for path in place.glob("*-0*")) == sorted(shards)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["a.txt"], "is not empty and holds no sharded set"),
        (["train.npz", "features.npy"], "is not empty and holds no sharded set"),
        (["train.npz"], "is not empty and holds no sharded set"),
        (["val-00000.npy", "train.npz"], "is not empty and holds no sharded set"),
        (["shards.json"], "is not the index of a sharded set; remove it"),
    ],
)
def test_a_place_that_holds_something_else_is_not_touched(photos, place, files, said):
    with at_folder(place) as (fs, folder):
        for name in files:
            fs.pipe_file(f"{folder}/{name}", b"dear")
    with pytest.raises(DataError, match=said):
        write(photos, place)
    with at_folder(place) as (fs, folder):
        assert sorted(path.rpartition("/")[2] for path in fs.ls(folder, False)) == sorted(files)
        assert all(fs.cat_file(f"{folder}/{name}") == b"dear" for name in files)


def test_the_folder_of_the_images_is_not_written_to(photos):
    with pytest.raises(DataError, match="which is never written to"):
        write(photos, photos / "shards")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shard_mb": 0}, "--shard-mb must be above 0"),
        ({"near": 0}, "--near must be at least 1"),
        ({"fit": "bend"}, "fit"),
    ],
)
def test_settings_that_make_no_sense_are_refused(photos, tmp_path, settings, said):
    with pytest.raises(ConfigError, match=said):
        write(photos, tmp_path / "shards", **settings)
    assert not (tmp_path / "shards").exists()


def test_images_that_no_index_can_describe_are_refused_at_once(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "a\nb")
    with pytest.raises(DataError, match=r"cannot become shards: name: 'a\\x0ab' is no name$"):
        write(tmp_path / "a\nb", tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_shards_of_shards_are_refused(photos, tmp_path):
    write(photos, tmp_path / "shards")
    with pytest.raises(ConfigError, match="is in shards already"):
        write(tmp_path / "shards", tmp_path / "again")
    with pytest.raises(ConfigError, match="shards hold their labels"):
        convscope.load(tmp_path / "shards", labels="labels.csv")


def test_nothing_at_an_address_says_how_to_make_a_set(tmp_path):
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match=r"there is no sharded set at memory://.* data shards$"):
        load(f"memory://{tmp_path.name}/none")


@pytest.mark.parametrize("name", ["shards.json", "train.npz"])
def test_a_file_without_end_is_not_read_to_its_end(photos, place, name, monkeypatch):
    write(photos, place)
    monkeypatch.setattr(store, "_INDEX_BYTES", 20_000)
    with at_folder(place) as (fs, folder), fs.open(f"{folder}/{name}", "ab") as file:
        file.write(bytes(200_000))
    with pytest.raises(DataError, match=rf"{name} is larger than 0\.\d MB"):
        load(place)


def test_a_shard_larger_than_it_states_is_not_fetched(photos, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    place = f"memory://{tmp_path.name}/large"
    write(photos, place)
    sharded = load(place)
    with at_folder(place) as (fs, folder):
        fs.pipe(f"{folder}/train-00000.npy", bytes(300_000))
        with pytest.raises(StorageError, match=r"train-00000\.npy is larger than 0\.1 MB"):
            sharded.train.images[np.arange(len(sharded.train))]
        # A server may announce fewer bytes than it sends.
        monkeypatch.setattr(type(fs), "size", lambda self, path: None)
        with pytest.raises(StorageError, match=r"train-00000\.npy is larger than 0\.1 MB"):
            sharded.train.images[np.arange(len(sharded.train))]
    assert not list((cache_dir() / "shards").rglob("train-00000.npy"))
