"""Zip and tar archives in place of a folder."""

import hashlib
import io
import os
import stat
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets import DataRequest
from convscope.datasets.checks.check import check_folder
from convscope.datasets.folder import load_folder
from convscope.datasets.folders import archives, members
from convscope.datasets.folders.archives import is_archive, unpacked
from convscope.datasets.source import data_settings, load_source, words_of
from convscope.errors import DataError, ReadOnlyError, StorageError
from convscope.housekeeping.cache import cache_parts, empty_cache
from convscope.progress import Progress
from convscope.storage import cache_dir


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    # Whole blocks of a tar file: the next header follows without padding.
    return file.getvalue() + bytes(-file.tell() % 512)


PHOTOS = {
    f"photos/{name}/{number}.png": picture(10 * label + number)
    for label, name in enumerate(("cat", "dog"))
    for number in range(4)
}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Write an archive of the kind that its ending says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                packed.writestr(name, content)
        return path
    kind = path.name.rpartition(".")[2].replace("tgz", "gz").replace("txz", "xz")
    with tarfile.open(path, "w" if kind == "tar" else f"w:{kind}") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


def fails(path: Path) -> str:
    with pytest.raises(DataError) as error, unpacked(path, Progress()):
        pass
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
    left = [p for p in (cache_dir() / "archives").glob("*") if p.name not in ("locks", "index")]
    assert left == [], "nothing half unpacked stays"
    return str(error.value)


@pytest.mark.parametrize(
    "name", ["p.zip", "p.tar", "p.tar.gz", "p.tgz", "p.tar.bz2", "p.tar.xz", "p.txz", "My.ZIP"]
)
def test_an_archive_is_read_as_the_folder_in_it(tmp_path: Path, name: str) -> None:
    extra = {"photos/about.txt": b"x" * 5000, "__MACOSX/photos/._cat": b"", "photos/cat/.x": b""}
    path = tmp_path / name
    pack(path.with_suffix(path.suffix.lower()), {**PHOTOS, **extra}).rename(path)
    dataset = load_folder(DataRequest(path=path))
    assert dataset.name == name.partition(".")[0]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.ids[0] == "photos/cat/0.png"
    pixels = np.asarray(Image.open(io.BytesIO(PHOTOS["photos/dog/3.png"])))
    np.testing.assert_array_equal(dataset.train.images[7], pixels)
    assert dataset.provenance["source"] == str(path)
    assert dataset.notes[1:] == (
        "the classes are the folders in photos/",
        "ignored 1 hidden file or folder: 'photos/cat/.x'",
        "ignored what other programs left behind: '__MACOSX'",
        "ignored 1 file not of images (.txt 1)",
    )
    assert list(tmp_path.iterdir()) == [path], "nothing is written beside it"


def test_an_archive_and_its_folder_are_the_same_data(tmp_path: Path) -> None:
    path = pack(tmp_path / "photos.zip", PHOTOS)
    for name, content in PHOTOS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    packed = load_folder(DataRequest(path=path))
    (tmp_path / "photos.zip").unlink()
    folder = load_folder(DataRequest(path=tmp_path))
    assert packed.provenance["fingerprint"] == folder.provenance["fingerprint"]


def test_it_is_unpacked_once_until_its_content_changes(tmp_path: Path, monkeypatch) -> None:
    path = pack(tmp_path / "photos.zip", PHOTOS)
    old = time.time() - 60
    os.utime(path, (old, old))
    opened = []
    whole = archives.open_members
    monkeypatch.setattr(archives, "open_members", lambda path: opened.append(path) or whole(path))
    with unpacked(path, Progress()) as root:
        assert (root / "photos" / "cat" / "0.png").is_file()
    with unpacked(path, Progress()) as again:
        assert again == root
    assert opened == [path]
    changed = {**PHOTOS, "photos/cat/0.png": picture(99)}
    pack(path, changed)
    with unpacked(path, Progress()) as other:
        assert (other / "photos/cat/0.png").read_bytes() == changed["photos/cat/0.png"]
    assert not root.exists(), "what is outdated does not stay"
    assert len(opened) == 2


@pytest.mark.parametrize("depth", [1, 200_000])
def test_damaged_notes_in_the_cache_cost_no_more_than_time(tmp_path: Path, depth: int) -> None:
    path = pack(tmp_path / "photos.zip", PHOTOS)
    with unpacked(path, Progress()) as root:
        (root.parent / archives.MANIFEST).write_text("[" * depth + "]" * depth)
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    index = cache_dir() / "archives" / "index" / f"{place}.json"
    index.parent.mkdir(exist_ok=True)
    index.write_text("[" * depth + "]" * depth)
    changed = {**PHOTOS, "photos/cat/0.png": picture(99)}
    pack(path, changed)
    with unpacked(path, Progress()) as other:
        assert (other / "photos/cat/0.png").read_bytes() == changed["photos/cat/0.png"]


