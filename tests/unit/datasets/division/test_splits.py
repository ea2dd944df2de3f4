import csv
import dataclasses

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

import convscope
from convscope.api import train as single
from convscope.datasets import DATASETS
from convscope.datasets.division.splits import (
    COLUMNS,
    divide,
    require_any_class,
    require_drawn,
    verify_split,
    write_split,
)
from convscope.errors import ConfigError, DataError, UnknownNameError
from convscope.planning.plan import Plan
from convscope.planning.settle import Request, settle_labels
from convscope.progress import Progress
from convscope.recipe import RunConfig, SplitSettings
from convscope.types import Dataset, ImageView, SealedSplit, Split

DEFAULTS = SplitSettings().model_dump()


def some_split(labels, part="train", seed=0) -> Split:
    labels = np.asarray(labels, dtype=np.int64)
    # Four bytes for each image, so that hashes tell them apart.
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 2, 2, 1), dtype=np.uint8)
    return Split(pixels, labels, np.array([f"{part}/{index:05d}" for index in range(len(labels))]))


def some_dataset(labels, **parts) -> Dataset:
    n_classes = int(max(labels)) + 1
    return Dataset("some", tuple("abcdefghij"[:n_classes]), some_split(labels), **parts)


def opened(dataset: Dataset) -> Split:
    assert dataset.test is not None
    return dataset.test.open(lambda n: None)


def test_cifar10_is_divided_as_the_tutorial_does():
    rng = np.random.default_rng(0)
    # Each image is its own number, so that membership can be read off the pixels.
    images = np.arange(50_000, dtype="<u4").view(np.uint8).reshape(-1, 4, 1, 1)
    labels = rng.integers(0, 10, 50_000)
    test = SealedSplit(some_split(rng.integers(0, 10, 10)))
    ids = np.array([f"train/{index:05d}" for index in range(50_000)])
    dataset = Dataset("cifar10", tuple("0123456789"), Split(images, labels, ids), test=test)

    settings = SplitSettings(**DATASETS.entry("cifar10").info["split"])
    divided = divide(dataset, **settings.model_dump())

    # The tutorial's own line, on the arrays themselves.
    x_train, x_val, y_train, y_val = train_test_split(
        images, labels, test_size=0.2, random_state=83
    )
    np.testing.assert_array_equal(divided.train.images, x_train)
    np.testing.assert_array_equal(divided.train.labels, y_train)
    np.testing.assert_array_equal(divided.val.images, x_val)
    np.testing.assert_array_equal(divided.val.labels, y_val)
    assert (len(divided.train), len(divided.val)) == (40_000, 10_000)
    numbers = divided.val.images.reshape(-1, 4).copy().view("<u4").ravel()
    assert divided.val.ids.tolist() == [f"train/{number:05d}" for number in numbers]
    assert divided.test is test


def test_the_three_parts_share_nothing_and_lose_nothing():
    dataset = some_dataset(np.arange(200) % 4)
    divided = divide(dataset, **DEFAULTS)
    parts = [divided.train.ids, divided.val.ids, divided.test.ids]
    assert [len(part) for part in parts] == [128, 32, 40]
    assert sorted(np.concatenate(parts)) == sorted(dataset.train.ids)
    # Pixels and labels stay with their names.
    rows = {name: row for row, name in enumerate(dataset.train.ids)}
    for part in (divided.train, divided.val, opened(divided)):
        where = np.array([rows[name] for name in part.ids])
        np.testing.assert_array_equal(part.images, dataset.train.images[where])
        np.testing.assert_array_equal(part.labels, dataset.train.labels[where])


def test_stratification_keeps_the_share_of_each_class():
    labels = np.repeat([0, 1, 2], [700, 250, 50])
    divided = divide(some_dataset(labels), **DEFAULTS)
    for part, counts in (
        (divided.train, [448, 160, 32]),
        (divided.val, [112, 40, 8]),
        (opened(divided), [140, 50, 10]),
    ):
        assert np.bincount(part.labels).tolist() == counts


