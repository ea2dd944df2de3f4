"""Images that belong together, such as those of one patient, are divided together."""

import csv
import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.datasets.division.draw import Pool, draw_folds, keys_of
from convscope.datasets.division.splits import divide, draw_parts, read_split, write_split
from convscope.errors import ConfigError, DataError
from convscope.progress import Progress
from convscope.recipe import RunConfig, SplitSettings, resolve
from convscope.types import Dataset, SealedSplit, Split, numbered

NAMES = ("cat", "dog", "owl")


def patients(n_groups: int, seed: int = 1, *, several: bool = False) -> tuple[Pool, np.ndarray]:
    """Images of patients who have very different numbers of them, and classes in common."""
    rng = np.random.default_rng(seed)
    sizes = np.maximum(1, rng.lognormal(3, 1, n_groups).astype(int))
    groups = np.repeat([f"p{number}" for number in range(n_groups)], sizes)
    if several:
        labels = np.concatenate(
            [(rng.random((n, 3)) < rng.beta(0.5, 1, 3)).astype(np.uint8) for n in sizes]
        )
    else:
        shares = rng.dirichlet(np.full(3, 0.5), n_groups)
        labels = np.concatenate(
            [rng.choice(3, n, p=share) for n, share in zip(sizes, shares, strict=True)]
        )
    keys = keys_of([str(number) for number in range(len(groups))], groups)
    return Pool(labels, keys, 3, grouped=True), groups


def drawn(pool: Pool, **settings) -> dict[str, np.ndarray]:
    return draw_parts(pool, NAMES, SplitSettings(**settings), has_val=False, has_test=False)


def make_dataset(n_images: int, groups=None, labels=None, **parts) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (n_images, 2, 2, 1), np.uint8)
    labels = np.arange(n_images) % 2 if labels is None else np.asarray(labels)
    ids = np.array([f"{'cd'[label]}/s{n // 4}/{n}.png" for n, label in enumerate(labels)])
    groups = None if groups is None else np.asarray(groups, np.str_)
    return Dataset("some", ("c", "d"), Split(pixels, labels, ids, None, groups), **parts)


def groups_in(dataset: Dataset) -> dict[str, set[str]]:
    return {name: set(part.groups) for name, part in dataset.parts.items()}


@pytest.mark.parametrize("several", [False, True])
def test_a_group_is_in_one_part_and_classes_are_shared_out(several):
    pool, groups = patients(150, several=several)
    places = drawn(pool)
    sets = [set(groups[rows]) for rows in places.values()]
    assert sum(map(len, sets)) == 150
    counts = {part: pool.take(rows).counts for part, rows in places.items()}
    np.testing.assert_allclose(counts["test"] / pool.counts, 0.2, atol=0.12)
    np.testing.assert_allclose(counts["val"] / pool.counts, 0.16, atol=0.12)
    part_of = draw_folds(pool, 5, 7, stratify=True)
    assert sum(len(set(groups[part_of == fold])) for fold in range(5)) == 150
    np.testing.assert_allclose(np.bincount(part_of) / len(part_of), 0.2, atol=0.08)


@pytest.mark.parametrize("seed", range(30))
def test_no_part_takes_from_training_what_that_needs_of_another_class(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(20), rng.integers(3, 12, 20))
    labels = rng.integers(0, 3, len(groups))
    # Three patients have the last class, two of them another rare one besides.
    firsts = np.searchsorted(groups, np.arange(3))
    labels[firsts] = 4
    labels[firsts[:2] + 1] = 3
    pool = Pool(labels, groups.tolist(), 5, grouped=True)
    places = draw_parts(pool, tuple("abcde"), SplitSettings(), has_val=False, has_test=False)
    assert set(labels[places["train"]]) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("several", [False, True])
