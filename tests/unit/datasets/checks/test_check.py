"""Looking at data before training: each kind of finding, and no false alarm."""

import hashlib
import json
import shutil
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

import convscope
from convscope.datasets.checks import _looks
from convscope.datasets.checks import check as checking
from convscope.datasets.checks.check import check_dataset, check_folder
from convscope.datasets.checks.findings import CheckReport, DataFinding
from convscope.datasets.checks.near_copies import find_near_copies
from convscope.errors import DataError
from convscope.progress import Progress
from convscope.types import Dataset, SealedSplit, Split
from scenes import COPIES, scene


def photo(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Blobs of colour, as different from seed to seed as photos are; `size` is (height, width)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def fill(root: Path, classes: dict[str, int], first_seed: int = 0) -> Path:
    for label, (name, count) in enumerate(classes.items()):
        for number in range(count):
            seed = first_seed + 1000 * label + number
            save(photo(seed), root / name / f"{number:02d}.png")
    return root


def test_the_prints_of_a_picture_take_no_copy_of_its_pixels() -> None:
    pixels = np.array(photo(0, (2000, 1500)))
    tracemalloc.start()  # which knows NumPy's memory and not Pillow's
    prints = _looks._prints(pixels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.2 * pixels.nbytes
    expected = hashlib.sha256(b"(2000, 1500, 3)" + pixels.tobytes()).hexdigest()
    assert prints["key"] == expected


def test_large_pictures_are_decoded_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    running, most = [], []

    def slow(pixels):
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return prints(pixels)

    prints = _looks._prints
    monkeypatch.setattr(checking, "n_readers", lambda *args, **options: 4)
    monkeypatch.setattr(_looks, "_prints", slow)
    check_folder(tmp_path, progress=Progress())
    assert max(most) > 1
    most.clear()
    monkeypatch.setattr(_looks, "_LARGE_PIXELS", 64 * 64 - 1)
    check_folder(tmp_path, progress=Progress())
    assert most == [1] * 8


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A clean folder, not divided into parts."""
    return fill(tmp_path / "pets", {"cat": 12, "dog": 12})


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """A clean folder with train, val and test."""
    for place, part in enumerate(("train", "val", "test")):
        fill(tmp_path / "pets" / part, {"cat": 6, "dog": 6}, first_seed=100_000 * place)
    return tmp_path / "pets"


def check(root: Path) -> CheckReport:
    return check_folder(root, progress=Progress())


def kinds(report: CheckReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def only(report: CheckReport) -> DataFinding:
    (finding,) = report.findings
    return finding


def of_kind(report: CheckReport, kind: str) -> DataFinding:
    (finding,) = [finding for finding in report.findings if finding.kind == kind]
    return finding


# No false alarm


def test_a_clean_folder_gives_no_finding(pets: Path) -> None:
    report = check(pets)
    assert report.findings == ()
    assert not report.has_errors
    assert report.n_images == 24
    assert report.counts == {"train": {"cat": 12, "dog": 12}}
    assert report.summary() == f"{pets}: 24 images, nothing found"
    assert report.rows() == []


def test_a_clean_divided_folder_gives_no_finding(divided: Path) -> None:
    report = check(divided)
    assert report.findings == ()
    assert report.counts == {part: {"cat": 6, "dog": 6} for part in ("train", "val", "test")}


def test_many_different_photos_are_no_duplicates(tmp_path: Path) -> None:
    assert check(fill(tmp_path, {"a": 250, "b": 250})).findings == ()


def test_drawings_on_plain_paper_are_no_duplicates(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for name in ("a", "b"):
        for number in range(40):
            paper = Image.new("RGB", (64, 64), "white")
            corners = [tuple(point) for point in chance.integers(4, 60, (5, 2)).tolist()]
            ImageDraw.Draw(paper).line(corners, fill="black", width=2)
            save(paper, tmp_path / name / f"{number}.png")
    assert check(tmp_path).findings == ()


def test_flat_colours_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    for name, colours in {"a": ("red", "blue", "white"), "b": ("green", "black", "gray")}.items():
        for colour in colours:
            save(Image.new("RGB", (32, 32), colour), tmp_path / name / f"{colour}.png")
    assert kinds(check(tmp_path)) == ["blank"]


def test_images_without_anything_to_see_are_named(pets: Path) -> None:
    chance = np.random.default_rng(0)
    # The noise of a camera whose lens is covered, and one point on paper.
    dark = chance.integers(0, 4, (64, 64, 3), dtype=np.uint8)
    save(Image.fromarray(dark), pets / "dog" / "covered.png")
    paper = Image.new("RGB", (64, 64), "white")
    paper.putpixel((20, 30), (0, 0, 0))
    save(paper, pets / "dog" / "point.png")
    finding = only(check(pets))
    assert (finding.severity, finding.kind) == ("warning", "blank")
    assert finding.files == ("dog/covered.png",)
    assert finding.message.endswith("one colour: 1")
    assert "transparent" not in finding.remedy
    # A pinhole, which no thumbnail shows.
    sheet = Image.new("RGB", (1000, 1000), "white")
    ImageDraw.Draw(sheet).rectangle((400, 300, 407, 307), fill="black")
    save(sheet, pets / "dog" / "hole.png")
    save(Image.new("RGB", (1000, 1000), "white"), pets / "cat" / "empty.png")
    report = check(pets)
    assert of_kind(report, "blank").files == ("cat/empty.png", "dog/covered.png")
    assert kinds(report) == ["blank", "mixed-sizes"]
    (pets / "dog" / "hole.png").unlink()
    (pets / "cat" / "empty.png").unlink()
    # White on nothing, which becomes white.
    drawn = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(drawn).ellipse((10, 10, 50, 50), fill="white")
    save(drawn, pets / "cat" / "white.png")
    finding = of_kind(check(pets), "blank")
    assert finding.files == ("cat/white.png", "dog/covered.png")
    assert finding.message.endswith("one colour: 2, of which 1 may have transparent pixels")
    assert "White drawings on a transparent background need" in finding.remedy


def test_blank_images_of_a_loaded_set_are_named() -> None:
    images = np.stack([np.asarray(photo(seed, (32, 32))) for seed in range(8)])
    images[3] = 255
    ids = np.array([f"train/{place}" for place in range(8)])
    data = Dataset("made", ("a", "b"), Split(images, np.array([0, 1] * 4), ids), None, None)
    finding = only(check_dataset(data, progress=Progress()))
    assert (finding.kind, finding.files) == ("blank", ("train/3",))


def test_nothing_is_written(pets: Path) -> None:
    def look() -> list[tuple[str, int, int]]:
        return [
            (str(path), path.stat().st_mtime_ns, path.stat().st_size)
            for path in sorted(pets.parent.rglob("*"))
        ]

    before = look()
    check(pets)
    assert look() == before


# Files that cannot be read


def test_broken_and_truncated_files_are_named_with_the_reason(pets: Path) -> None:
    fill(pets, {"cat": 30, "dog": 30})
    (pets / "cat" / "03.png").write_bytes(b"")
    content = (pets / "dog" / "05.png").read_bytes()
    (pets / "dog" / "05.png").write_bytes(content[: len(content) // 2])
    (pets / "dog" / "06.png").write_text("not a picture")
    report = check(pets)
    finding = only(report)
    assert (finding.severity, finding.kind) == ("error", "unreadable")
    assert finding.files == ("cat/03.png", "dog/05.png", "dog/06.png")
    reasons = ("is empty", "is truncated", "is not a whole image")
    for line, name, reason in zip(finding.details, finding.files, reasons, strict=True):
        assert line.startswith(f"{name} {reason}")
    assert report.n_images == 60
    assert report.counts == {"train": {"cat": 29, "dog": 28}}
    assert report.has_errors


def test_a_class_that_is_mostly_broken(divided: Path) -> None:
    (divided / "val" / "dog" / "00.png").write_bytes(b"x")
    finding = of_kind(check(divided), "mostly-unreadable")
    assert finding.severity == "error"
    assert finding.message == "1 of 6 images in class 'dog' of val cannot be read"
    assert finding.files == ("val/dog/00.png",)


# Folders


def test_an_empty_class(pets: Path) -> None:
    (pets / "mouse").mkdir()
    report = check(pets)
    finding = only(report)
    assert (finding.severity, finding.kind) == ("error", "empty-class")
    assert "class 'mouse'" in finding.message
    assert finding.files == ("mouse",)
    assert report.counts["train"]["mouse"] == 0


def test_a_single_class(tmp_path: Path) -> None:
    finding = only(check(fill(tmp_path, {"cat": 3})))
    assert (finding.severity, finding.kind) == ("error", "single-class")


def test_classes_that_differ_between_parts(divided: Path) -> None:
    (divided / "test" / "dog").rename(divided / "test" / "dogs")
    finding = of_kind(check(divided), "classes-differ")
    assert finding.severity == "error"
    assert "test lacks 'dog'; only test has 'dogs'" in finding.message
    assert finding.files == ("train/dog", "test/dogs")


@pytest.mark.parametrize("empty", [False, True])
def test_a_class_that_a_part_lacks(divided: Path, empty: bool) -> None:
    shutil.rmtree(divided / "test" / "dog")
    if empty:
        (divided / "test" / "dog").mkdir()
    report = check(divided)
    finding = only(report)
    assert (finding.severity, finding.kind) == ("warning", "class-without-part")
    assert finding.message == "no test image of class 'dog'; its score is unknown"
    assert report.counts["test"]["dog"] == 0


@pytest.mark.parametrize(("part", "severity"), [("", "error"), ("test", "warning")])
def test_a_class_of_one_image(tmp_path: Path, part: str, severity: str) -> None:
    fill(tmp_path / part, {"cat": 5, "dog": 1})
    if part:
        fill(tmp_path / "train", {"cat": 5, "dog": 5}, first_seed=50_000)
    finding = only(check(tmp_path))
    assert (finding.severity, finding.kind) == (severity, "single-image-class")
    assert finding.files == ("dog",)


def test_a_class_too_rare_for_each_part(tmp_path: Path) -> None:
    finding = only(check(fill(tmp_path, {"cat": 9, "dog": 2, "owl": 9})))
    assert (finding.severity, finding.kind) == ("warning", "class-without-part")
    assert "no test image of class 'dog'; its score is unknown" in finding.message
    assert finding.files == ("dog",)


@pytest.mark.parametrize(
    ("counts", "refused"),
    [
        ({"a": 2, "b": 2}, True),
        ({"a": 20, "b": 1}, True),
        ({"a": 20, "b": 2}, False),
        ({"a": 20, "b": 2, "c": 20}, False),
        ({f"c{number}": 3 for number in range(10)}, False),
    ],
)
@pytest.mark.parametrize("given", [(), ("test",)])
def test_what_training_will_refuse_is_an_error(
    tmp_path: Path, counts: dict[str, int], refused: bool, given: tuple[str, ...]
) -> None:
    fill(tmp_path / "train" if given else tmp_path, counts)
    for part in given:
        fill(tmp_path / part, dict.fromkeys(counts, 2), first_seed=500_000)
    report = check(tmp_path)
    # One image to learn from is enough where those to judge by are given.
    assert report.has_errors == (refused and not given)
    if not report.has_errors:
        convscope.load(tmp_path)
        return
    with pytest.raises(DataError) as caught:
        convscope.load(tmp_path)
    (found,) = (each for each in report.findings if each.severity == "error")
    assert found.kind in ("single-image-class", "too-few-images")
    if found.kind == "too-few-images":
        assert found.message == str(caught.value)


@pytest.mark.parametrize(("many", "found"), [(30, True), (29, False)])
def test_unbalanced_classes(tmp_path: Path, many: int, found: bool) -> None:
    report = check(fill(tmp_path, {"cat": many, "dog": 3}))
    assert kinds(report) == (["imbalance"] if found else [])
    if found:
        assert only(report).severity == "warning"
        assert "'cat' has 30 images, 'dog' has 3" in only(report).message


def test_what_is_ignored_is_said(divided: Path) -> None:
    (divided / ".DS_Store").write_text("x")
    save(photo(1), divided / "train" / "cat" / "._00.png")
    (divided / "train" / "cat" / "labels.csv").write_text("x")
    (divided / "train" / "dog" / "film.JXL").write_bytes(b"x")
    (divided / "train" / "dog" / "raw.CR2").write_bytes(b"x")
    save(photo(2), divided / "train" / "cover.png")
    save(photo(3), divided / "raw" / "x.png")
    (divided / "train" / "dog" / "loop").symlink_to(divided / "train")
    report = check(divided)
    found = {finding.kind: (finding.severity, finding.files) for finding in report.findings}
    assert found == {
        "unsupported-format": ("warning", ("train/dog/film.JXL", "train/dog/raw.CR2")),
        "stray": ("warning", ("train/cover.png",)),
        "unused-folder": ("note", ("raw",)),
        "hidden": ("note", (".DS_Store", "train/cat/._00.png")),
        "not-an-image": ("note", ("train/cat/labels.csv",)),
        "loop": ("note", ("train/dog/loop",)),
    }
    assert not report.has_errors


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        check(tmp_path / "gone")


# Odd kinds, sizes and shapes


def save_odd(kind: str, path: Path) -> Path:
    if kind == "cmyk":
        return save(photo(7).convert("CMYK"), path.with_suffix(".jpg"))
    if kind == "deep":
        deep = np.asarray(photo(7).convert("L")).astype(np.uint16) * 257
        return save(Image.fromarray(deep), path.with_suffix(".png"))
    if kind == "palette":
        return save(photo(7).quantize(64), path.with_suffix(".png"))
    if kind == "transparent":
        image = photo(7)
        image.putalpha(200)
        return save(image, path.with_suffix(".png"))
    if kind == "animated":
        frames = {"save_all": True, "append_images": [photo(8)]}
        return save(photo(7), path.with_suffix(".webp"), **frames)
    if kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        return save(photo(7), path.with_suffix(".jpg"), exif=exif)
    return save(photo(7, {"tiny": (64, 7), "elongated": (20, 81)}[kind]), path.with_suffix(".png"))


@pytest.mark.parametrize(
    ("kind", "severity", "also"),
    [
        ("cmyk", "note", []),
        ("deep", "note", []),
        ("palette", "note", []),
        ("transparent", "note", []),
        ("animated", "warning", []),
        ("rotated", "note", []),
        ("tiny", "warning", ["elongated", "mixed-sizes"]),
        ("elongated", "warning", ["mixed-sizes"]),
    ],
)
def test_odd_images(tmp_path: Path, kind: str, severity: str, also: list[str]) -> None:
    fill(tmp_path, {"cat": 3, "dog": 3}, first_seed=40)
    path = save_odd(kind, tmp_path / "cat" / "odd")
    report = check(tmp_path)
    assert kinds(report) == [kind, *also]
    finding = report.findings[0]
    assert finding.severity == severity
    assert finding.files == (path.relative_to(tmp_path).as_posix(),)
    assert finding.message.endswith(": 1")


@pytest.mark.parametrize("size", [(8, 8), (20, 80), (80, 20)])
def test_sizes_at_the_limits_are_not_odd(tmp_path: Path, size: tuple[int, int]) -> None:
    for name in ("cat", "dog"):
        for number in range(3):
            image = photo(sum(name.encode()) + number, size)
            save(image, tmp_path / name / f"{number}.png")
    assert not {"tiny", "elongated"} & set(kinds(check(tmp_path)))


def test_where_shapes_are_lost_the_ways_to_keep_them_are_named(pets: Path) -> None:
    save(photo(77, (20, 90)), pets / "cat" / "long.png")
    findings = check(pets).findings
    assert [finding.kind for finding in findings] == ["elongated", "mixed-sizes"]
    for finding in findings:
        assert "--fit crop" in finding.remedy
        assert "--fit pad" in finding.remedy


def test_mixed_sizes(pets: Path) -> None:
    save(photo(77, (50, 90)), pets / "cat" / "wide.png")
    finding = only(check(pets))
    assert (finding.severity, finding.kind) == ("note", "mixed-sizes")
    assert finding.message == (
        "images of 2 sizes, from 64 x 64 pixels to 90 pixels wide and 50 high; "
        "half are wider than 64 and half higher than 64 pixels"
    )


# Duplicates


def near(name: str, image: Image.Image) -> Image.Image:
    """The image again, as it comes back from a thumbnail, a brighter copy or an old JPEG."""
    if name == "smaller":
        return image.resize((48, 48), Image.Resampling.BILINEAR).resize((64, 64))
    if name == "brighter":
        return ImageEnhance.Brightness(image).enhance(1.1)
    pixels = np.asarray(image).astype(int) + np.random.default_rng(0).integers(-6, 7, (64, 64, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_exact_duplicates_within_a_part(pets: Path) -> None:
    # The same pixels, not the same bytes.
    save(Image.open(pets / "cat" / "00.png"), pets / "cat" / "x.bmp")
    save(Image.open(pets / "cat" / "00.png"), pets / "cat" / "y.bmp")
    finding = only(check(pets))
    assert (finding.severity, finding.kind) == ("warning", "duplicates")
    assert finding.groups == (("cat/00.png", "cat/x.bmp", "cat/y.bmp"),)
    assert "2 too many in 1 group" in finding.message


def test_exact_duplicates_across_parts(divided: Path) -> None:
    for number in (0, 1, 2):
        image = Image.open(divided / "train" / "cat" / f"0{number}.png")
        save(image, divided / "test" / "cat" / f"0{number}.png")
    save(Image.open(divided / "val" / "dog" / "03.png"), divided / "test" / "dog" / "03.png")
    report = check(divided)
    finding = only(report)
    assert (finding.severity, finding.kind) == ("error", "duplicates-across-parts")
    assert "3 of test (25.0%) with a twin in train" in finding.message
    assert "1 of test (8.3%) with a twin in val" in finding.message
    assert ("train/cat/00.png", "test/cat/00.png") in finding.groups
    assert ("val/dog/03.png", "test/dog/03.png") in finding.groups
    assert len(finding.groups) == 4
    assert report.has_errors


def test_groups_across_parts(divided: Path) -> None:
    rows = ["file,label,split,patient"]
    for path in sorted(divided.rglob("*.png")):
        name = path.relative_to(divided).as_posix()
        part, label, _ = name.split("/")
        rows.append(f"{name},{label},{part},{part} {path.stem}")
    table = divided / "t.csv"
    table.write_text("\n".join(rows))
    labels = "t.csv:group=patient"
    assert not check_folder(divided, labels, progress=Progress()).has_errors
    known = "\n".join(rows).replace("test 01", "train 01").replace("val 02", "train 02")
    table.write_text(known)
    report = check_folder(divided, labels, progress=Progress())
    (finding,) = [each for each in report.findings if each.severity == "error"]
    assert finding.kind == "groups-across-parts"
    assert finding.message.endswith("part: 1 of val also in train, 1 of test also in train")
    assert finding.files == ("train 01", "train 02")


def test_one_image_under_two_labels(pets: Path) -> None:
    save(Image.open(pets / "cat" / "00.png"), pets / "dog" / "00.png")
    report = check(pets)
    assert kinds(report) == ["duplicates-across-classes", "duplicates"]
    finding = report.findings[0]
    assert finding.severity == "error"
    assert finding.files == ("cat/00.png", "dog/00.png")
    assert "1 time ('cat' and 'dog')" in finding.message


@pytest.mark.parametrize("how", ["smaller", "brighter", "noisy"])
def test_near_duplicates_within_a_part(pets: Path, how: str) -> None:
    save(near(how, photo(500)), pets / "cat" / "a.png")
    save(photo(500), pets / "cat" / "b.png")
    finding = only(check(pets))
    assert (finding.severity, finding.kind) == ("note", "near-duplicates")
    assert finding.groups == (("cat/a.png", "cat/b.png"),)
    assert "--set split.near_copies=true" in finding.remedy
    assert finding.settings == {"split.near_copies": "true"}


def test_many_near_duplicates_are_a_warning(pets: Path) -> None:
    for number in range(5):
        save(near("brighter", photo(500 + number)), pets / "cat" / f"a{number}.png")
        save(photo(500 + number), pets / "cat" / f"b{number}.png")
    finding = of_kind(check(pets), "near-duplicates")
    assert finding.severity == "warning"
    assert "5 too many in 5 groups" in finding.message


def test_where_parts_are_given_no_setting_keeps_near_duplicates_together(divided: Path) -> None:
    for part in ("train", "test"):
        save(near("brighter", photo(500)), divided / part / "cat" / f"{part}.png")
    save(photo(500), divided / "train" / "cat" / "b.png")
    findings = {each.kind: each for each in check(divided).findings}
    assert {"train", "val", "test"} == {path.name for path in divided.iterdir()}
    assert findings["near-duplicates"].settings == {}
    assert "near_copies" not in findings["near-duplicates"].remedy


@pytest.mark.parametrize("how", ["smaller", "brighter", "noisy"])
def test_near_duplicates_across_parts_and_classes(divided: Path, how: str) -> None:
    copy = near(how, Image.open(divided / "train" / "cat" / "02.png"))
    save(copy, divided / "val" / "dog" / "02.png")
    report = check(divided)
    assert kinds(report) == ["near-duplicates-across-parts", "near-duplicates-across-classes"]
    for finding in report.findings:
        assert finding.severity == "warning"
        assert finding.groups == (("train/cat/02.png", "val/dog/02.png"),)
    assert "1 of val (8.3%) with a twin in train" in report.findings[0].message
    assert not report.has_errors


def test_other_colours_are_no_near_duplicate(pets: Path) -> None:
    red, green, blue = photo(500).split()
    save(Image.merge("RGB", (red, green, blue)), pets / "cat" / "a.png")
    save(Image.merge("RGB", (blue, green, red)), pets / "cat" / "b.png")
    assert check(pets).findings == ()


@pytest.mark.parametrize(
    ("how", "where", "words"),
    [
        ("mirrored", "1 of val (7.7%) with a twin in train (1 mirrored)", "mirrored"),
        ("turned left", "(1 turned)", "turned left by 90 degrees"),
        ("turned right", "(1 turned)", "turned right by 90 degrees"),
        ("turned round", "(1 turned)", "turned by 180 degrees"),
        ("upside down", "(1 turned)", "mirrored top to bottom"),
    ],
)
def test_a_turned_copy_is_said_to_be_turned(
    divided: Path, how: str, where: str, words: str
) -> None:
    copy, _ = COPIES[how]
    save(scene(3), divided / "train" / "cat" / "z.png")
    save(copy(scene(3)), divided / "val" / "cat" / "z.png")
    report = check(divided)
    finding = of_kind(report, "near-duplicates-across-parts")
    assert where in finding.message
    assert finding.groups == (("train/cat/z.png", "val/cat/z.png"),)
    assert finding.ways == (("", words),)
    (row,) = [row for row in report.rows() if row[1] == finding.kind]
    assert row[3] == f"train/cat/z.png = val/cat/z.png ({words})"


def test_copies_that_were_made_before_the_split_are_found(tmp_path: Path) -> None:
    for number in range(30):
        save(scene(number), tmp_path / "train" / "cat" / f"{number}.jpg", quality=92)
        save(scene(100 + number), tmp_path / "train" / "dog" / f"{number}.jpg", quality=92)
    for number in range(10):
        mirrored, _ = COPIES["mirrored"]
        turned, _ = COPIES["turned left"]
        val = tmp_path / "val"
        save(mirrored(scene(number)), val / "cat" / f"a{number}.jpg", quality=92)
        save(turned(scene(100 + number)), val / "dog" / f"b{number}.jpg", quality=92)
        save(scene(200 + number), val / "dog" / f"c{number}.jpg", quality=92)
    finding = only(check(tmp_path))
    assert finding.kind == "near-duplicates-across-parts"
    assert "20 of val (66.7%) with a twin in train (10 mirrored and 10 turned)" in finding.message
    assert len(finding.groups) == 20


def test_equal_images_have_the_way_of_the_one_that_stands_for_them(pets: Path) -> None:
    mirrored, _ = COPIES["mirrored"]
    save(scene(3), pets / "cat" / "x.png")
    for name in ("y.png", "z.bmp"):
        save(mirrored(scene(3)), pets / "cat" / name)
    finding = of_kind(check(pets), "near-duplicates")
    assert finding.groups == (("cat/x.png", "cat/y.png", "cat/z.bmp"),)
    assert finding.ways == (("", "mirrored", "mirrored"),)
    assert "2 too many in 1 group (2 mirrored)" in finding.message


def test_a_search_that_is_cut_short_says_so(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = partial(find_near_copies, max_looked_at=100)
    monkeypatch.setattr("convscope.datasets.checks._twins.find_near_copies", search)
    finding = only(check(pets))
    assert (finding.severity, finding.kind) == ("note", "near-duplicates-incomplete")


# The report


@pytest.fixture
def report(pets: Path) -> CheckReport:
    """A report with an error, a warning and a note."""
    (pets / "cat" / "03.png").write_bytes(b"")
    save(Image.open(pets / "cat" / "00.png"), pets / "cat" / "x.bmp")
    for name in ("a", "b", "c", "d", "é"):
        (pets / "dog" / f"{name}.txt").write_text("x")
    return check(pets)


def test_the_severest_come_first(report: CheckReport) -> None:
    assert kinds(report) == ["unreadable", "duplicates", "not-an-image"]
    assert [finding.severity for finding in report.findings] == ["error", "warning", "note"]
    assert report.summary().endswith("pets: 25 images, 1 error, 1 warning, 1 note")


def test_json_has_everything_and_reads_back(report: CheckReport) -> None:
    text = report.to_json()
    text.encode()
    read = json.loads(text)
    assert read.pop("has_errors") is True
    findings = [
        DataFinding(
            **{
                **finding,
                "files": tuple(finding["files"]),
                "groups": tuple(map(tuple, finding["groups"])),
                "ways": tuple(map(tuple, finding["ways"])),
                "details": tuple(finding["details"]),
            }
        )
        for finding in read.pop("findings")
    ]
    assert CheckReport(**read, findings=tuple(findings)) == report
    assert "é.txt" in text


def test_rows_name_the_first_files_and_count_the_rest(report: CheckReport) -> None:
    unreadable, twins, others = report.rows()
    assert unreadable[:2] == ("error", "unreadable")
    assert unreadable[3] == "cat/03.png is empty (0 bytes)"
    assert twins[3] == "cat/00.png = cat/x.bmp"
    assert others[3] == "dog/a.txt\ndog/b.txt\ndog/c.txt\nand 2 more"
    assert others[2:] == (report.findings[2].message, others[3], report.findings[2].remedy)
    assert len(report.rows(n_files=5)[2][3].splitlines()) == 5


def test_names_that_are_not_utf8_can_be_printed(pets: Path) -> None:
    (pets / "b\udcff").mkdir()
    for number in range(3):
        content = (pets / "dog" / f"0{number}.png").read_bytes()
        (pets / "dog" / f"0{number}.png").rename(pets / "b\udcff" / f"{number}.png")
        assert content == (pets / "b\udcff" / f"{number}.png").read_bytes()
    report = check(pets)
    assert kinds(report) == ["unreadable", "mostly-unreadable"]
    assert report.counts["train"][r"b\udcff"] == 0
    report.to_json().encode()
    str(report.rows()).encode()


# Datasets in memory


@pytest.mark.slow
def test_digits_are_balanced_and_have_no_equal_images_across_parts() -> None:
    dataset = convscope.load("digits", progress=Progress())
    report = check_dataset(dataset, progress=Progress())
    assert dataset.val is not None
    assert dataset.test is not None
    assert report.source == "digits"
    assert report.n_images == 1797
    for part, split in (("train", dataset.train), ("val", dataset.val), ("test", dataset.test)):
        assert sum(report.counts[part].values()) == len(split)
        assert list(report.counts[part].values()) == np.bincount(split.labels).tolist()
    # No image of it is there twice: seen by comparing all pixels, without the code under test.
    opened = dataset.test.open(lambda _: None)
    images = np.concatenate([dataset.train.images, dataset.val.images, opened.images])
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797
    assert not report.has_errors
    assert report.findings == ()


def test_leaks_in_a_dataset_are_found() -> None:
    def split(part: str, seeds: list[int], labels: list[int]) -> Split:
        images = np.stack([np.asarray(photo(seed)) for seed in seeds])
        ids = np.array([f"{part}/{place}" for place in range(len(seeds))])
        return Split(images, np.array(labels, dtype=np.int64), ids)

    train = split("train", [1, 2, 3, 4], [0, 0, 1, 1])
    test = split("test", [5, 6, 7, 2], [0, 0, 1, 1])
    dataset = Dataset("made", ("a", "b"), train, test=SealedSplit(test))
    report = check_dataset(dataset, progress=Progress())
    assert kinds(report) == ["duplicates-across-parts", "duplicates-across-classes"]
    for finding in report.findings:
        assert finding.severity == "error"
        assert finding.groups == (("train/1", "test/3"),)
    assert "1 of test (25.0%) with a twin in train" in report.findings[0].message
    assert report.counts == {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}


# Sources


@pytest.mark.parametrize(
    ("of_cats", "of_dogs", "message"),
    [
        (
            ("jpg", (64, 64)),
            ("png", (64, 64)),
            "the format of a file alone tells the class of 100% of the images (the most frequent "
            "class is that of 60%): 120 of 120 images in JPEG are of 'cat'",
        ),
        (
            ("png", (64, 64)),
            ("png", (48, 64)),
            "the size of a file alone tells the class of 100% of the images (the most frequent "
            "class is that of 60%): 120 of 120 images of 64 x 64 pixels are of 'cat'",
        ),
    ],
)
def test_classes_that_their_files_tell_apart_are_reported(
    tmp_path: Path, of_cats, of_dogs, message
) -> None:
    for name, (suffix, size), count in (("cat", of_cats, 120), ("dog", of_dogs, 80)):
        for number in range(count):
            save(photo(1000 * count + number, size), tmp_path / name / f"{number}.{suffix}")
    finding = of_kind(check(tmp_path), "told-by-files")
    assert finding.severity == "warning"
    assert finding.message == message
    assert len({name.split("/")[0] for name in finding.files}) == 1


def test_one_class_in_another_format_is_reported(tmp_path: Path) -> None:
    for label, name in enumerate(("ant", "bee", "cat", "dog", "elk")):
        for number in range(22):
            suffix = "png" if name == "dog" and number else "jpg"
            save(photo(1000 * label + number), tmp_path / name / f"{number}.{suffix}")
    save(photo(9000), tmp_path / "ant" / "22.png")
    finding = of_kind(check(tmp_path), "told-by-files")
    assert finding.message == (
        "the format of a file alone tells the images of 'dog': 21 of its 22 are in PNG, and 1 of "
        "other classes"
    )
    assert len(finding.files) == 21


def test_sizes_that_differ_in_each_class_alike_tell_nothing(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        for number in range(40):
            size = tuple(chance.choice([24, 32, 40, 48, 56, 64], 2).tolist())
            suffix = chance.choice(["png", "jpg"])
            save(photo(int(chance.integers(2**31)), size), tmp_path / name / f"{number}.{suffix}")
    assert "told-by-files" not in kinds(check(tmp_path))


def test_few_images_in_other_formats_tell_nothing(tmp_path: Path) -> None:
    for name, suffix in (("cat", "jpg"), ("dog", "png")):
        for number in range(5):
            save(
                photo(100 * len(suffix) + 7 * (name == "dog") * 100 + number),
                tmp_path / name / f"{number}.{suffix}",
            )
    assert "told-by-files" not in kinds(check(tmp_path))


# Series


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of two kinds: a camera that moves over a scene."""
    root = tmp_path_factory.mktemp("videos") / "clips"
    for video in range(20):
        wide = scene(video).resize((128, 96))
        for frame in range(6):
            view = wide.crop((5 * frame, 0, 5 * frame + 96, 96))
            save(view, root / ("cat", "dog")[video % 2] / f"{video:02d}-{frame}.png")
    return root


def test_masks_beside_their_images_are_reported(tmp_path: Path) -> None:
    fill(tmp_path, {"crack": 8, "hole": 8})
    for path in sorted(tmp_path.rglob("*.png"))[:10]:
        save(Image.open(path).convert("L").point(lambda value: 255 * (value > 99)), mask_of(path))
    report = check(tmp_path)
    finding = of_kind(report, "namesakes")
    assert finding.severity == "warning"
    assert finding.message.endswith(": 10")
    assert finding.files[:2] == ("crack/00.bmp", "crack/00.png")
    assert len(finding.files) == 20
    dataset = convscope.load(tmp_path, progress=Progress())
    (note,) = [note for note in dataset.notes if "share their name" in note]
    assert note.startswith(
        "10 images share their name with another ('crack/00.bmp', 'crack/00.png'): move masks, "
    )
    mask_of(tmp_path / "crack/00.png").unlink()
    assert "namesakes" not in kinds(check(tmp_path))


def mask_of(path: Path) -> Path:
    return path.with_suffix(".bmp")


def test_frames_are_reported_with_the_setting_that_keeps_them_together(clips: Path) -> None:
    finding = of_kind(check(clips), "series")
    assert finding.severity == "warning"
    assert "% of the pairs (5% would be expected of unrelated images" in finding.message
    assert "train with --set split.group='(.*[^0-9])[0-9]+[.]'" in finding.remedy
    assert set(finding.files) <= {str(path.relative_to(clips)) for path in clips.rglob("*.png")}
    assert len(finding.files) == len(set(finding.files)) > 60


def test_frames_whose_groups_are_known_are_not_reported(clips: Path, tmp_path: Path) -> None:
    names = sorted(str(path.relative_to(clips)) for path in clips.rglob("*.png"))
    table = tmp_path / "labels.csv"
    rows = [f"{name},{name.split('/')[0]},{name.split('-')[0]}" for name in names]
    table.write_text("\n".join(["file,label,clip", *rows]) + "\n")
    report = check_folder(clips, f"{table}:group=clip", progress=Progress())
    assert "series" not in kinds(report)


def test_frames_that_are_dealt_into_folders_of_parts_are_reported(
    clips: Path, tmp_path: Path
) -> None:
    def finding_of(part_of) -> DataFinding | None:
        root = tmp_path / "parts"
        shutil.rmtree(root, ignore_errors=True)
        for path in clips.rglob("*.png"):
            place = root / part_of(path.stem) / path.relative_to(clips)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        found = [finding for finding in check(root).findings if finding.kind == "series"]
        return found[0] if found else None

    parts = ("train", "train", "val", "test", "train", "val")
    torn = finding_of(lambda stem: parts[int(stem[-1])])
    assert torn is not None
    assert torn.message.startswith("neighbours by name in different parts")
    assert torn.settings == {}
    assert finding_of(lambda stem: parts[int(stem[:2]) % 6]) is None
    # Validation images will be drawn from such training images.
    rest = finding_of(lambda stem: "test" if int(stem[:2]) < 4 else "train")
    assert rest is not None
    assert rest.message.startswith("neighbours by name that look alike")
    assert rest.settings == {"split.group": "(.*[^0-9])[0-9]+[.]"}


def test_frames_with_several_labels_are_reported(clips: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    names = sorted(str(path.relative_to(clips)) for path in clips.rglob("*.png"))
    rows = [f"{name},1,{int('dog' in name)}" for name in names]
    table.write_text("\n".join(["file,animal,dog", *rows]) + "\n")
    report = check_folder(clips, f"{table}:classes=animal+dog", progress=Progress())
    assert of_kind(report, "series").settings == {"split.group": "(.*[^0-9])[0-9]+[.]"}


def test_frames_that_a_table_puts_into_several_parts_are_reported(
    clips: Path, tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    names = sorted(str(path.relative_to(clips)) for path in clips.rglob("*.png"))

    def finding_of(part_of) -> DataFinding | None:
        rows = [f"{name},{name.split('/')[0]},{part_of(name)}" for name in names]
        table.write_text("\n".join(["file,label,split", *rows]) + "\n")
        report = check_folder(clips, str(table), progress=Progress())
        return next((each for each in report.findings if each.kind == "series"), None)

    parts = ("train", "train", "val", "test", "train", "val")
    torn = finding_of(lambda name: parts[int(name[-5])])
    assert torn is not None
    assert torn.message.startswith("neighbours by name in different parts that look alike")
    assert torn.remedy.endswith("give each series to one part.")
    assert finding_of(lambda name: parts[int(name[4:6]) % 6]) is None


def test_copies_beside_their_originals_are_no_series(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(40):
            for copy in ("", " (1)"):
                image = photo(number + 100 * (name == "dog"))
                save(image, tmp_path / name / f"{number}{copy}.png")
    assert kinds(check(tmp_path)) == ["duplicates"]


def test_a_table_names_three_files_of_a_group_and_counts_the_others(pets: Path) -> None:
    for number in range(4):
        save(photo(0), pets / "cat" / f"copy{number}.png")
    (row,) = check(pets).rows()
    assert row[3] == "cat/00.png = cat/copy0.png = cat/copy1.png and 2 more"