def test_the_cache_lists_and_empties_it_unless_it_is_in_use(tmp_path: Path) -> None:
    path = pack(tmp_path / "photos.tar", PHOTOS)
    with unpacked(path, Progress()) as root:
        (part,) = [part for part in cache_parts() if part.kind == "archives"]
        assert part.n_bytes > sum(map(len, PHOTOS.values()))
        assert empty_cache(["archives"]).stay.keys() == {root.parent}
        assert root.is_dir()
    assert empty_cache(["archives"]).n_bytes >= part.n_bytes
    assert not root.exists()
    with unpacked(path, Progress()) as root:
        assert root.is_dir()


@pytest.mark.parametrize("kind", ["p.zip", "p.tar.gz"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../a.png", "leads out of"),
        ("photos/../../a.png", "leads out of"),
        ("photos\\..\\..\\a.png", "leads out of"),
        ("/etc/a.png", "has an absolute path"),
        ("C:\\a.png", "has an absolute path"),
        ("photos/cat/0.png/a.png", "is in it twice"),
        ("photos/cat/0.png", "is in it twice"),
    ],
)
def test_members_that_lead_elsewhere_are_refused_by_name(
    tmp_path: Path, kind: str, name: str, why: str
) -> None:
    path = tmp_path / kind
    if name in PHOTOS and path.suffix == ".zip":
        pack(path, PHOTOS)
        with zipfile.ZipFile(path, "a") as packed, pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr(name, b"")
    elif name in PHOTOS:
        pack(path, {**PHOTOS, f"./{name}": b""})
    else:
        pack(path, {**PHOTOS, name: b"x"})
    said = fails(path)
    assert name in said
    assert why in said
    assert list(tmp_path.rglob("*")) == [path]


def test_links_devices_and_encrypted_files_are_refused_by_name(tmp_path: Path) -> None:
    kinds = {
        tarfile.SYMTYPE: "a link",
        tarfile.LNKTYPE: "a link",
        tarfile.CHRTYPE: "a device or pipe",
        tarfile.FIFOTYPE: "a device or pipe",
    }
    for kind, word in kinds.items():
        path = tmp_path / "odd.tar"
        with tarfile.open(path, "w") as packed:
            info = tarfile.TarInfo("photos/cat/x.png")
            info.type, info.linkname = kind, "/etc/passwd"
            packed.addfile(info)
        assert f"'photos/cat/x.png' is {word};" in fails(path)
    for mode, word in ((stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device or pipe")):
        info = zipfile.ZipInfo("cat/x.png")
        info.external_attr = (mode | 0o644) << 16
        with zipfile.ZipFile(tmp_path / "odd.zip", "w") as packed:
            packed.writestr(info, "/etc/passwd")
        assert f"'cat/x.png' is {word};" in fails(tmp_path / "odd.zip")
    content = bytearray(pack(tmp_path / "odd.zip", {"x.png": b"x"}).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "odd.zip").write_bytes(content)
    assert "'x.png' is encrypted;" in fails(tmp_path / "odd.zip")


@pytest.mark.parametrize(
    ("stored", "expected"),
    # As the Finder of a Mac and as programs of Windows write them, without the flag.
    [
        ("cafe\u0301".encode(), "cafe\u0301"),
        ("café".encode("cp437"), "café"),
        (b"tea", "tea"),
        ("강아지 2".encode("cp949"), "강아지 2"),
        ("강아지".encode(), "강아지"),
        ("Käse, año".encode("cp437"), "Käse, año"),
    ],
)
def test_names_in_a_zip_are_read_as_they_were_written(
    tmp_path: Path, stored: bytes, expected: str
) -> None:
    stand_in = b"x" * len(stored)
    path = pack(
        tmp_path / "mac.zip",
        {f"{stand_in.decode()}\\": b"", f"{stand_in.decode()}\\1.png": picture(1)},
    )
    path.write_bytes(path.read_bytes().replace(stand_in, stored))
    with unpacked(path, Progress()) as root:
        (folder,) = root.iterdir()
        assert folder.name == expected
        assert [file.name for file in folder.iterdir()] == ["1.png"]


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz"])
def test_absurd_sizes_are_refused_by_name(tmp_path: Path, name: str, monkeypatch) -> None:
    path = pack(tmp_path / name, {**PHOTOS, "photos/cat/bomb.png": bytes(2**22)})
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2**20)
    assert "'photos/cat/bomb.png' is larger than 1,048,576 bytes" in fails(path)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2**30)
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    assert "to more than 4.2 MB (at 'photos/cat/bomb.png')" in fails(path)
    pack(path, {**PHOTOS, "photos/film.bin": bytes(2**22)})
    assert "to more than 4.2 MB (at 'photos/film.bin')" in fails(path)
    monkeypatch.setattr(archives, "MAX_RATIO", 2**20)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    assert "holds more than 5 files" in fails(path)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "liar.zip", {"cat/0.png": bytes(1000), "dog/1.png": picture(1)})
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\1\2") + 24
    content[place : place + 4] = struct.pack("<I", 10)
    path.write_bytes(content)
    assert "cannot be unpacked (Bad CRC-32" in fails(path)