def test_large_groups_are_tested_as_often_as_small_ones(several):
    pool, groups = patients(60, several=several)
    names, sizes = np.unique(groups, return_counts=True)
    large = set(names[np.argsort(sizes)[-6:]])
    tested = [len(large & set(groups[drawn(pool, seed=seed)["test"]])) for seed in range(50)]
    # 0.2 of six groups in fifty draws: 60, and 7 is the standard deviation.
    assert 30 < sum(tested) < 90


def test_copies_join_groups():
    # Two patients share a picture: it must not be learnt with the one and tested with the other.
    keys = keys_of(["a", "b", "b", "c", "d", "e"], np.array(["ann", "ann", "ben", "ben", "", ""]))
    assert len(set(keys[:4])) == 1
    assert len(set(keys)) == 3
    # A black frame of many patients says nothing about them; copies of no group stay together.
    hashes = ["black", "a", "black", "b", "black", "c", "black", "black", "a"]
    of = ["ann", "ann", "ben", "ben", "cleo", "cleo", "", "", "dora"]
    assert numbered(keys_of(hashes, np.array(of)))[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 0]
    assert keys_of(["a", "b", "a"], np.array(["", "", ""])) == [0, 1, 0]
    # Without groups as it has always been.
    assert keys_of(["a", "b", "b"], None) == ["a", "b", "b"]


def test_the_division_keeps_groups_and_tells_how_many():
    dataset = make_dataset(200, [f"g{n // 5}" for n in range(200)])
    divided = divide(dataset)
    named = groups_in(divided)
    assert sum(map(len, named.values())) == 40
    assert divided.notes[-1] == (
        f"images of a group are kept together in one part: {len(named['train'])} groups in "
        f"training, {len(named['val'])} groups in validation, {len(named['test'])} groups in test"
    )
    folded = [groups_in(divide(dataset, folds=4, fold=fold))["val"] for fold in range(4)]
    rest = groups_in(divide(dataset, folds=4))
    assert sum(map(len, folded)) == 40 - len(rest["test"])


def test_images_of_no_group_go_where_they_like():
    dataset = make_dataset(100, [""] * 60 + ["g"] * 40)
    divided = divide(dataset)
    sizes = {name: int((part.groups == "g").sum()) for name, part in divided.parts.items()}
    assert sizes == {"train": 40, "val": 0, "test": 0}
    assert {name: len(part) for name, part in divided.parts.items()} == {
        "train": 64,
        "val": 16,
        "test": 20,
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("s[0-9]+", "s7"), ("/(s[0-9]+)", "s7"), (r"(.)/s(\d+)", "d/7"), ("(.*)/", "d/s7")],
)
def test_groups_by_the_names_of_images(pattern, expected):
    dataset = make_dataset(80)
    whole = Split.joined(parts_of(divide(dataset, group=pattern)))
    (group,) = whole.groups[whole.ids == "d/s7/29.png"]
    assert group == expected


def parts_of(dataset: Dataset) -> list[Split]:
    return [dataset.train, dataset.val, dataset.test.open(lambda n: None)]


def test_names_that_match_nothing_are_told():
    dataset = make_dataset(80)
    divided = divide(dataset, group="s[0-8]/")
    assert (
        "44 of 80 images are of no group, since their names do not match split.group (first: "
        "'c/s9/36.png')"
    ) in divided.notes
    with pytest.raises(DataError, match=r"no name of an image matches split\.group 'p\[0-9\]'"):
        divide(dataset, group="p[0-9]")
    with pytest.raises(ConfigError, match=r"split\.group is no regular expression \(missing \)"):
        resolve(RunConfig(), {"split.group": "(s"})


def test_groups_are_said_once():
    with pytest.raises(DataError, match=r"the table of labels says the groups, and so does"):
        divide(make_dataset(20, ["g"] * 20), group="s")


