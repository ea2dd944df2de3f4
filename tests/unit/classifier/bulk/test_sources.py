"""What a user names for prediction: files, folders and lists."""

import csv
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from convscope.classifier.bulk import sources
from convscope.classifier.bulk.sources import is_stream, iter_images_of
from convscope.datasets.folders import archives
from convscope.errors import DataError


@pytest.fixture
def photos(tmp_path):
    for name in ("a.png", "b c.jpg", "deep/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.png\nb c.jpg\ndeep/d.png\n"),
        ("list.csv", "id,image\n1,a.png\n2,b c.jpg\n3,deep/d.png\n"),
        (
            "list.jsonl",
            '{"file_name": "a.png"}\n{"file_name": "b c.jpg"}\n{"file_name": "deep/d.png"}\n',
        ),
    ],
)
def test_a_list_names_files_relative_to_itself(name, text, photos):
    (photos / name).write_text(text)
    assert is_stream(photos / name)
    expected = [photos / "a.png", photos / "b c.jpg", photos / "deep" / "d.png"]
    assert list(iter_images_of([photos / name])) == expected


def test_sources_come_in_their_order_and_standard_input_is_a_list(photos, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x.png\n\ny.png\r\n")))
    found = list(iter_images_of([photos / "deep", "-", photos / "a.png"]))
    assert found == [photos / "deep" / "d.png", Path("x.png"), Path("y.png"), photos / "a.png"]
    assert not is_stream(photos)


def lists_of(names, folder):
    """Write a list of names in each format that holds them, and return the lists."""
    (folder / "list.txt").write_bytes(b"".join(os.fsencode(name) + b"\n" for name in names))
    (folder / "list.jsonl").write_text("".join(f"{json.dumps({'file': n})}\n" for n in names))
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["file"], *([name] for name in names)])
    parquet.write_table(pa.table({"file": names}), folder / "list.parquet")
    return [folder / f"list.{kind}" for kind in ("txt", "jsonl", "csv", "parquet")]


def test_paths_in_lists_are_those_that_are_written(tmp_path):
    names = ["Cafe\u0301.png", " led.png", "Caf\xe9s.png", "none.png "]
    for name in names[:3]:
        (tmp_path / name).touch()
    # As a cell in a table has it, where only such a file is there.
    (tmp_path / "tidy.png").touch()
    (tmp_path / "caf\xe9.png").touch()
    names += [" tidy.png ", "cafe\u0301.png"]
    expected = [tmp_path / name for name in (*names[:4], "tidy.png", "caf\xe9.png")]
    for path in lists_of(names, tmp_path):
        assert list(iter_images_of([path])) == expected, path


def test_names_that_are_not_utf_8_are_read_from_lists_as_find_writes_them(photos, monkeypatch):
    content = b"caf\xe9.png\na.png\n"
    (photos / "list.txt").write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))
    names = ["caf\udce9.png", "a.png"]
    found = list(iter_images_of([photos / "list.txt", "-"]))
    assert found == [*(photos / name for name in names), *map(Path, names)]
    (photos / "list.csv").write_bytes(b"file\n" + content)  # saved by a spreadsheet
    with pytest.raises(DataError, match="is not UTF-8; save it as"):
        list(iter_images_of([photos / "list.csv"]))


def test_a_closed_standard_input_is_no_list(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input, and there is none"):
        list(iter_images_of(["-"]))


def test_a_table_without_a_column_of_files_is_refused(photos):
    (photos / "list.csv").write_text("colour,weight\nred,1\n")
    with pytest.raises(DataError, match="no column called file"):
        list(iter_images_of([photos / "list.csv"]))


def pack(path, files):
    """Write an archive of the kind that its ending says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as packed:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_the_images_of_an_archive_come_in_its_order_and_nothing_else_does(name, tmp_path):
    files = {"b/2.PNG": b"two", "__MACOSX/b/2.png": b"", "b/.hidden.png": b"", "notes.txt": b"n"}
    path = pack(tmp_path / name, {**files, "a/1.jpg": b"one", "/../e.png": b"", "b/2.png": b""})
    assert is_stream(path)
    found = list(iter_images_of([path]))
    assert [(str(each.path.relative_to(path)), each.content) for each in found] == [
        ("b/2.PNG", b"two"),
        ("a/1.jpg", b"one"),
        ("../e.png", b""),
        ("b/2.png", b""),
    ]
    assert not any(each.reason for each in found)
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_pattern_names_shards_and_lists_in_the_order_of_their_names(photos):
    for number in (1, 0):
        pack(photos / f"shard-{number}.tar", {f"{number}.png": b"", f"{number}.cls": b"4"})
        (photos / f"list-{number}.csv").write_text(f"file\n{number}.png\n")
    (photos / "a[bc].tar").write_bytes((photos / "shard-0.tar").read_bytes())
    for pattern in ("*-?.tar", "list-*.csv", "a[bc].tar"):
        assert is_stream(photos / pattern)
    found = list(iter_images_of([photos / "shard-*.tar", photos / "list-*.csv"]))
    names = [str(getattr(each, "path", each).relative_to(photos)) for each in found]
    assert names == ["shard-0.tar/0.png", "shard-1.tar/1.png", "0.png", "1.png"]
    # A name that is there is no pattern.
    assert [each.path.parent.name for each in iter_images_of([photos / "a[bc].tar"])] == [
        "a[bc].tar"
    ]
    with pytest.raises(DataError, match="no image in .*none-"):
        list(iter_images_of([photos / "none-*.tar"]))


def test_members_that_cannot_be_read_are_listed_and_the_others_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_MAX_BYTES", 10)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("wrong.png", b"checksum")
        packed.writestr("large.png", bytes(11))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
        packed.writestr("right.png", b"pixels")
    path.write_bytes(path.read_bytes().replace(b"checksum", b"Checksum", 1))
    wrong, large, link, right = iter_images_of([path])
    assert wrong.reason.startswith("is damaged in the archive (Bad CRC-32")
    assert large.reason == "is larger than 10 B"
    assert link.reason == "is a link, not an image"
    assert (right.content, right.reason) == (b"pixels", "")
    assert not wrong.content + large.content + link.content


def test_of_a_damaged_archive_the_images_before_the_damage_are_read(tmp_path):
    path = pack(tmp_path / "x.tar", {f"{n}.png": bytes(1000) for n in range(4)})
    path.write_bytes(path.read_bytes()[: 2 * 1536 + 700])
    *whole, last = iter_images_of([path])
    assert [each.reason for each in whole][:2] == ["", ""]
    assert last.path == path
    assert last.reason.startswith("is damaged after ")
    path.write_bytes(b"no archive at all, but long enough" * 50)
    with pytest.raises(DataError, match=f"^{path} cannot be read as an archive"):
        list(iter_images_of([path]))


def test_archives_of_absurd_size_or_without_an_image_are_refused(tmp_path, monkeypatch):
    path = pack(tmp_path / "x.zip", {"a.png": bytes(10_000), "b.txt": b""})
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(DataError, match="more than 1 files"):
        list(iter_images_of([path]))
    monkeypatch.setattr(archives, "FREE_BYTES", 100)
    monkeypatch.setattr(archives, "MAX_RATIO", 0)
    with pytest.raises(DataError, match="which no photos do"):
        list(iter_images_of([path]))
    with pytest.raises(DataError, match="no image in .*y.zip"):
        list(iter_images_of([pack(tmp_path / "y.zip", {"b.txt": b""})]))
