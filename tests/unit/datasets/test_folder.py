from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.division.splits import divide
from convscope.datasets.folder import load_folder
from convscope.errors import DataError
from convscope.types import Dataset


def draw(path: Path, *, seed: int = 0, size: tuple[int, int] = (20, 20), mode: str = "RGB") -> Path:
    """Write an image of noise; `size` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def fill(root: Path, classes: dict[str, int], **options: object) -> Path:
    for label, (name, count) in enumerate(sorted(classes.items())):
        for number in range(count):
            seed = 1000 * label + number
            draw(root / name / f"{number:02d}.png", seed=seed, **options)
    return root


def load(root: Path, image_size: int | None = None) -> Dataset:
    return load_folder(DataRequest(path=root, image_size=image_size))


def snapshot(root: Path) -> list[tuple[str, int, int]]:
    return [
        (str(path.relative_to(root)), path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
    ]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return fill(tmp_path / "pets", {"dog": 4, "Cat": 3, "10": 2, "9": 2})


def test_it_is_registered() -> None:
    assert DATASETS.get("folder") is load_folder
    assert DATASETS.entry("folder").summary.startswith("Your own folder of images")


def test_a_folder_for_each_class(pets: Path) -> None:
    before = snapshot(pets)
    dataset = load(pets)
    assert dataset.name == "pets"
    assert dataset.class_names == ("10", "9", "Cat", "dog")  # plain order
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert dataset.train.labels.dtype == np.int64
    assert dataset.train.ids[:3].tolist() == ["10/00.png", "10/01.png", "9/00.png"]
    assert dataset.val is None
    assert dataset.test is None
    for image, image_id in zip(dataset.train.images, dataset.train.ids, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(pets / image_id)))
    assert snapshot(pets) == before


def test_parts_above_the_classes(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"b": 3, "a": 2})
    fill(tmp_path / "validation", {"a": 1, "b": 1})
    fill(tmp_path / "test", {"b": 2, "a": 1})
    dataset = load(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert dataset.val is not None
    assert dataset.val.ids.tolist() == ["validation/a/00.png", "validation/b/00.png"]
    assert dataset.test is not None
    assert dataset.test.labels.tolist() == [0, 1, 1]
    looked: list[int] = []
    opened = dataset.test.open(looked.append)
    assert looked == [3]
    path = tmp_path / "test/b/01.png"
    np.testing.assert_array_equal(opened.images[2], np.asarray(Image.open(path)))


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_validation_has_several_names(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "train", {"a": 2, "b": 2})
    fill(tmp_path / name, {"a": 1, "b": 1})
    val = load(tmp_path).val
    assert val is not None
    assert len(val) == 2


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = load(fill(tmp_path, {"bus": 2, "train": 2}))
    assert dataset.class_names == ("bus", "train")
    assert dataset.val is None


def test_images_below_a_class_folder_count_for_it(pets: Path) -> None:
    draw(pets / "dog" / "puppies" / "x" / "p.png", seed=77)
    dataset = load(pets)
    assert dataset.train.ids[-1] == "dog/puppies/x/p.png"
    assert dataset.train.labels[-1] == 3


# Sizes and channels


def note_of(dataset: Dataset, words: str) -> str:
    (note,) = [note for note in dataset.notes if words in note]
    return note


def test_one_small_size_is_kept_even_if_not_square(tmp_path: Path) -> None:
    dataset = load(fill(tmp_path, {"a": 2, "b": 2}, size=(24, 96)))
    assert dataset.image_shape == (24, 96, 3)
    assert note_of(dataset, "keep their size") == (
        "images are 96 pixels wide and 24 high, RGB, and keep their size"
    )


def test_large_images_become_64(tmp_path: Path) -> None:
    dataset = load(fill(tmp_path, {"a": 2, "b": 2}, size=(20, 97)))
    assert dataset.image_shape == (64, 64, 3)
    assert "all are 97 pixels wide and 20 high" in note_of(dataset, "images become 64 x 64")


def test_mixed_sizes_become_64(pets: Path) -> None:
    draw(pets / "dog" / "large.png", size=(30, 20))
    dataset = load(pets)
    assert dataset.image_shape == (64, 64, 3)
    assert "they have 2 sizes" in note_of(dataset, "images become 64 x 64")


def test_images_of_one_smaller_size_are_left_to_the_model(pets: Path) -> None:
    own = load(pets).image_shape
    dataset = load(pets, image_size=160)
    assert dataset.image_shape == own
    assert "the model enlarges them to 160" in note_of(dataset, "images are")


def test_the_chosen_size_wins(pets: Path) -> None:
    dataset = load(pets, image_size=8)
    assert dataset.image_shape == (8, 8, 3)
    note = note_of(dataset, "images become 8 x 8")
    assert "--image-size" not in note
    expected = Image.open(pets / "10/00.png").resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.train.images[0], np.asarray(expected))


def test_grey_only_if_all_are_grey(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 2, "b": 2}, mode="L")
    assert load(tmp_path).image_shape == (20, 20, 1)
    draw(tmp_path / "b" / "colour.png")
    assert load(tmp_path).image_shape == (20, 20, 3)


# What is passed over, and said


def test_hidden_and_other_files_are_ignored_and_said(pets: Path) -> None:
    plain = load(pets)
    draw(pets / ".ipynb_checkpoints" / "x.png")
    draw(pets / "dog" / "._00.png")
    draw(pets / "__MACOSX" / "dog" / "x.png")
    (pets / "dog" / "labels.csv").write_text("x")
    (pets / "README").write_text("x")
    draw(pets / "cover.png")
    dataset = load(pets)
    assert dataset.class_names == plain.class_names
    assert dataset.train.ids.tolist() == plain.train.ids.tolist()
    hidden = note_of(dataset, "hidden")
    assert hidden == "ignored 2 hidden files or folders: '.ipynb_checkpoints', 'dog/._00.png'"
    assert note_of(dataset, "left behind").endswith(": '__MACOSX'")
    assert "(no suffix 1, .csv 1)" in note_of(dataset, "ignored 2 files not of images")
    assert "'cover.png'" in note_of(dataset, "ignored 1 image beside the class folders")
    assert dataset.provenance["fingerprint"] == plain.provenance["fingerprint"]


def test_folders_beside_train_are_ignored_and_said(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 2, "b": 2})
    draw(tmp_path / "raw" / "x.png")
    dataset = load(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert "'raw'" in note_of(dataset, "ignored folders beside the parts")


def test_links_are_followed_and_loops_are_not(pets: Path, tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "x.png", seed=5)
    (pets / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (pets / "dog" / "up").symlink_to(pets)
    (pets / "loop").symlink_to(pets)
    (pets / "above").symlink_to(tmp_path)
    dataset = load(pets)
    assert dataset.class_names == ("10", "9", "Cat", "dog")
    assert dataset.train.ids[-1] == "dog/more/x.png"
    assert len(dataset.train) == 12
    assert "'above', 'loop', 'dog/up'" in note_of(dataset, "ignored 3 links")


def test_unreadable_images_are_left_out_counted_and_named(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 20, "b": 20})
    (tmp_path / "a" / "03.png").write_bytes(b"")
    content = (tmp_path / "b" / "19.png").read_bytes()
    (tmp_path / "b" / "19.png").write_bytes(content[: len(content) // 2])
    dataset = load(tmp_path)
    assert len(dataset.train) == 38
    assert not {"a/03.png", "b/19.png"} & set(dataset.train.ids)
    assert dataset.train.labels.tolist() == [0] * 19 + [1] * 19
    for image, image_id in zip(dataset.train.images, dataset.train.ids, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / image_id)))
    note = note_of(dataset, "left out 2 images")
    assert "a/03.png is empty (0 bytes)" in note
    assert "b/19.png is truncated" in note
    assert f"convscope data check {tmp_path}" in note
    assert dataset.provenance["n_images"] == "38"
    # The second time, from the cache, it is said again.
    assert load(tmp_path).notes == dataset.notes


def test_too_many_unreadable_images_are_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 20, "b": 9})
    (tmp_path / "train" / "b" / "00.png").write_text("text")
    with pytest.raises(DataError, match=r"1 of 9 images in class 'b' of train cannot be read"):
        load(tmp_path)


def test_all_unreadable(tmp_path: Path) -> None:
    for name in ("a/0.png", "b/0.png"):
        draw(tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="none of 2 images can be read"):
        load(tmp_path)


# What is refused


def refusals(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    fill(tmp_path / "photos" / "pets", {"cat": 1, "dog": 1})
    yield tmp_path / "photos" / "petz", rf"no folder .*petz; did you mean {tmp_path}/photos/pets"
    yield tmp_path / "fotos" / "pets", rf"did you mean {tmp_path}/photos/pets"
    yield tmp_path / "photos" / "zzz", r"no folder .*zzz; .*photos has 'pets'"
    yield draw(tmp_path / "one.png"), r"one\.png is a file, not a folder"
    (tmp_path / "empty").mkdir()
    yield tmp_path / "empty", "empty is empty; put the images of each class into a folder"
    yield draw(tmp_path / "flat" / "x.png").parent, "has 1 image but no class folders"
    draw(tmp_path / "hidden" / ".x" / "x.png")
    yield tmp_path / "hidden", "hidden has no class folders"
    fill(tmp_path / "gap", {"cat": 1, "dog": 1})
    (tmp_path / "gap" / "mouse").mkdir()
    (tmp_path / "gap" / "mouse" / "x.txt").write_text("x")
    yield (
        tmp_path / "gap",
        r"class 'mouse' in .*gap has no image \(1 file there, but not of images\)",
    )
    yield fill(tmp_path / "one", {"cat": 2}), "one class folder only, 'cat'"
    fill(tmp_path / "noval" / "test", {"cat": 1, "dog": 1})
    yield tmp_path / "noval", r"has test/ but no train/"
    fill(tmp_path / "twice" / "train", {"cat": 1, "dog": 1})
    fill(tmp_path / "twice" / "val", {"cat": 1, "dog": 1})
    fill(tmp_path / "twice" / "valid", {"cat": 1, "dog": 1})
    yield tmp_path / "twice", "has both val/ and valid/"
    draw(tmp_path / "unlabelled" / "train" / "x.png")
    yield tmp_path / "unlabelled", r"unlabelled/train has 1 image but no class folders"


def test_each_refusal_is_one_clear_line(tmp_path: Path) -> None:
    for path, message in refusals(tmp_path):
        with pytest.raises(DataError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_no_path_is_refused() -> None:
    with pytest.raises(DataError, match="--data PATH"):
        load_folder(DataRequest())


@pytest.mark.parametrize("part", ["val", "test"])
def test_other_classes_in_val_or_test_are_an_error(tmp_path: Path, part: str) -> None:
    fill(tmp_path / "train", {"cat": 2, "dog": 2, "mouse": 2})
    fill(tmp_path / part, {"cat": 1, "dogs": 1})
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert f"{part} lacks 'dog', 'mouse'; only {part} has 'dogs'" in str(caught.value)


@pytest.mark.parametrize("empty", [False, True])
def test_a_given_part_may_lack_a_class(tmp_path: Path, empty: bool) -> None:
    fill(tmp_path / "train", {"cat": 6, "dog": 6, "mouse": 6})
    fill(tmp_path / "test", {"cat": 2, "mouse": 2})
    if empty:
        (tmp_path / "test" / "dog").mkdir()
    dataset = divide(load(tmp_path))
    assert dataset.class_names == ("cat", "dog", "mouse")
    assert dataset.test is not None
    assert dataset.test.labels.tolist() == [0, 0, 2, 2]
    assert "no test image of class 'dog'; its score is unknown" in dataset.notes


def test_a_hidden_folder_in_val_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"cat": 2, "dog": 2})
    fill(tmp_path / "val", {"cat": 1, "dog": 1, ".trash": 1})
    assert load(tmp_path).class_names == ("cat", "dog")


# Provenance


def test_the_fingerprint_follows_the_content(pets: Path) -> None:
    first = load(pets).provenance
    assert first["source"] == str(pets)
    assert first["n_images"] == "11"
    assert load(pets, image_size=9).provenance == first
    moved = pets.rename(pets.with_name("moved"))
    assert load(moved).provenance["fingerprint"] == first["fingerprint"]
    draw(moved / "dog" / "00.png", seed=99)
    assert load(moved).provenance["fingerprint"] != first["fingerprint"]


def test_names_that_are_not_utf8_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 20, "b": 2})
    source = tmp_path / "a" / "00.png"
    source.rename(tmp_path / "a" / "bad\udcff.png")
    dataset = load(tmp_path)
    assert len(dataset.train) == 21
    note = note_of(dataset, "left out 1 image")
    assert r"a/bad\udcff.png has a name that is not UTF-8" in note
    note.encode()


@pytest.mark.parametrize(("most", "told"), [(4095, True), (65535, False)])
def test_images_that_are_almost_black_are_told(tmp_path, most, told):
    values = np.linspace(0, most, 64, dtype=np.uint16).reshape(8, 8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.fromarray(np.roll(values, number)).save(tmp_path / name / f"{number}.png")
    notes = [each for each in load(tmp_path).notes if "almost black" in each]
    assert [each.partition(", as")[0] for each in notes] == (
        ["the images are almost black (values up to 16 of 255)"] * told
    )
