"""`convscope cache` and `convscope cache clear`."""

import json
import os

import pytest

from convscope.housekeeping.cache import KINDS, cache_parts, empty_cache
from convscope.locks import exclusive, readers_lock, share_while_alive, writer_lock
from convscope.storage import cache_dir

KEY, OTHER = "0123456789abcdef" * 2, "f" * 32


def test_the_help_names_the_kinds(cli):
    words = " ".join(cli("cache", "clear", "--help").out.replace("│", " ").split())
    *first, last = KINDS
    assert f"Kinds to empty: {', '.join(first)} or {last}." in words


@pytest.fixture
def filled():
    """A cache with something of every kind, 1000 bytes each."""
    root = cache_dir()
    files = {
        "datasets": ["datasets/cifar10/source.json", "datasets/mnist/downloads/a.gz.partial"],
        "packs": [f"packed/{KEY}/images.npy", f"packed/.{OTHER}-x.part/images.npy"],
        "archives": [f"archives/{KEY}/photos/0.png", f"archives/.{OTHER}-x.part/photos/0.png"],
        "divisions": [f"divisions/{KEY}.npz"],
        "features": [f"features/{KEY}/features.npy", f"features/{OTHER}/features.npy"],
        "shards": [f"shards/{KEY}/train-00000.npy", f"shards/{OTHER}/val-00003.npy"],
        "weights": ["weights/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5.partial"],
        "precision": ["precision.json"],
        "engines": ["engines.json"],
        "ledger": ["ledger/looks.jsonl"],
        # Not convscope's, though they lie where its things do.
        "other": ["letter.txt", "datasets/holidays/a.png", "datasets/digits/notes.txt"],
    }
    folder = root / "remote" / KEY / "birds"
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(b"x" * 600)
    stamp = [600, (folder / "run.json").stat().st_mtime_ns]
    there = root.parent / f"{root.name}-bucket" / "birds"
    there.mkdir(parents=True)
    (there / "run.json").write_bytes(b"x" * 600)
    record = {"address": f"file://{there}", "files": {"run.json": [stamp, [600, "1"]]}}
    (folder.parent / "files.json").write_text(json.dumps(record).ljust(400))
    for names in files.values():
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x" * 1000)
    return files | {"remote": [f"remote/{KEY}"]}


def there(filled) -> dict[str, list[bool]]:
    return {kind: [(cache_dir() / n).exists() for n in names] for kind, names in filled.items()}


def sizes() -> dict[str, int]:
    return {part.kind: part.n_bytes for part in cache_parts()}


def test_an_empty_cache_is_listed(cli):
    done = cli("cache")
    assert done.code == 0
    rows = {line.split()[0]: line.split()[1:3] for line in done.out.splitlines()[1:13]}
    assert rows == {part.kind: ["0", "B"] for part in cache_parts()}
    assert done.out.splitlines()[-1] == f"0 B in {cache_dir()}"


def test_each_kind_is_listed_with_its_size(cli, filled):
    assert sizes() == {kind: 1000 * len(names) for kind, names in filled.items()}
    out = cli("cache").out
    rows = {line.split()[0]: line.split()[1:3] for line in out.splitlines()[1:13]}
    assert rows["features"] == ["2.0", "kB"]
    assert rows["ledger"] == ["1.0", "kB"]
    assert out.splitlines()[-1] == f"19.0 kB in {cache_dir()}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_emptied_and_no_other(cli, filled, kind):
    done = cli("cache", "clear", kind)
    assert done.code == 0
    assert done.out == f"{len(filled[kind])}.0 kB freed\n"
    found = there(filled)
    assert not any(found.pop(kind))
    assert all(all(each) for each in found.values())


def test_all_of_it_is_all_but_the_ledger_and_what_is_not_convscopes(cli, filled):
    assert cli("cache", "clear", "--all").code == 0
    kept = {kind for kind, found in there(filled).items() if any(found)}
    assert kept == {"precision", "engines", "ledger", "other"}
    assert all(there(filled)["other"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            [],
            "name the kinds to empty: datasets, packs, archives, divisions, features, weights, ",
        ),
        (["features", "--all"], "name the kinds to empty"),
        (["ledger"], "unknown kind 'ledger'"),
        (["feature"], "did you mean 'features'?"),
    ],
)
def test_what_to_empty_has_to_be_said(fails, filled, arguments, told):
    assert told in fails(2, "cache", "clear", *arguments)
    assert all(all(each) for each in there(filled).values())


def test_what_is_in_use_stays_and_is_told(cli, filled):
    class Reader:
        pass

    features, reader = cache_dir() / "features", Reader()
    share_while_alive(readers_lock(features / KEY), reader)
    with exclusive(writer_lock(features / OTHER), wait=False):
        done = cli("cache", "clear", "features")
    assert done.code == 1
    assert done.out == "0 B freed\n"
    told = done.err.splitlines()
    assert len(told) == 2
    for key in (KEY, OTHER):
        assert any(line.startswith(f"{features / key} stays: in use") for line in told)
    assert all(there(filled)["features"])
    del reader
    assert cli("cache", "clear", "features").out == "2.0 kB freed\n"


def test_a_pack_that_is_being_made_stays(filled):
    packed = cache_dir() / "packed"
    with exclusive(packed / "locks" / f"{OTHER}.lock", wait=False):
        emptied = empty_cache(["packs"])
    assert emptied.stay.keys() == {packed / f".{OTHER}-x.part"}
    assert there(filled)["packs"] == [False, True]


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_links_are_not_followed(filled, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "features.npy").write_bytes(b"x" * 1000)
    link = cache_dir() / "features" / ("a" * 32)
    link.symlink_to(tmp_path / "far")
    emptied = empty_cache(["features"])
    assert emptied.stay.keys() == {link}
    assert (tmp_path / "far" / "features.npy").exists()


def test_without_locks_nobody_can_tell_so_it_stays(filled, no_locks):
    emptied = empty_cache(["features"])
    assert emptied.n_bytes == 0
    assert len(emptied.stay) == 2


def test_what_is_packed_from_a_folder_is_known(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(8):
            picture = Image.new("RGB", (8, 8), (number * 20, 9, 9 if name == "a" else 99))
            picture.save(tmp_path / "pets" / name / f"{number}.png")
    import convscope

    convscope.load(tmp_path / "pets")
    assert sizes()["packs"] > 16 * 8 * 8 * 3
    locks = sum(path.stat().st_size for path in (cache_dir() / "packed" / "locks").iterdir())
    assert sizes()["other"] == locks
    assert empty_cache(["packs"]).stay == {}
    assert sizes()["packs"] == 0
    # And made again.
    assert len(convscope.load(tmp_path / "pets").train)