def test_a_tar_with_an_absurd_header_is_refused_unread(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "header.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as packed:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"comment": "x" * 2**18}
        packed.addfile(info)
    monkeypatch.setattr(members, "_HEADER_BYTES", 2**16)
    assert "cannot be unpacked" in fails(path)


@pytest.mark.parametrize("name", ["cut.zip", "cut.tar", "cut.tar.gz", "cut.tar.bz2", "cut.tar.xz"])
def test_damaged_archives_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / name, PHOTOS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be unpacked" in fails(path)
    path.write_bytes(b"no archive at all, but long enough to be one" * 50)
    assert "cannot be unpacked" in fails(path)


def test_a_compressed_tar_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "sum.tar.gz", PHOTOS)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    assert "cannot be unpacked (CRC check failed" in fails(path)


def test_faults_name_the_archive_and_not_the_cache(tmp_path: Path) -> None:
    flat = {f"{number}.png": picture(number) for number in range(4)}
    path = pack(tmp_path / "flat.zip", flat)
    with pytest.raises(DataError, match="has 4 images but no class folders") as error:
        load_folder(DataRequest(path=path))
    assert str(cache_dir()) not in str(error.value)
    single = pack(tmp_path / "single.zip", {"train/cat/1.png": picture(1)})
    report = check_folder(single, progress=Progress())
    assert report.has_errors
    assert str(cache_dir()) not in report.to_json()


def test_labels_inside_an_archive_and_beside_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = b"file,label\n0,x\n1,y\n2,x\n3,y\n4,x\n5,y\n6,x\n7,y\n8,x\n9,y\n"
    files = {f"images/{number}.png": picture(number) for number in range(10)}
    path = pack(tmp_path / "flat.zip", {**files, "images/inside.csv": table})
    (tmp_path / "beside.csv").write_bytes(table)
    inside = data_settings(path, "images/inside.csv")
    assert inside["labels"] == "images/inside.csv"
    # As messages name it.
    assert data_settings(path, path / "images/inside.csv") == inside
    assert data_settings(path, "flat.zip/images/inside.csv") == inside
    beside = data_settings(path, "beside.csv")
    assert beside["labels"] == "../beside.csv"
    assert words_of(beside)[2:] == ("--labels", str(tmp_path / "beside.csv"))
    assert words_of(inside)[2:] == ("--labels", "images/inside.csv")
    for place in (inside, beside):
        dataset = load_source(place, None, Progress())
        assert dataset.class_names == ("x", "y")
        assert str(cache_dir()) not in dataset.provenance["labels"]
    with pytest.raises(DataError, match="there is no table none.csv in .*flat.zip;"):
        load_source(data_settings(path, "none.csv"), None, Progress())


def test_only_files_with_such_endings_are_archives(tmp_path: Path) -> None:
    assert is_archive(Path("a.tar.GZ"))
    assert not is_archive(Path("a.gz"))
    (tmp_path / "folder.zip").mkdir()
    with unpacked(tmp_path / "folder.zip", Progress()) as root:
        assert root == tmp_path / "folder.zip"
    (tmp_path / "photos.rar").touch()
    with pytest.raises(DataError, match=r"is a file, not a folder; .*an archive of one \(\.zip,"):
        load_folder(DataRequest(path=tmp_path / "photos.rar"))


def test_a_full_cache_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    path = pack(tmp_path / "photos.zip", PHOTOS)

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match="no space left on disk"):
        archives._write(path, members.Member("a.png", "file", 1, lambda: None), tmp_path / "a.png")


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch) -> None:
    path = pack(tmp_path / "photos.zip", PHOTOS)

    def refused(*_: object, **__: object) -> None:
        raise ReadOnlyError("cannot write it")

    monkeypatch.setattr(archives, "exclusive", refused)
    with (
        pytest.raises(StorageError, match="set CONVSCOPE_CACHE, or unpack it yourself"),
        unpacked(path, Progress()),
    ):
        pass
