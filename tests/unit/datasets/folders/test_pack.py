"""The cache of decoded images: whole or not there, and never stale."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.folders import pack
from convscope.datasets.folders import scan as scanning
from convscope.datasets.folders.pack import Pack, pack_images
from convscope.datasets.folders.scan import FileFacts, scan_files
from convscope.errors import DataError, StorageError
from convscope.images.decode import decode_image
from convscope.progress import Progress
from convscope.storage import cache_dir

N_IMAGES = 40

PARTS = ["images.npy", "manifest.json", "origins.bin"]


class Listener(Progress):
    """Remembers which tasks were begun, and what was said."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int | None]] = []
        self.lines: list[str] = []
        self.steps: list[tuple[int, str]] = []

    @contextlib.contextmanager
    def task(self, label, total, unit):
        self.tasks.append((label, total))
        self.steps.clear()
        yield lambda n, note="": self.steps.append((n, note))

    def say(self, text: str) -> None:
        self.lines.append(text)


def noise(seed: int, side: int = 30, file_format: str = "BMP") -> bytes:
    """An image file of noise; those of one side are equally long as BMP."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, file_format)
    return stream.getvalue()


def fill(root: Path, n_images: int = N_IMAGES, **options: object) -> Path:
    root.mkdir(parents=True)
    for number in range(n_images):
        (root / f"{number:03d}.img").write_bytes(noise(number, **options))
    return root


def scan(root: Path, progress: Progress | None = None) -> list[FileFacts]:
    names = [path.name for path in sorted(root.iterdir())]
    return scan_files(root, names, progress=progress or Progress())


def make_pack(
    root: Path, side: int = 20, channels: int = 3, progress: Progress | None = None
) -> Pack:
    progress = progress or Progress()
    files = scan(root, progress)
    return pack_images(root, files, size=(side, side), channels=channels, progress=progress)


def one_by_one(root: Path, side: int = 20, channels: int = 3) -> np.ndarray:
    paths = sorted(root.iterdir())
    return np.stack([decode_image(path, channels=channels, size=(side, side)) for path in paths])


def packs() -> list[Path]:
    """The packs in the cache, whole ones and others, without locks and index."""
    folder = cache_dir() / "packed"
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name not in ("locks", "index"))


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in PARTS]


def child(code: str, **variables: object) -> "subprocess.Popen[str]":
    """Start a Python process that runs `code` with the same cache."""
    prelude = """
        import os, resource, signal, sys, time
        from pathlib import Path
        from convscope.datasets.folders import pack
        from convscope.datasets.folders.scan import scan_files
        from convscope.errors import StorageError
        from convscope.progress import Progress
        root, side = Path(os.environ["ROOT"]), int(os.environ.get("SIDE", 20))
        names = [path.name for path in sorted(root.iterdir())]
        decode, decoded = pack.decode_image, []
        def go():
            files = scan_files(root, names, progress=Progress())
            return pack.pack_images(
                root, files, size=(side, side), channels=3, progress=Progress()
            )
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        env={**os.environ, **{name: str(value) for name, value in variables.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


STOPS_IN_THE_MIDDLE = """
    def slow(content, **options):
        decoded.append(1)
        if len(decoded) == 30:
            print("half", flush=True)
            time.sleep(60)
        return decode(content, **options)
    pack.decode_image = slow
    go()
"""


def half_done(root: Path, side: int = 20) -> "subprocess.Popen[str]":
    """Start a packer and return when it has written a part of the images and sleeps."""
    process = child(STOPS_IN_THE_MIDDLE, ROOT=root, SIDE=side)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n", process.communicate()[1]
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -9


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos")


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest):
    """A small file system of its own, with the options that the test asks for."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(disk)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


# What is in a pack


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [30, 180])  # the larger are decoded in threads, if there are cores
def test_a_pack_equals_decoding_one_by_one(tmp_path: Path, side: int, channels: int) -> None:
    root = fill(tmp_path / "photos", side=side, file_format="JPEG")
    made = make_pack(root, channels=channels)
    assert made.images.shape == (N_IMAGES, 20, 20, channels)
    np.testing.assert_array_equal(made.images, one_by_one(root, channels=channels))
    expected = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in made.images]
    assert made.hashes == expected
    assert made.kept.tolist() == list(range(N_IMAGES))
    assert made.faults == {}
    assert made.notes == ()


def test_threads_give_the_same_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "photos", n_images=150)
    used = []

    def four(*args: object, **options: object) -> int:
        used.append(args)
        return 4

    monkeypatch.setattr(pack, "n_workers", four)
    np.testing.assert_array_equal(make_pack(root).images, one_by_one(root))
    assert used


def test_images_are_mapped_from_disk_and_cannot_be_changed(photos: Path) -> None:
    images = make_pack(photos).images
    assert isinstance(images, np.memmap)
    assert Path(images.filename).is_relative_to(cache_dir())
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_unreadable_images_are_left_out(photos: Path) -> None:
    (photos / "003.img").write_bytes(b"")  # known by its header
    content = noise(17)
    (photos / "017.img").write_bytes(content[: len(content) // 2])  # known when it is decoded
    for made in (make_pack(photos), make_pack(photos)):
        assert made.faults.keys() == {"003.img", "017.img"}
        assert "is truncated" in made.faults["017.img"]
        assert made.kept.tolist() == [n for n in range(N_IMAGES) if n not in (3, 17)]
        for image, place in zip(made.images, made.kept, strict=True):
            path = photos / f"{place:03d}.img"
            np.testing.assert_array_equal(image, decode_image(path, channels=3, size=(20, 20)))


def test_no_readable_image_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", n_images=2)
    for path in root.iterdir():
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="no image in .*photos can be read .*truncated"):
        make_pack(root)
    assert packs() == []


def test_nothing_is_written_into_the_folder(photos: Path) -> None:
    def look() -> list[tuple[str, int, int, bytes]]:
        return [
            (path.name, path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.read_bytes())
            for path in sorted(photos.iterdir())
        ]

    before, folder = look(), photos.stat().st_mtime_ns
    make_pack(photos)
    make_pack(photos)
    assert look() == before
    assert photos.stat().st_mtime_ns == folder
    assert sorted(path.name for path in photos.parent.iterdir()) == ["photos"]


# The second time


def test_the_second_time_nothing_is_decoded(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    first = make_pack(photos, progress=listener)
    assert ("Packing photos", N_IMAGES) in listener.tasks
    monkeypatch.setattr(pack, "decode_image", None)  # a call would raise
    listener = Listener()
    second = make_pack(photos, progress=listener)
    assert "Packing photos" not in [label for label, _ in listener.tasks]
    np.testing.assert_array_equal(second.images, first.images)
    assert len(packs()) == 1


def test_files_that_had_settled_are_not_even_read_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "SETTLED_NS", 0)
    time.sleep(0.02)
    first = scan(photos)
    monkeypatch.setattr(scanning, "read_bytes", None)
    listener = Listener()
    assert scan(photos, listener) == first
    assert listener.tasks == []


def test_files_that_just_changed_are_read_again(photos: Path) -> None:
    # They may change once more within the tick of the file system's clock.
    scan(photos)
    listener = Listener()
    scan(photos, listener)
    assert listener.tasks == [("Reading photos", N_IMAGES)]


@pytest.mark.parametrize("how", ["in place", "replaced"])
@pytest.mark.parametrize("settled", [False, True])
def test_other_content_under_the_same_name_size_and_time_is_seen(
    photos: Path, monkeypatch: pytest.MonkeyPatch, settled: bool, how: str
) -> None:
    if settled:  # so that the index vouches for the file
        monkeypatch.setattr(scanning, "SETTLED_NS", 0)
        time.sleep(0.02)
    old = np.array(make_pack(photos).images)
    if settled:
        time.sleep(0.02)  # a tick of the file system's clock
    path = photos / "005.img"
    before = path.stat()
    content = noise(999)
    if how == "in place":
        with path.open("r+b") as file:
            file.write(content)
    else:
        (photos.parent / "new").write_bytes(content)
        os.replace(photos.parent / "new", path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)

    new = make_pack(photos).images
    np.testing.assert_array_equal(new, one_by_one(photos))
    assert (new[5] != old[5]).any()
    np.testing.assert_array_equal(new[:5], old[:5])


def test_sizes_channels_and_order_have_packs_of_their_own(photos: Path) -> None:
    shapes = [make_pack(photos, side, channels).images.shape[1:] for side, channels in
              ((20, 3), (12, 3), (20, 1))]  # fmt: skip
    assert shapes == [(20, 20, 3), (12, 12, 3), (20, 20, 1)]
    files = scan(photos)[::-1]
    made = pack_images(photos, files, size=(20, 20), channels=3, progress=Progress())
    np.testing.assert_array_equal(made.images, one_by_one(photos)[::-1])
    assert len(packs()) == 4


def test_each_fit_has_a_pack_of_its_own(photos: Path) -> None:
    files = scan(photos)
    for _ in range(2):
        for fit in ("squash", "crop", "pad"):
            pack = pack_images(
                photos, files, size=(20, 20), channels=3, fit=fit, progress=Progress()
            )
            first = decode_image(photos / "000.img", channels=3, size=(20, 20), fit=fit)
            np.testing.assert_array_equal(pack.images[0], first)
    assert len(packs()) == 3


def test_a_file_that_changes_meanwhile_is_named(photos: Path) -> None:
    files = scan(photos)
    (photos / "030.img").write_bytes(noise(999))
    with pytest.raises(DataError, match=r"030\.img changed while it was being read; try again"):
        pack_images(photos, files, size=(20, 20), channels=3, progress=Progress())
    assert packs() == []


def test_a_file_that_is_away_for_a_moment_is_not_left_out_for_ever(photos: Path) -> None:
    files = scan(photos)
    (photos / "030.img").rename(photos.parent / "away")
    with pytest.raises(DataError, match=r"030\.img cannot be read \(No such file.*; try again"):
        pack_images(photos, files, size=(20, 20), channels=3, progress=Progress())
    assert packs() == []
    (photos.parent / "away").rename(photos / "030.img")
    made = make_pack(photos)
    assert made.faults == {}
    np.testing.assert_array_equal(made.images, one_by_one(photos))


class _Short(io.BytesIO):
    """A stream for which there is no memory any more."""

    def read(self, *args: object) -> bytes:
        raise MemoryError


def test_an_image_for_which_memory_is_short_is_not_left_out_for_ever(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = scan(photos)
    with monkeypatch.context() as patched:
        patched.setattr(
            pack, "decode_image", lambda content, **options: decode_image(_Short(), **options)
        )
        with pytest.raises(DataError, match=r"000\.img needs more memory .*; try again"):
            pack_images(photos, files, size=(20, 20), channels=3, progress=Progress())
    assert packs() == []
    assert make_pack(photos).faults == {}


def test_a_header_for_which_memory_is_short_is_read_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "SETTLED_NS", 0)
    time.sleep(0.02)
    read = scanning.read_header
    with monkeypatch.context() as patched:
        patched.setattr(
            scanning, "read_header", lambda content, **options: read(_Short(), **options)
        )
        assert all("needs more memory" in file.fault for file in scan(photos))
    assert not any(file.fault for file in scan(photos))


@pytest.mark.parametrize(
    "damage",
    [
        "short",
        "no manifest",
        "bad manifest",
        "deep manifest",
        "other key",
        "other shape",
        "other pixel",
    ],
)
def test_a_damaged_pack_is_made_again(photos: Path, damage: str) -> None:
    expected = np.array(make_pack(photos).images)
    (folder,) = packs()
    images, manifest = folder / "images.npy", folder / "manifest.json"
    if damage == "short":
        os.truncate(images, images.stat().st_size - 1)
    elif damage == "other pixel":
        content = bytearray(images.read_bytes())
        content[-1] ^= 1
        images.write_bytes(content)
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "bad manifest":
        manifest.write_text("{")
    elif damage == "deep manifest":
        manifest.write_text("[" * 200_000)
    else:
        other = {"key": "0" * 32} if damage == "other key" else {"shape": [1, 20, 20, 3]}
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **other}))
    listener = Listener()
    np.testing.assert_array_equal(make_pack(photos, progress=listener).images, expected)
    assert ("Packing photos", N_IMAGES) in listener.tasks
    assert packs() == [folder]


def test_a_pack_of_an_earlier_version_without_a_digest_stays(photos: Path) -> None:
    make_pack(photos)
    (folder,) = packs()
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["digest"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    listener = Listener()
    np.testing.assert_array_equal(make_pack(photos, progress=listener).images, one_by_one(photos))
    assert "Packing photos" not in [label for label, _ in listener.tasks]


@pytest.mark.parametrize(("unused_days", "stays"), [(6, True), (8, False)])
def test_packs_of_old_content_go_after_a_week_unused(
    photos: Path, unused_days: int, stays: bool
) -> None:
    make_pack(photos)
    make_pack(photos, side=12)
    old_ones = packs()
    then = time.time() - unused_days * 24 * 3600
    for folder in old_ones:
        os.utime(folder / "manifest.json", (then, then))
    (photos / "000.img").write_bytes(noise(999))
    make_pack(photos)
    # Packs of another size are somebody's choice, not superseded.
    assert len(set(packs()) & set(old_ones)) == (2 if stays else 1)
    np.testing.assert_array_equal(make_pack(photos).images, one_by_one(photos))


# What another pack holds


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []

    def note(content: bytes, **options: object) -> np.ndarray:
        names.append(str(options["name"]))
        return decode_image(content, **options)

    monkeypatch.setattr(pack, "decode_image", note)
    return names


def assert_as_from_nothing(
    root: Path, files: list[FileFacts], monkeypatch: pytest.MonkeyPatch, **options: object
) -> None:
    """Pack the files, and again in an empty cache, which must give the same bytes."""
    options = {"size": (20, 20), "channels": 3, "progress": Progress(), **options}
    before = packs()
    made = pack_images(root, files, **options)
    (new,) = (folder for folder in packs() if folder not in before)
    with monkeypatch.context() as patched:
        patched.setattr(pack, "decode_image", decode_image)
        patched.setenv("CONVSCOPE_CACHE", str(root.parent / "empty"))
        afresh = pack_images(root, files, **options)
        (expected,) = packs()
        assert contents(new) == contents(expected)
        shutil.rmtree(expected)
    np.testing.assert_array_equal(made.images, afresh.images)
    assert (made.hashes, made.faults) == (afresh.hashes, afresh.faults)
    assert made.kept.tolist() == afresh.kept.tolist()


@pytest.mark.parametrize("n_threads", [1, 4])
@pytest.mark.parametrize("change", ["order", "added", "removed", "replaced", "moved", "settings"])
def test_images_that_a_pack_holds_are_not_decoded_for_another(
    photos: Path, change: str, n_threads: int, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "n_workers", lambda *args, **options: n_threads)
    (photos / "017.img").write_bytes(noise(17)[:2000])  # left out, so rows are not files
    make_pack(photos)
    make_pack(photos, side=12)
    decoded.clear()
    new: list[str] = []
    if change == "added":
        new = [f"{number:03d}a.img" for number in range(10)]
        for number, name in enumerate(new):
            (photos / name).write_bytes(noise(100 + number))
    elif change == "removed":
        (photos / "000.img").unlink()
    elif change == "replaced":
        new = ["005.img"]
        (photos / "005.img").write_bytes(noise(999))
    elif change == "moved":
        photos = photos.rename(photos.parent / "elsewhere")
        (photos / "005.img").rename(photos / "a.img")
    files = scan(photos)
    if change == "order":
        files = [*files[20:30], *files[:20], *files[30:]]
    options: dict[str, object] = {}
    if change == "settings":
        options = {"fit": "crop"}
        new = [file.name for file in files if file.name != "017.img"]
    assert_as_from_nothing(photos, files, monkeypatch, **options)
    # What could not be read is tried again.
    assert sorted(decoded) == sorted([*new, "017.img"])


@pytest.mark.parametrize("setting", ["white", "decoder", "Pillow", "reader"])
def test_images_of_another_decoder_are_not_taken(
    photos: Path, setting: str, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [dataclasses.replace(file, format="HEIF") for file in scan(photos)]
    pack_images(photos, files, size=(20, 20), channels=3, progress=Progress())
    decoded.clear()
    if setting == "decoder":
        monkeypatch.setattr(pack, "DECODER_VERSION", 99)
    elif setting == "Pillow":
        monkeypatch.setattr(pack.PIL, "__version__", "99")
    elif setting == "reader":
        monkeypatch.setattr(pack, "reader_version", lambda container: "99")
    white = 65535 if setting == "white" else None
    assert_as_from_nothing(photos, files, monkeypatch, white=white)
    assert len(decoded) == N_IMAGES


@pytest.mark.parametrize(
    ("damage", "n_decoded"),
    [
        ("pixel", 1),
        ("short", 1),
        ("header", 0),
        ("no images", N_IMAGES),
        ("origin", N_IMAGES),
        ("hash", N_IMAGES),
        ("no origins", N_IMAGES),
        ("earlier version", N_IMAGES),
        ("shape", N_IMAGES),
        ("fewer", N_IMAGES),
    ],
)
def test_nothing_damaged_is_taken_from_another_pack(
    photos: Path,
    damage: str,
    n_decoded: int,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_pack(photos)
    decoded.clear()
    (folder,) = packs()
    images, manifest, origins = (folder / name for name in PARTS)

    def flip(path: Path, place: int) -> None:
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    if damage == "pixel":
        flip(images, -1)
    elif damage == "short":
        os.truncate(images, images.stat().st_size - 1)
    elif damage == "header":
        flip(images, 0)
    elif damage == "no images":
        images.unlink()
    elif damage in ("origin", "hash"):
        flip(origins, 0 if damage == "origin" else -1)
    elif damage == "no origins":
        origins.unlink()
    elif damage == "fewer":
        origins.write_bytes(origins.read_bytes()[:40])
    else:
        facts = json.loads(manifest.read_text())
        if damage == "shape":
            facts["shape"] = 7
        else:
            del facts["origins"]
        manifest.write_text(json.dumps(facts))
    assert_as_from_nothing(photos, scan(photos)[::-1], monkeypatch)
    assert len(decoded) == n_decoded


def test_a_damaged_pack_is_mended_from_itself(photos: Path, decoded: list[str]) -> None:
    expected = np.array(make_pack(photos).images)
    decoded.clear()
    (folder,) = packs()
    content = bytearray((folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "images.npy").write_bytes(content)
    np.testing.assert_array_equal(make_pack(photos).images, expected)
    assert decoded == ["039.img"]


def test_a_pack_may_go_while_images_are_taken_from_it(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(photos)
    (older,) = packs()
    (photos / "005.img").write_bytes(noise(999))

    def remove_and_decode(content: bytes, **options: object) -> np.ndarray:
        shutil.rmtree(older)
        return decode_image(content, **options)

    monkeypatch.setattr(pack, "decode_image", remove_and_decode)
    assert_as_from_nothing(photos, scan(photos), monkeypatch)
    assert not older.exists()


def test_an_error_in_reading_another_pack_means_decoding(
    photos: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(photos)
    decoded.clear()
    (older,) = packs()
    (older / "images.npy").unlink()
    (older / "images.npy").mkdir()
    assert_as_from_nothing(photos, scan(photos)[::-1], monkeypatch)
    assert len(decoded) == N_IMAGES


def test_copied_images_count_as_progress(photos: Path) -> None:
    make_pack(photos)
    (photos / "000.img").write_bytes(noise(999))
    listener = Listener()
    make_pack(photos, progress=listener)
    assert sum(n for n, _ in listener.steps) == N_IMAGES
    assert listener.steps[-1][1] == "39 of them decoded before"


def test_pixels_of_a_new_pack_are_hashed_once(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    hashes_of = pack.hashes_of

    def note(images):
        hashed.extend(images)
        return hashes_of(images)

    monkeypatch.setattr(pack, "hashes_of", note)
    make_pack(photos)
    assert len(hashed) == N_IMAGES


@pytest.mark.parametrize("mounted", ["size=4m"], indirect=True)
def test_packs_on_a_disk_that_became_read_only_are_used(
    photos: Path, mounted: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(mounted / "cache"))
    make_pack(photos)
    decoded.clear()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    (photos / "005.img").write_bytes(noise(999))
    assert_in_memory(photos)
    assert decoded == ["005.img"]


# Killed, full, and two at once


def test_a_pack_is_on_the_disk_before_it_has_its_name(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def note(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        synced.append((path.name, path.parent.suffix))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    make_pack(photos)
    assert ("images.npy", ".part") in synced


def test_a_killed_packer_leaves_what_the_next_one_clears(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kill(half_done(photos))
    (left,) = packs()
    assert left.name.endswith(".part")
    expected = one_by_one(photos)
    # It was in the middle of writing: some images are on disk, not under a final name.
    written = (left / "images.npy").read_bytes()
    assert expected[:10].tobytes() in written
    assert expected[30:].tobytes() not in written

    made = make_pack(photos)
    np.testing.assert_array_equal(made.images, expected)
    (whole,) = packs()
    assert not whole.name.endswith(".part")

    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "another"))
    make_pack(photos)
    (undisturbed,) = packs()
    assert whole.name == undisturbed.name
    assert sorted(path.name for path in whole.iterdir()) == PARTS
    assert contents(whole) == contents(undisturbed)


def test_left_overs_go_with_any_pack_but_not_those_of_the_living(photos: Path) -> None:
    process = half_done(photos, side=12)
    try:
        make_pack(photos, side=20)
        (unfinished,) = [path for path in packs() if path.name.endswith(".part")]
        assert (unfinished / "images.npy").exists()
    finally:
        kill(process)
    make_pack(photos, side=16)
    assert [path for path in packs() if path.name.endswith(".part")] == []


@pytest.mark.usefixtures("no_locks")
def test_without_locks_nothing_is_cleared_that_another_may_be_writing(photos: Path) -> None:
    kill(half_done(photos, side=12))
    (left,) = packs()
    made = make_pack(photos)
    np.testing.assert_array_equal(made.images, one_by_one(photos))
    assert left in packs()
    assert len(packs()) == 2


HAS_NO_ROOM = """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    if "NO_RESERVE" in os.environ:
        del os.posix_fallocate  # as where there is none: the write itself fails
    try:
        go()
    except StorageError as error:
        print(error)
"""


@pytest.mark.parametrize("variables", [{}, {"NO_RESERVE": "1"}], ids=["reserving", "writing"])
def test_a_file_that_cannot_grow_is_an_error_that_leaves_nothing(
    photos: Path, variables: dict[str, str]
) -> None:
    out, err = child(HAS_NO_ROOM, ROOT=photos, **variables).communicate(timeout=60)
    assert "would be larger than the file size limit allows" in out, err
    assert out.count("\n") == 1
    assert err == ""
    assert packs() == []
    np.testing.assert_array_equal(make_pack(photos).images, one_by_one(photos))


@pytest.mark.parametrize("mounted", ["size=64k"], indirect=True)
@pytest.mark.parametrize("reserve", [True, False])
def test_a_full_disk_is_an_error_that_leaves_nothing(
    photos: Path, mounted: Path, reserve: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(mounted / "cache"))
    if not reserve:
        monkeypatch.delattr(os, "posix_fallocate")
    before = os.statvfs(mounted).f_bavail
    with pytest.raises(StorageError, match="no space left on disk while writing"):
        make_pack(photos, side=64)
    assert packs() == []
    # What stays is the index and the lock: a few kB.
    assert before - os.statvfs(mounted).f_bavail <= 8


def test_two_packers_at_once_agree_and_one_does_the_work(photos: Path, tmp_path: Path) -> None:
    code = """
        import hashlib
        def slow(content, **options):
            decoded.append(1)
            time.sleep(0.01)
            return decode(content, **options)
        pack.decode_image = slow
        print("ready", flush=True)
        while not Path(os.environ["GO"]).exists():
            time.sleep(0.002)
        made = go()
        print(hashlib.sha256(made.images.tobytes()).hexdigest(), len(decoded), type(made.images))
    """
    processes = [child(code, ROOT=photos, GO=tmp_path / "go") for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    (tmp_path / "go").touch()
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        answers.append(out.split(maxsplit=2))
    digest = hashlib.sha256(one_by_one(photos).tobytes()).hexdigest()
    assert [answer[0] for answer in answers] == [digest, digest]
    assert sorted(int(answer[1]) for answer in answers) == [0, N_IMAGES]
    assert all("memmap" in answer[2] for answer in answers)
    assert len(packs()) == 1


# A cache that cannot be written to


def assert_in_memory(root: Path) -> None:
    made = make_pack(root)
    assert not isinstance(made.images, np.memmap)
    np.testing.assert_array_equal(made.images, one_by_one(root))
    (note,) = made.notes
    assert f"the image cache {cache_dir() / 'packed'} cannot be written to" in note
    with pytest.raises(ValueError, match="read-only"):
        made.images[0] = 0


def test_a_cache_below_a_file_holds_images_in_memory_and_says_so(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    assert_in_memory(photos)


@pytest.mark.parametrize("mounted", ["ro"], indirect=True)
def test_a_read_only_disk_holds_images_in_memory_and_says_so(
    photos: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(mounted / "cache"))
    assert_in_memory(photos)


def test_unreadable_images_are_left_out_of_memory_too(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    (photos / "003.img").write_bytes(b"")
    made = make_pack(photos)
    assert made.faults.keys() == {"003.img"}
    assert made.images.shape == (N_IMAGES - 1, 20, 20, 3)
    (photos / "003.img").unlink()
    np.testing.assert_array_equal(made.images, one_by_one(photos))


def test_too_many_images_for_memory_are_an_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(pack, "IN_MEMORY_BYTES", N_IMAGES * 20 * 20 * 3 - 1)
    with pytest.raises(StorageError, match="too many for memory; set CONVSCOPE_CACHE"):
        make_pack(photos)
    monkeypatch.setattr(pack, "IN_MEMORY_BYTES", N_IMAGES * 20 * 20 * 3)
    assert_in_memory(photos)