def test_groups_in_two_parts_of_their_own_are_told():
    test = make_dataset(4, ["ann", "ben", "cleo", "cleo"]).train
    dataset = make_dataset(40, ["ann", "ben"] * 5 + [f"g{n}" for n in range(30)])
    divided = divide(dataclasses.replace(dataset, test=SealedSplit(test)), val_fraction=0.5)
    (line,) = [note for note in divided.notes if "groups of the test images" in note]
    assert re.fullmatch(
        r"(\d) of 3 groups of the test images have training images too(, and \d of 3 groups of the "
        r"test images have validation images too)?: scores on those are too high",
        line,
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(.*)/", "c/s0"),
        ("/(s[0-9]+)", "s0"),
        (r"(.*)/(s\d+)", "c/s0"),
        ("(.*/)c/", "sets/test/"),
    ],
)
def test_the_folder_of_a_part_is_no_group(pattern, expected):
    parts = {}
    for seed, name in enumerate(("train", "val", "test")):
        # The folder of a class counts, although it is the only one of these parts.
        part = make_dataset(8, labels=[0] * 8).train
        ids = np.array([f"sets/{name}/{image_id}" for image_id in part.ids])
        parts[name] = dataclasses.replace(part, images=part.images + np.uint8(seed), ids=ids)
    test = SealedSplit(parts.pop("test"))
    dataset = Dataset("some", ("c", "d"), **parts, test=test)
    divided = divide(dataset, group=pattern)
    assert parts_of(divided)[-1].groups[0] == expected
    torn = any(note.endswith("scores on those are too high") for note in divided.notes)
    assert torn == ("test" not in expected)


def test_too_few_groups_are_named():
    dataset = make_dataset(40, ["ann"] * 20 + ["ben"] * 20, [0] * 20 + [1] * 20)
    with pytest.raises(DataError, match=r"\('c', 'd'\) have 20 images each that are all of one"):
        divide(dataset)
    dataset = make_dataset(40, [f"g{n // 10}" for n in range(40)], [0] * 20 + [1] * 20)
    with pytest.raises(DataError, match=r"2 groups of class 'c' \(20 images in all\) cannot be in"):
        divide(dataset, folds=3, fold_as="test")


def test_the_split_file_holds_the_groups(tmp_path):
    dataset = divide(make_dataset(40, [f"=g{n // 4}" for n in range(40)]))
    write_split(dataset, tmp_path / "split.csv")
    with (tmp_path / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    named = {name: {row["group"] for row in rows if row["split"] == name} for name in dataset.parts}
    # A spreadsheet must not take a group for a formula.
    assert named == {name: {f"'{each}" for each in of} for name, of in groups_in(dataset).items()}
    assert len(read_split(tmp_path / "split.csv")) == 40
    write_split(divide(make_dataset(40)), tmp_path / "without.csv")
    assert (tmp_path / "without.csv").read_text().splitlines()[0].endswith(",sha256_16")


def test_a_table_of_labels_gives_the_groups(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["file,label,patient_id"]
    for number in range(60):
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
        lines.append(f"{number:02}.png,{'cat' if number % 2 else 'dog'},{number // 6}")
    (tmp_path / "t.csv").write_text("\n".join(lines))

    def load(columns: str) -> Dataset:
        labels = f"{tmp_path}/t.csv{columns}"
        return convscope.load(tmp_path, labels=labels, progress=Progress())

    grouped = load(":group=patient_id")
    assert sum(map(len, groups_in(grouped).values())) == 10
    for part in grouped.parts.values():
        numbers = [int(image_id[:2]) // 6 for image_id in part.ids]
        assert part.groups.tolist() == [str(number) for number in numbers]
    assert "groups in 'patient_id'" in grouped.notes[1]
    plain = load("")
    assert plain.train.groups is None
    assert grouped.provenance["fingerprint"] != plain.provenance["fingerprint"]
    assert (
        "the column 'patient_id' (10 different in 60 rows) is not used; to keep the images of each "
        "together, in one part: --labels t.csv:group=patient_id"
    ) in plain.notes