def test_the_seed_decides_the_members_and_nothing_else_does():
    dataset = some_dataset(np.arange(100) % 2)
    first, again = divide(dataset, **DEFAULTS), divide(dataset, **DEFAULTS)
    other = divide(dataset, **{**DEFAULTS, "seed": 84})
    assert first.val.ids.tolist() == again.val.ids.tolist()
    assert first.test.ids.tolist() == again.test.ids.tolist()
    assert set(first.val.ids) != set(other.val.ids)
    assert set(first.test.ids) != set(other.test.ids)


def test_parts_that_are_there_stay_as_they_are():
    val, test = some_split([0, 1, 0], "val", 1), SealedSplit(some_split([1, 0], "test", 2))
    both = some_dataset([0, 1] * 10, val=val, test=test)
    divided = divide(both, **DEFAULTS)
    assert divided.train is both.train
    assert divided.val is val
    assert divided.test is test

    only_val = divide(dataclasses.replace(both, test=None), **DEFAULTS)
    assert only_val.val is val
    assert (len(only_val.train), len(only_val.test)) == (16, 4)

    only_test = divide(dataclasses.replace(both, val=None), **DEFAULTS)
    assert only_test.test is test
    assert (len(only_test.train), len(only_test.val)) == (16, 4)


def test_fewer_images_are_the_same_share_of_each_part_and_class():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    test = SealedSplit(some_split(np.repeat([0, 1, 2], [60, 30, 10]), "test", seed=1))
    dataset = dataclasses.replace(some_dataset(labels), test=test)
    fewer = divide(dataset, **{**DEFAULTS, "images": 220})
    parts = {"train": fewer.train, "val": fewer.val, "test": opened(fewer)}
    counts = {name: np.bincount(part.labels).tolist() for name, part in parts.items()}
    assert counts == {"train": [96, 48, 16], "val": [24, 12, 4], "test": [12, 6, 2]}
    assert set(parts["test"].ids) <= set(opened(dataset).ids)
    assert fewer.notes == ("220 of 1,100 images are used (split.images)",)
    again = divide(dataset, **{**DEFAULTS, "images": 220})
    assert again.train.ids.tolist() == fewer.train.ids.tolist()


def test_more_images_than_there_are_means_all():
    dataset = some_dataset(np.repeat([0, 1], 20))
    whole = divide(dataset, **DEFAULTS)
    asked = divide(dataset, **{**DEFAULTS, "images": 1000})
    assert asked.train.ids.tolist() == whole.train.ids.tolist()
    assert asked.notes == whole.notes


def test_each_class_stays_in_each_part_however_few_images_are_wanted():
    fewest = divide(some_dataset(np.repeat([0, 1, 2], 50)), **{**DEFAULTS, "images": 2})
    for part in (fewest.train, fewest.val, opened(fewest)):
        assert sorted(part.labels) == [0, 1, 2]


def test_a_class_with_one_image_is_named():
    with pytest.raises(
        DataError, match=r"class 'b' has 1 image, too.*train/, val/ and test/"
    ) as caught:
        divide(some_dataset([0] * 20 + [1] + [2] * 20), **DEFAULTS)
    assert "\n" not in str(caught.value)
    with pytest.raises(
        DataError, match=r"^2 classes \('b', 'd'\) have 1 image each, too few to split; remove"
    ):
        divide(some_dataset([0] * 20 + [1] + [2] * 20 + [3]), **DEFAULTS)


@pytest.mark.parametrize(
    ("labels", "changes"),
    [
        # Two of a class: one goes to test, and one cannot be divided again.
        ([0] * 2 + [1] * 2, {"test_fraction": 0.5}),
        # Fewer images held out than classes.
        (list(range(5)) * 2, {"val_fraction": 0.01}),
        ([0, 1], {"stratify": False, "val_fraction": 0.9, "test_fraction": 0.9}),
    ],
)
def test_too_few_images_are_one_clear_line(labels, changes):
    with pytest.raises(DataError, match="images") as caught:
        divide(some_dataset(labels), **{**DEFAULTS, **changes})
    assert "\n" not in str(caught.value)


