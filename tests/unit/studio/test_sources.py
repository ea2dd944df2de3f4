"""What is dropped or chosen: kinds, sizes, places; pictures; corrected labels."""

import asyncio
import csv
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.folders.archives import ENDINGS
from convscope.datasets.folders.columns import LabelTable
from convscope.datasets.folders.contents import read_contents
from convscope.datasets.folders.tables import SUFFIXES
from convscope.errors import ConvscopeError, DataError, StorageError
from convscope.images.find import IMAGE_SUFFIXES
from convscope.studio import uploads
from convscope.studio.dropped import kept_uploads
from convscope.studio.sources import Corrections, Source, Sources
from convscope.studio.sources import small as sources_small
from convscope.studio.uploads import Drop, Uploads
from convscope.studio.workplace import Workplace


@pytest.fixture
def photos(tmp_path):
    for name in ("train/cats", "train/dogs", "test/cats", "test/dogs"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = np.full((30, 300, 3), 80 * number, np.uint8)
            Image.fromarray(pixels).save(folder / f"{number} ä.png")
    (tmp_path / "secret.png").write_bytes((folder / "0 ä.png").read_bytes())
    return tmp_path / "photos"


def dropped(files: Uploads, drop: str, name: str, *chunks: bytes):
    async def stream():
        for chunk in chunks:
            yield chunk

    return asyncio.run(files.keep(drop, name, stream()))


def test_a_dropped_file_lies_where_it_was_in_its_folder(tmp_path):
    files = Uploads(tmp_path / "uploads")
    drop = files.begin()
    path = dropped(files, drop, "photos/cats/1.JPG", b"ab", b"c")
    assert path == tmp_path / "uploads" / drop / "photos" / "cats" / "1.JPG"
    assert path.read_bytes() == b"abc"


def kept_files(folder: Path) -> list[Path]:
    """Return the files below a folder, but for the mark of a drop that is not whole."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if path.name != ".unfinished"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../1.jpg",
            "/etc/1.jpg",
            "a/../../1.jpg",
            "a\\..\\1.jpg",
            pytest.param("C:/1.jpg", marks=pytest.mark.skipif(os.name != "nt", reason="a name")),
            "",
            ".",
            "a/b\0.jpg",
        ),
        *(
            "cats/.hidden.jpg",
            ".git/1.jpg",
            "a/ /1.jpg",
            "run.py",
            "x.html",
            "x.svg",
            "weights.keras",
        ),
        *("a/" * 21 + "1.jpg", "x" * 2_000 + ".jpg"),
    ],
)
def test_other_places_and_kinds_are_refused(tmp_path, name):
    files = Uploads(tmp_path / "uploads")
    with pytest.raises(DataError):
        dropped(files, files.begin(), name, b"x")
    assert not kept_files(tmp_path)


def test_whatever_is_read_by_its_path_can_be_dropped():
    endings = {*IMAGE_SUFFIXES, *SUFFIXES, *ENDINGS}
    assert {".jfif", ".pnm", ".parquet", ".tar.bz2", ".tar.xz"} <= endings
    for ending in endings:
        assert uploads.inside(f"photos/a{ending.upper()}").name == f"a{ending.upper()}"
        assert ending in uploads.TAKEN


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_only_windows_refuses_are_taken(tmp_path):
    files = Uploads(tmp_path / "uploads")
    name = 'photos/what? 3:4 <"a|b"> */1.jpg'
    assert dropped(files, files.begin(), name, b"abc").read_bytes() == b"abc"


def test_a_drop_is_whole_only_when_its_end_was_told(tmp_path):
    place = Workplace(tmp_path / "runs")
    files = Uploads(place.uploads)
    drop = files.begin()
    dropped(files, drop, "photos/cats/1.jpg", b"abc")
    (broken,) = Uploads(place.uploads).all()
    assert (broken.is_whole, broken.tops, broken.n_bytes) == (False, ["photos"], 3)
    files.end(drop)
    (whole,) = Uploads(place.uploads).all()
    assert (whole.is_whole, whole.tops) == (True, ["photos"])
    with pytest.raises(DataError, match="not known"):
        files.end("../uploads")


def test_a_drop_has_limits_and_leaves_nothing_of_a_file_beyond_them(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_IMAGE", 10)
    monkeypatch.setattr(uploads, "MAX_TOTAL", 25)
    monkeypatch.setattr(uploads, "MAX_FILES", 3)
    files = Uploads(tmp_path / "uploads")
    drop = files.begin()
    with pytest.raises(DataError, match="1.jpg is larger than 10 B"):
        dropped(files, drop, "1.jpg", b"123456", b"78901")
    assert not kept_files(tmp_path)
    dropped(files, drop, "1.jpg", b"1" * 10)
    dropped(files, drop, "a.zip", b"1" * 14)
    with pytest.raises(DataError, match="larger"):
        dropped(files, drop, "2.jpg", b"12")
    dropped(files, drop, "2.jpg", b"1")
    with pytest.raises(DataError, match="at most 3 files"):
        dropped(files, drop, "3.jpg", b"")
    with pytest.raises(DataError, match="not known"):
        dropped(files, "../..", "3.jpg", b"")


async def at_once(files: Uploads, drop: str, names: list[str], content: bytes) -> list[str]:
    """Send files at once, in two pieces each, and return the names of those that were kept."""

    async def stream():
        for piece in (content[: len(content) // 2], content[len(content) // 2 :]):
            await asyncio.sleep(0)
            yield piece

    each = (files.keep(drop, name, stream()) for name in names)
    ends = await asyncio.gather(*each, return_exceptions=True)
    refused = [end for end in ends if not isinstance(end, Path)]
    assert all(isinstance(end, ConvscopeError) for end in refused), refused
    return [end.name for end in ends if isinstance(end, Path)]


def test_the_limits_of_a_drop_hold_for_files_that_come_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_FILES", 3)
    monkeypatch.setattr(uploads, "MAX_TOTAL", 100)
    files = Uploads(tmp_path / "uploads")
    names = [f"{number}.jpg" for number in range(6)]
    assert asyncio.run(at_once(files, files.begin(), names, b"1" * 10)) == names[:3]
    monkeypatch.setattr(uploads, "MAX_FILES", 6)
    drop = files.begin()
    kept = asyncio.run(at_once(files, drop, names, b"1" * 40))
    assert 1 <= len(kept) <= 2
    # What was refused counts no more.
    more = [f"{number}.png" for number in range(6 - len(kept))]
    assert asyncio.run(at_once(files, drop, more, b"1" * 4)) == more


def test_files_that_come_at_once_share_the_free_space(tmp_path, monkeypatch):
    def free(folder: Path) -> shutil._ntuple_diskusage:
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return shutil._ntuple_diskusage(0, 0, 500_000 - written)

    monkeypatch.setattr(shutil, "disk_usage", free)
    monkeypatch.setattr(uploads, "_LEFT_FREE", 100_000)
    files = Uploads(tmp_path / "uploads")
    names = [f"{number}.zip" for number in range(4)]
    assert len(asyncio.run(at_once(files, files.begin(), names, b"1" * 300_000))) == 1
    # Another program fills the disk, while a file is on its way.
    monkeypatch.setattr(uploads, "_LOOK_AFTER", 10_000)
    files = Uploads(tmp_path / "uploads")

    async def stream():
        yield b"1" * 20_000
        (tmp_path / "uploads" / "other").write_bytes(b"1" * 90_000)
        yield b"1" * 20_000

    with pytest.raises(StorageError, match="nearly full"):
        asyncio.run(files.keep(files.begin(), "a.zip", stream()))


def test_an_upload_is_removed_with_its_files_and_nothing_else_is(tmp_path):
    files = Uploads(tmp_path / "uploads")
    first, second = files.begin(), files.begin()
    dropped(files, first, "cats/1.jpg", b"abc")
    dropped(files, second, "2.jpg", b"12345")
    dropped(files, second, "3.jpg", b"6")
    found = {each.path.name: each for each in files.all()}
    assert {name: (each.tops, each.n_bytes) for name, each in found.items()} == {
        first: (["cats"], 3),
        second: (["2.jpg", "3.jpg"], 6),
    }
    assert found[first].holds(tmp_path / "uploads" / first / "cats")
    assert not found[first].holds(tmp_path / "uploads" / second / ".." / second)
    files.remove(found[first])
    assert [each.path.name for each in files.all()] == [second]
    for other in (tmp_path, tmp_path / "uploads", tmp_path / "uploads" / second / "2.jpg"):
        with pytest.raises(ConvscopeError):
            files.remove(Drop(other))
    assert (tmp_path / "uploads" / second / "2.jpg").exists()


def test_half_of_a_removed_upload_is_not_listed_and_goes_with_the_next(tmp_path, monkeypatch):
    files = Uploads(tmp_path / "uploads")
    for name in (files.begin(), files.begin()):
        dropped(files, name, "cats/1.jpg", b"abc")

    def fails(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(13, "no", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(uploads.shutil, "rmtree", fails)
        with pytest.raises(StorageError):
            files.remove(files.all()[0])
    (left,) = files.all()
    files.remove(left)
    assert not list((tmp_path / "uploads").iterdir())


def test_a_drop_that_another_page_removed_does_not_come_back(tmp_path):
    files = Uploads(tmp_path / "uploads")
    drop = files.begin()
    dropped(files, drop, "cats/1.jpg", b"abc")
    other = Uploads(tmp_path / "uploads")
    other.remove(other.all()[0])
    with pytest.raises(DataError, match="drop the files again"):
        dropped(files, drop, "cats/2.jpg", b"abc")
    with pytest.raises(DataError, match="drop the files again"):
        files.end(drop)
    assert files.all() == []


def test_uploads_that_a_run_learnt_from_are_not_free_to_remove(tmp_path):
    place = Workplace(tmp_path / "runs")
    files = Uploads(place.uploads)
    used, compared, free, coming = (files.begin() for _ in range(4))
    for drop in (used, compared, free, coming):
        dropped(files, drop, "photos/cats/1.jpg", b"abc")
    for drop in (used, compared, free):
        files.end(drop)
    run = tmp_path / "runs" / "a"
    shutil.copytree(Path(__file__).parents[2] / "data" / "run-of-version-0.1", run)
    config = (run / "config.yaml").read_text("utf-8")
    data = place.uploads / used / "photos"
    (run / "config.yaml").write_text(re.sub(r"data_path: .*", f"data_path: {data}", config))
    # A run of a comparison.
    inner = tmp_path / "runs" / "b" / "runs" / "cnn-seed83"
    inner.mkdir(parents=True)
    data = place.uploads / compared / "photos"
    (inner / "config.yaml").write_text(f"data: folder\ndata_path: {data}\n")
    found = {each.drop.path.name: (each.runs, each.is_free) for each in kept_uploads(place)}
    assert found == {
        used: (("a",), False),
        compared: (("b",), False),
        free: ((), True),
        coming: ((), False),
    }


def test_a_drop_is_on_its_way_until_nothing_comes_for_a_while(tmp_path):
    files = Uploads(tmp_path / "uploads")
    mark = tmp_path / "uploads" / files.begin() / ".unfinished"
    drop = Drop(mark.parent)
    assert drop.is_coming
    os.utime(mark, (0, 0))
    assert not drop.is_coming
    dropped(files, drop.path.name, "1.jpg", b"abc")
    assert drop.is_coming
    files.end(drop.path.name)
    assert not drop.is_coming


def test_pictures_are_small_and_of_images_in_the_shown_folder_only(photos):
    sources = Sources()
    source = sources.open(str(photos))
    assert {name: len(files) for name, files in source.by_class.items()} == {"cats": 6, "dogs": 6}
    import io

    with Image.open(io.BytesIO(sources.picture(source.key, source.by_class["cats"][0]))) as small:
        assert (small.format, small.size) == ("JPEG", (192, 19))
    with Image.open(io.BytesIO(sources_small(np.zeros((8, 6, 3), np.uint8)))) as pixels:
        assert pixels.size == (144, 192)
    for name in ("../secret.png", str(photos.parent / "secret.png"), "none.png", "train", "\0"):
        with pytest.raises((ConvscopeError, OSError)):
            sources.picture(source.key, name)
    with pytest.raises(DataError, match="not shown any more"):
        sources.picture("other", source.by_class["cats"][0])


def test_an_image_with_several_classes_is_in_each_of_them(tmp_path):
    rows = {"0.png": "cat", "1.png": "cat|dog", "2.png": "", "3.png": "dog"}
    for name in rows:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    lines = [f"{name},{classes}" for name, classes in rows.items()]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *lines]))
    source = Source(str(tmp_path), "t.csv")
    assert source.by_class == {"cat": ["0.png", "1.png"], "dog": ["1.png", "3.png"]}
    assert len(source.layout.names) == 4


def test_corrected_labels_are_a_new_table_that_keeps_all_else(photos, tmp_path):
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    source = Source(str(photos))
    wrong = "train/cats/1 ä.png"
    kept = Corrections(source, tmp_path / "labels")
    kept.decide(wrong, "dogs")
    kept.decide("train/cats/0 ä.png", "dogs")
    kept.decide("train/cats/0 ä.png", None)
    # A page that is loaded again knows what was decided.
    again = Corrections(Source(str(photos)), tmp_path / "labels")
    assert again.decided == {wrong: "dogs"}
    table = source.corrected(again.decided, tmp_path / "labels")
    with Path(table.path).open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: (row["label"], row["split"]) for row in csv.DictReader(file)}
    assert len(rows) == 12
    assert rows[wrong] == ("dogs", "train")
    assert rows["test/cats/1 ä.png"] == ("cats", "test")
    layout = read_contents(photos, str(table))
    assert {part: {c: len(f) for c, f in of.items()} for part, of in layout.parts.items()} == {
        "train": {"cats": 2, "dogs": 4},
        "test": {"cats": 3, "dogs": 3},
    }
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    # Other corrections are another file: runs that learnt from the first stay as they are.
    assert source.corrected({}, tmp_path / "labels") != table


def classes_of(folder: Path, names: list[str], image: str = "{}.png") -> Source:
    """Return a folder with four images in each of some classes."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * number,) * 3).save(folder / name / image.format(number))
    return Source(str(folder))


@pytest.mark.parametrize(
    "names",
    [
        ["corrosion", "crack", "crack;corrosion"],
        ["cat", "cat|dog", "dog"],
        ["large", "red", "red, large"],
        ["[a]", "[b]"],
    ],
)
def test_corrected_labels_keep_the_names_of_classes(tmp_path, names):
    source = classes_of(tmp_path / "photos", names)
    wrong = source.by_class[names[0]][0]
    table = source.corrected({wrong: names[-1]}, tmp_path / "labels")
    # As a command and an address spell it.
    layout = read_contents(tmp_path / "photos", str(LabelTable.parse(str(table))))
    assert layout.labels_of is None
    found = {name: len(files) for name, files in layout.parts["train"].items()}
    assert found == {**dict.fromkeys(names, 4), names[0]: 3, names[-1]: 5}
    assert wrong in layout.parts["train"][names[-1]]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize(
    ("names", "image"),
    [(["1.0", "2.0"], "{}.png"), ([" b", "a"], "{}.png"), (["a", "b"], "x\\{}.png")],
)
def test_corrected_labels_that_no_table_can_hold_are_refused(tmp_path, names, image):
    source = classes_of(tmp_path / "photos", names, image)
    wrong = source.by_class[names[0]][0]
    with pytest.raises(DataError, match="table"):
        source.corrected({wrong: names[1]}, tmp_path / "labels")
    assert not list((tmp_path / "labels").glob("*.csv"))


def test_two_pages_of_the_same_images_keep_each_others_decisions(photos, tmp_path):
    one, two = (Corrections(Source(str(photos)), tmp_path / "labels") for _ in range(2))
    two.decide("train/cats/0 ä.png", "dogs")
    two.decide("train/cats/1 ä.png", "dogs")
    one.decide("train/cats/2 ä.png", "dogs")
    one.decide("train/cats/1 ä.png", None)
    assert one.decided == two.decided == {f"train/cats/{number} ä.png": "dogs" for number in (0, 2)}


def test_decisions_of_many_pages_at_once_are_all_kept(photos, tmp_path):
    source = Source(str(photos))

    def decide(number: int) -> None:
        Corrections(source, tmp_path / "labels").decide(str(number), "dogs")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(decide, range(40)))
    decided = Corrections(source, tmp_path / "labels").decided
    assert sorted(decided, key=int) == [str(number) for number in range(40)]


def test_corrected_labels_keep_the_groups(photos, tmp_path):
    rows = ["file,label,who"]
    for path in sorted(photos.rglob("*.png")):
        name = path.relative_to(photos).as_posix()
        rows.append(f"{name},{path.parent.name},{path.stem[0]}")
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    source = Source(str(photos), f"{tmp_path / 't.csv'}:group=who")
    before = source.layout.group_of
    table = source.corrected({"train/cats/1 ä.png": "dogs"}, tmp_path / "labels")
    assert table.group == "group"
    layout = read_contents(photos, str(table))
    assert layout.group_of == before
    assert set(before.values()) == {"0", "1", "2"}