def test_a_rare_class_need_not_stop_a_plain_split():
    divided = divide(some_dataset([0] * 20 + [1]), **{**DEFAULTS, "stratify": False})
    assert len(divided.train) + len(divided.val) + len(divided.test) == 21


def read(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_split_csv_has_a_row_for_each_image(tmp_path):
    dataset = divide(some_dataset(np.arange(50) % 2), **DEFAULTS)
    path = tmp_path / "split.csv"
    write_split(dataset, path)
    rows = read(path)
    assert tuple(rows[0]) == COLUMNS
    assert [row["split"] for row in rows] == ["train"] * 32 + ["val"] * 8 + ["test"] * 10
    expected = zip(
        [*dataset.train.ids, *dataset.val.ids, *dataset.test.ids],
        [*dataset.train.labels, *dataset.val.labels, *dataset.test.labels],
        strict=True,
    )
    for row, (image_id, label) in zip(rows, expected, strict=True):
        assert (row["id"], row["label"]) == (image_id, str(label))
        assert row["class_name"] == "ab"[label]
    hashes = [row["sha256_16"] for row in rows]
    assert all(len(digest) == 16 for digest in hashes)
    assert len(set(hashes)) == 50


def changed(split: Split, **arrays) -> Split:
    return dataclasses.replace(split, **arrays)


CHANGES = {
    "pixel": lambda s: changed(s, images=s.images ^ (np.arange(len(s)) == 3)[:, None, None, None]),
    "label": lambda s: changed(s, labels=np.where(np.arange(len(s)) == 3, 1 - s.labels, s.labels)),
    "name": lambda s: changed(s, ids=np.where(np.arange(len(s)) == 3, "new", s.ids)),
    "removed": lambda s: s.take(np.arange(1, len(s))),
    "added": lambda s: Split(
        np.concatenate([s.images, s.images[:1]]),
        np.append(s.labels, s.labels[0]),
        np.append(s.ids, "new"),
    ),
}


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changed_since_is_noticed(tmp_path, part, change):
    dataset = divide(some_dataset(np.arange(50) % 2), **DEFAULTS)
    path = tmp_path / "split.csv"
    write_split(dataset, path)
    before = opened(dataset) if part == "test" else getattr(dataset, part)
    after = CHANGES[change](before)
    # XOR of integers of other widths must not have changed the kind of pixels.
    after = changed(after, images=after.images.astype(np.uint8))
    new = dataclasses.replace(dataset, **{part: SealedSplit(after) if part == "test" else after})
    # Of a new name two, the new and the old.
    differ = 2 if change == "name" else 1
    with pytest.raises(DataError, match=rf"the {part} images .* {differ} differ from .*split\.csv"):
        verify_split(new, path, part)
    for other in {"train", "val", "test"} - {part}:
        verify_split(new, path, other)


def test_the_order_of_images_does_not_matter(tmp_path):
    dataset = divide(some_dataset(np.arange(50) % 2), **DEFAULTS)
    path = tmp_path / "split.csv"
    write_split(dataset, path)
    turned = dataset.val.take(np.arange(len(dataset.val))[::-1])
    verify_split(dataclasses.replace(dataset, val=turned), path, "val")


@pytest.mark.parametrize("content", [None, b"", b"id,label\n1,2\n", b"\xff\xfe\x00", b"id\0,\0"])
def test_a_missing_or_damaged_table_is_refused(tmp_path, content):
    dataset = divide(some_dataset(np.arange(50) % 2), **DEFAULTS)
    path = tmp_path / "split.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"split\.csv"):
        verify_split(dataset, path, "train")


def test_awkward_names_survive_the_table(tmp_path):
    names = ('a,"b"', " ä\n", "c")
    ids = np.array([f'{name}/x;"{index}",.png' for index, name in enumerate(names * 10)])
    split = some_split(np.arange(30) % 3)
    dataset = divide(Dataset("odd", names, changed(split, ids=ids)), **DEFAULTS)
    path = tmp_path / "split.csv"
    write_split(dataset, path)
    for part in ("train", "val", "test"):
        verify_split(dataset, path, part)
    assert {row["class_name"] for row in read(path)} == set(names)


def test_load_divides_by_the_datasets_own_settings_unless_told_otherwise(monkeypatch):
    plain = convscope.load("digits")
    assert (len(plain.train), len(plain.val), len(plain.test)) == (1149, 288, 360)
    half = convscope.load("digits", split={"val_fraction": 0.5})
    assert (len(half.train), len(half.val), len(half.test)) == (718, 719, 360)
    assert half.test.ids.tolist() == plain.test.ids.tolist()


@pytest.mark.parametrize(
    ("split", "error", "says"),
    [
        ({"bogus": 1}, UnknownNameError, "split.bogus"),
        ({"val_fracton": 0.1}, UnknownNameError, "val_fraction"),
        ({"val_fraction": 2}, ConfigError, "split.val_fraction"),
    ],
)
def test_load_refuses_a_setting_in_the_words_of_settings(split, error, says):
    with pytest.raises(error, match=says):
        convscope.load("digits", split=split)


def test_dividing_a_memory_mapped_set_reads_no_image(tmp_path):
    images = np.lib.format.open_memmap(
        tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(100, 4, 4, 1)
    )
    images[:] = np.arange(100, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(100) % 2
    whole = Dataset("mapped", ("a", "b"), Split(images, labels, np.arange(100).astype(str)))
    parts = divide(whole, val_fraction=0.25, test_fraction=0.2, seed=1, stratify=True)
    opened = parts.test.open(lambda n: None)
    for part in (parts.train, parts.val, opened):
        assert isinstance(part.images, ImageView)
        assert part.images.base is images
        np.testing.assert_array_equal(part.images[:][:, 0, 0, 0], part.ids.astype(int))
        assert [int(image[0, 0, 0]) for image in part.images] == part.ids.astype(int).tolist()
    assert [len(parts.train), len(parts.val), len(opened)] == [60, 20, 20]


def test_a_part_in_which_no_image_has_a_class_is_refused_where_each_may_have_several(tmp_path):
    def part(flags, name) -> Split:
        split = some_split(range(len(flags)), name)
        return dataclasses.replace(split, labels=np.array(flags, np.uint8))

    some, none = [[1, 0], [0, 0]], [[0, 0], [0, 0]]
    test = SealedSplit(part(none, "test"))
    dataset = Dataset("scenes", ("a", "b"), part(some, "train"), part(some, "val"), test)
    assert settle_labels(Request({}), RunConfig(), dataset).multi_label
    with pytest.raises(DataError, match="^no test image of scenes has any class"):
        single.train(Plan(RunConfig(), dataset), progress=Progress(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    blank = dataclasses.replace(dataset, val=part(none, "val"))
    with pytest.raises(DataError, match="^no validation image of scenes has any class"):
        settle_labels(Request({}), RunConfig(), blank)
    # Of images of exactly one class each has one, the first as well.
    require_any_class(some_dataset([0, 1], val=some_split([0, 0], "val")), "val")


def test_a_share_for_a_part_that_the_data_bring_is_refused():
    shares = ("split.val_fraction", "split.test_fraction")
    require_drawn(divide(some_dataset([0, 1] * 20), **DEFAULTS), shares)
    test = SealedSplit(some_split([0, 1], "test"))
    brought = some_dataset([0, 1] * 20, test=test)
    divided = divide(brought, **DEFAULTS)
    require_drawn(divided, ["split.val_fraction", "split.seed"])
    with pytest.raises(ConfigError, match="^split.test_fraction has no effect here: some has test"):
        require_drawn(divided, shares)
    # A fold takes its place.
    folds = {"folds": 2, "fold_as": "test"}
    require_drawn(divide(brought, **{**DEFAULTS, **folds}), shares)
