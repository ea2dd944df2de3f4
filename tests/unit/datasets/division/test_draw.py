"""How images are drawn for validation and test: copies together, no class forgotten."""

import hashlib

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

import convscope
from convscope.datasets.division.draw import Pool
from convscope.datasets.division.part_notes import classes_everywhere
from convscope.datasets.division.splits import divide, draw_parts
from convscope.errors import DataError
from convscope.recipe import SplitSettings
from convscope.types import Dataset, SealedSplit, Split

NAMES = tuple("abcdefghijklmnopqrstuvwxyz")


def pool_of(labels, keys=None) -> Pool:
    labels = np.asarray(labels, dtype=np.int64)
    keys = [str(index) for index in range(len(labels))] if keys is None else [str(k) for k in keys]
    return Pool(labels, keys, int(labels.max()) + 1)


def draw(pool, *, has_val=False, has_test=False, **settings):
    names = NAMES[: pool.n_classes]
    chosen = SplitSettings(**settings)
    return draw_parts(pool, names, chosen, has_val=has_val, has_test=has_test)


def counts(pool, places):
    return {
        part: np.bincount(pool.labels[rows], minlength=pool.n_classes).tolist()
        for part, rows in places.items()
    }


def scikit_learns(labels, *, val=0.2, test=0.2, seed=83, stratify=True):
    """The split of images without copies, as it has always been: two draws, the second of the
    rest."""
    rows = np.arange(len(labels))
    rest, held = train_test_split(
        rows, test_size=test, random_state=seed, stratify=labels if stratify else None
    )
    train, kept = train_test_split(
        rest, test_size=val, random_state=seed, stratify=labels[rest] if stratify else None
    )
    return {"train": train, "val": kept, "test": held}


def parts_of_keys(pool, places):
    keys = np.array(pool.keys)
    return {part: set(keys[rows]) for part, rows in places.items()}


def assert_copies_are_together(pool, places):
    parts = list(parts_of_keys(pool, places).values())
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(set(pool.keys))
    rows = np.sort(np.concatenate(list(places.values())))
    np.testing.assert_array_equal(rows, np.arange(len(pool)))


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_without_copies_the_members_and_their_order_are_scikit_learns(stratify, seed):
    labels = np.random.default_rng(seed).integers(0, 4, 203)
    found = draw(pool_of(labels), seed=seed, stratify=stratify, val_fraction=0.3)
    expected = scikit_learns(labels, seed=seed, stratify=stratify, val=0.3)
    for part, rows in expected.items():
        np.testing.assert_array_equal(found[part], rows)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_class_of_which_a_test_fold_leaves_one_image_is_trained(fold):
    pool = pool_of([0] * 20 + [1] * 20 + [2] * 3)
    found = counts(pool, draw(pool, folds=2, fold=fold, fold_as="test"))
    train, val, test = (found[part] for part in ("train", "val", "test"))
    assert test[2] in (1, 2)
    assert train[2] == 1
    assert val[2] == 2 - test[2]


@pytest.mark.parametrize("stratify", [True, False])
def test_without_copies_the_folds_are_scikit_learns(stratify):
    labels = np.random.default_rng(0).integers(0, 3, 100)
    for which in range(4):
        found = draw(pool_of(labels), has_test=True, folds=4, fold=which, seed=5, stratify=stratify)
        kind = (StratifiedKFold if stratify else KFold)(4, shuffle=True, random_state=5)
        train, val = list(kind.split(labels, labels))[which]
        np.testing.assert_array_equal(found["train"], train)
        np.testing.assert_array_equal(found["val"], val)


def digest(split) -> str:
    return hashlib.sha256("\n".join(split.ids.tolist()).encode()).hexdigest()[:16]


def test_the_split_of_digits_is_pinned():
    # Published figures, and the runs of earlier versions, rest on these members in this order.
    digits = convscope.load("digits")
    assert (digest(digits.train), digest(digits.val), digest(digits.test)) == (
        "48eaca50f11ead20",
        "1d8d03d5766f4171",
        "11ddc209ab27e8b1",
    )
    folds = [convscope.load("digits", split={"folds": 3, "fold": fold}) for fold in range(3)]
    assert [(digest(each.train), digest(each.val)) for each in folds] == [
        ("f307e48c9e611260", "98f4c147c620fe3e"),
        ("e70ac6faed6433c2", "4ba04ad3d1e91db3"),
        ("970e29b1251eab9f", "ffa286fc2b1875a7"),
    ]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("stratify", [True, False])
def test_copies_go_to_one_part_and_the_shares_are_kept(seed, stratify):
    rng = np.random.default_rng(seed)
    # Some images alone, some twice, some up to five times; a copy has its image's class.
    times = rng.choice([1, 1, 1, 2, 3, 5], 120)
    classes = rng.integers(0, 3, 120)
    order = rng.permutation(times.sum())
    pool = pool_of(np.repeat(classes, times)[order], np.repeat(np.arange(120), times)[order])
    found = draw(pool, seed=seed, stratify=stratify)
    assert_copies_are_together(pool, found)
    wanted = scikit_learns(pool.labels, seed=seed, stratify=stratify)
    if stratify:
        assert counts(pool, found) == counts(pool, wanted)
    assert {part: len(rows) for part, rows in found.items()} == {
        part: len(rows) for part, rows in wanted.items()
    }


def test_every_image_twice_divides_as_well_as_every_image_once():
    # 100 pairs: the plain draw left 29 of 40 test images with a twin in train.
    labels = np.repeat(np.arange(100) % 2, 2)
    pool = pool_of(labels, np.repeat(np.arange(100), 2))
    found = draw(pool)
    assert_copies_are_together(pool, found)
    assert counts(pool, found) == {"train": [64, 64], "val": [16, 16], "test": [20, 20]}


def test_what_has_no_copy_in_another_part_stays_where_it_was_drawn():
    labels = np.arange(400) % 4
    keys = np.arange(400)
    keys[200] = keys[0]  # of one class
    pool = pool_of(labels, keys)
    torn = [seed for seed in range(30) if _tears(scikit_learns(labels, seed=seed), 0, 200)]
    assert torn
    for seed in torn:
        found, drawn = draw(pool, seed=seed), scikit_learns(labels, seed=seed)
        moved = [set(found[part]) ^ set(drawn[part]) for part in found]
        # The copy, and one other in its place, at each of the two draws at most.
        assert 2 <= len(set().union(*moved)) <= 6
        for part in found:
            stayed = [row for row in found[part] if row in set(drawn[part])]
            before = [row for row in drawn[part] if row in set(found[part])]
            assert stayed == before
    whole = next(seed for seed in range(30) if seed not in torn)
    for part, rows in scikit_learns(labels, seed=whole).items():
        np.testing.assert_array_equal(draw(pool, seed=whole)[part], rows)


def test_the_copies_of_several_classes_move_little_else():
    # Each newcomer takes the place of one of its class, by which the next draw goes.
    labels = np.arange(600) % 6
    keys = np.arange(600)
    for number in range(6):
        keys[300 + number] = keys[number]
    pool = pool_of(labels, keys)
    for seed in range(20):
        found, drawn = draw(pool, seed=seed), scikit_learns(labels, seed=seed)
        moved = [set(found[part]) ^ set(drawn[part]) for part in found]
        assert len(set().union(*moved)) <= 24
        assert counts(pool, found) == counts(pool, drawn)


def _tears(places, one, other) -> bool:
    return not any(one in rows and other in rows for rows in places.values())


def test_a_copy_is_tested_about_as_often_as_any_other_image():
    labels = np.zeros(60, dtype=np.int64)
    keys = np.r_[np.repeat(np.arange(10), 3), np.arange(100, 130)]
    pool = pool_of(np.r_[labels, 1], np.r_[keys, 999])
    pool = Pool(pool.labels[:60], pool.keys[:60], 1)
    tested = np.zeros(60)
    for seed in range(400):
        tested[draw(pool, seed=seed)["test"]] += 1
    copies, singles = tested[:30].mean() / 400, tested[30:].mean() / 400
    assert 0.13 < copies < 0.27
    assert 0.13 < singles < 0.27


@pytest.mark.parametrize("stratify", [True, False])
def test_the_seed_decides_where_copies_go_and_nothing_else_does(stratify):
    pool = pool_of(np.repeat(np.arange(60) % 3, 2), np.repeat(np.arange(60), 2))
    first = draw(pool, seed=1, stratify=stratify)
    again = draw(pool, seed=1, stratify=stratify)
    other = draw(pool, seed=2, stratify=stratify)
    for part, rows in first.items():
        np.testing.assert_array_equal(again[part], rows)
    assert set(first["test"]) != set(other["test"])


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("folds", [2, 5])
def test_copies_share_a_fold_and_each_image_is_held_out_once(folds, stratify):
    rng = np.random.default_rng(folds)
    times = rng.choice([1, 2, 4], 90)
    pool = pool_of(np.repeat(np.arange(90) % 2, times), np.repeat(np.arange(90), times))
    each = [
        draw(pool, has_test=True, folds=folds, fold=fold, stratify=stratify)
        for fold in range(folds)
    ]
    held = [set(found["val"]) for found in each]
    assert sorted(row for rows in held for row in rows) == list(range(len(pool)))
    for found in each:
        assert_copies_are_together(pool, found)
    sizes = [len(rows) for rows in held]
    assert max(sizes) - min(sizes) <= 2
    if stratify:
        of_one = [counts(pool, found)["val"][1] for found in each]
        assert max(of_one) - min(of_one) <= 2


def test_one_image_in_two_classes_goes_to_one_part_all_the_same():
    labels = [0, 1] * 30
    keys = np.arange(60)
    keys[1] = keys[0]
    keys[21] = keys[20]
    pool = pool_of(labels, keys)
    for seed in range(10):
        found = draw(pool, seed=seed)
        assert_copies_are_together(pool, found)
        assert all(min(each) > 0 for each in counts(pool, found).values())


@pytest.mark.parametrize("n_rare", [3, 4, 5])
@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_three_images_or_more_is_in_each_part(seed, n_rare):
    pool = pool_of(np.repeat([0, 1, 2], [18, 18, n_rare]))
    found = counts(pool, draw(pool, seed=seed))
    assert all(each[2] >= 1 for each in found.values())
    # The others keep their shares.
    assert [each[:2] for each in found.values()] == [[4, 4], [3, 3], [11, 11]] or sum(
        abs(found[part][kind] - share)
        for part, share in (("test", 4), ("val", 3), ("train", 11))
        for kind in (0, 1)
    ) <= 4


def test_ten_classes_of_three_images_give_one_to_each_part():
    pool = pool_of(np.arange(30) % 10)
    for settings in ({}, {"val_fraction": 0.4}, {"test_fraction": 0.9}, {"val_fraction": 0.01}):
        found = counts(pool, draw(pool, **settings))
        assert found == {part: [1] * 10 for part in ("train", "val", "test")}


def test_the_others_keep_their_shares_where_a_part_is_smaller_than_there_are_classes():
    # Of 70 images a tenth is 7, fewer than the 11 classes.
    pool = pool_of([0] * 40 + [*range(1, 11)] * 3)
    found = counts(pool, draw(pool, test_fraction=0.1, val_fraction=0.25))
    assert found["test"] == [4] + [1] * 10
    assert found["val"] == [9] + [1] * 10
    assert found["train"] == [27] + [1] * 10


def test_two_of_a_class_are_left_for_the_other_parts_and_no_more():
    pool = pool_of([0] * 60 + [1] * 6)
    found = counts(pool, draw(pool, test_fraction=0.9))
    assert found["test"][1] == 4
    assert found["train"][1] == found["val"][1] == 1


def test_a_class_of_two_images_is_learnt_and_stops_nothing():
    for seed in range(20):
        pool = pool_of(np.repeat([0, 1, 2], [20, 2, 20]))
        found = counts(pool, draw(pool, seed=seed))
        assert found["test"][1] == 0
        assert found["train"][1] >= 1
        assert found["test"][0] == found["test"][2] == 4


def test_a_class_whose_images_are_copies_counts_as_the_images_that_differ():
    # Six files, two images: not enough for three parts, so both are for training or validation.
    pool = pool_of([0] * 20 + [1] * 6, [*range(20), *[90] * 3, *[91] * 3])
    found = draw(pool)
    assert_copies_are_together(pool, found)
    assert counts(pool, found)["test"][1] == 0
    # Six files, three images: one for each part.
    pool = pool_of([0] * 20 + [1] * 6, [*range(20), 90, 90, 90, 91, 91, 92])
    found = draw(pool)
    assert_copies_are_together(pool, found)
    assert all(each[1] > 0 for each in counts(pool, found).values())


def test_where_one_part_is_given_two_images_are_enough():
    pool = pool_of(np.repeat([0, 1], [20, 2]))
    for seed in range(10):
        assert (
            counts(pool, draw(pool, has_test=True, seed=seed))
            == {
                "train": [16, 1],
                "val": [4, 1],
            }
            or counts(pool, draw(pool, has_test=True, seed=seed))["val"][1] == 1
        )
        assert counts(pool, draw(pool, has_val=True, seed=seed))["test"][1] == 1


def test_of_one_image_beside_a_given_part_it_is_learnt():
    pool = pool_of(np.repeat([0, 1], [20, 1]))
    for seed in range(10):
        assert counts(pool, draw(pool, has_test=True, seed=seed))["train"][1] == 1


def test_copies_of_one_image_are_no_class():
    pool = pool_of([0] * 20 + [1] * 4, [*range(20), *[99] * 4])
    with pytest.raises(DataError, match=r"class 'b' has 4 images that are all the same, too few"):
        draw(pool)


def test_too_few_of_all_classes_names_the_setting_that_is_short():
    with pytest.raises(
        DataError,
        match=r"^4 images of 2 classes are too few.*test part, split\.test_fraction \(0\.2\)",
    ) as caught:
        draw(pool_of([0, 0, 1, 1]))
    assert "val_fraction" not in str(caught.value)
    for settings, said in (
        ({"test_fraction": 0.9}, r"^2 images of 2 classes .*split\.test_fraction \(0\.9\) leaves"),
        (
            {"val_fraction": 0.3},
            r"^2 images of 2 classes .*split\.val_fraction \(0\.3\) leaves none",
        ),
    ):
        with pytest.raises(DataError, match=said):
            draw(pool_of([0, 1]), stratify=False, **settings)


def test_too_few_for_the_folds_names_the_class_and_counts_what_is_in_the_folder():
    pool = pool_of(np.repeat([0, 1], [40, 5]))
    with pytest.raises(
        DataError,
        match=r"^4 images of class 'b' \(5 with test images and copies\) cannot be in 5 folds",
    ):
        draw(pool, folds=5)
    with pytest.raises(DataError, match=r"^5 images of class 'b' cannot be in 6 folds; .*folds"):
        draw(pool, has_test=True, folds=6)
    with pytest.raises(DataError, match=r"^3 images \(4 with test images and copies\) cannot"):
        draw(pool_of([0, 1, 0, 1]), folds=4, stratify=False)


@pytest.mark.parametrize(
    ("fold_as", "option"),
    [("val", "split.folds"), ("val_of_all", "--folds"), ("test", "--folds")],
)
def test_too_few_for_the_folds_names_the_option_that_was_given(fold_as, option):
    pool = pool_of(np.repeat([0, 1], [40, 3]))
    with pytest.raises(DataError, match=rf"choose fewer \({option}\), or add images$"):
        draw(pool, has_test=fold_as != "test", folds=5, fold_as=fold_as)


def test_just_enough_for_the_folds_are_enough():
    pool = pool_of(np.repeat([0, 1], [20, 5]))
    each = [counts(pool, draw(pool, has_test=True, folds=5, fold=fold)) for fold in range(5)]
    assert [found["val"] for found in each] == [[4, 1]] * 5


def test_folds_that_validate_need_training_images_of_their_own():
    pool = pool_of(np.arange(40) % 2)
    with pytest.raises(DataError, match=r"^there are validation images of their own"):
        draw(pool, has_val=True, folds=4)
    found = draw(pool, has_val=True, folds=4, fold_as="test")
    assert {part: len(rows) for part, rows in found.items()} == {"test": 10, "train": 30}


@pytest.mark.parametrize("fold", range(3))
def test_validation_images_of_their_own_may_be_divided_into_the_folds(fold):
    def split(name, n_images):
        images = np.random.default_rng(len(name)).integers(0, 256, (n_images, 4, 4, 1), np.uint8)
        return Split(
            images, np.arange(n_images) % 2, np.array([f"{name}/{i}" for i in range(n_images)])
        )

    test = split("test", 4)
    whole = Dataset("x", ("a", "b"), split("train", 14), split("val", 4), SealedSplit(test))
    found = divide(whole, folds=3, fold=fold, fold_as="val_of_all")
    assert sorted([*found.train.ids, *found.val.ids]) == sorted([*whole.train.ids, *whole.val.ids])
    assert np.bincount(found.val.labels).tolist() == [3, 3]
    assert found.test.ids.tolist() == test.ids.tolist()
    images = dict(
        pair
        for part in (whole.train, whole.val)
        for pair in zip(part.ids, part.images, strict=True)
    )
    for part in (found.train, found.val):
        for name, image in zip(part.ids, part.images, strict=True):
            np.testing.assert_array_equal(image, images[name])
    assert any("existing validation images" in note for note in found.notes)


def test_a_fold_may_be_what_is_tested():
    labels = np.arange(60) % 3
    pool = pool_of(labels)
    each = [draw(pool, folds=5, fold=fold, fold_as="test") for fold in range(5)]
    assert sorted(row for found in each for row in found["test"]) == list(range(60))
    for found in each:
        assert sorted(row for rows in found.values() for row in rows) == list(range(60))
        assert {part: len(rows) for part, rows in found.items()} == {
            "test": 12,
            "val": 10,
            "train": 38,
        }
        assert min(counts(pool, found)["val"]) >= 3


def test_by_the_first_version_copies_go_anywhere():
    labels = np.repeat(np.arange(100) % 2, 2)
    pool = Pool(labels, None, 2)
    for part, rows in scikit_learns(labels).items():
        np.testing.assert_array_equal(draw(pool, version=1)[part], rows)
    rare = Pool(np.repeat([0, 1, 2], [18, 18, 3]), None, 3)
    for part, rows in scikit_learns(rare.labels).items():
        np.testing.assert_array_equal(draw(rare, version=1)[part], rows)


# The same on datasets, and what their owners are told.


def dataset_of(labels, pixels=None, **parts) -> Dataset:
    labels = np.asarray(labels, dtype=np.int64)
    ids = np.array([f"train/{index:03d}" for index in range(len(labels))])
    return Dataset("some", NAMES[: int(labels.max()) + 1], some(labels, pixels, ids), **parts)


def some(labels, pixels=None, ids=None) -> Split:
    labels = np.asarray(labels, dtype=np.int64)
    numbers = np.arange(len(labels)) if pixels is None else np.asarray(pixels)
    images = numbers.astype("<u4").view(np.uint8).reshape(-1, 2, 2, 1)
    return Split(images, labels, np.arange(len(labels)).astype(str) if ids is None else ids)


def settings(**changed):
    return {**SplitSettings().model_dump(), **changed}


def test_equal_pixels_are_copies_whatever_their_names():
    whole = dataset_of(np.repeat(np.arange(100) % 2, 2), np.repeat(np.arange(100), 2))
    parts = divide(whole, **settings())
    assert parts.test is not None
    assert parts.val is not None
    assert not set(parts.train.hashes) & set(parts.val.hashes)
    assert not {*parts.train.hashes, *parts.val.hashes} & set(parts.test.hashes)
    assert parts.notes == (
        "100 images are copies of another; copies are kept together in one part",
    )
    before = divide(whole, **settings(version=1))
    assert before.test is not None
    n_twins = sum(key in set(before.train.hashes) for key in before.test.hashes)
    assert n_twins > 20
    assert before.notes == (
        "100 images are copies of another; 34 of 40 test images are copies of a training or "
        "validation image, and 19 of 32 validation images are copies of a training image: scores "
        "on those are too high",
    )


def test_one_copy_is_said_in_the_singular():
    pixels = np.arange(40)
    pixels[6] = pixels[4]
    parts = divide(dataset_of(np.arange(40) % 2, pixels), **settings())
    assert parts.notes == ("1 image is a copy of another; copies are kept together in one part",)
    test = SealedSplit(some([1, 0], [3, 900]))
    parts = divide(dataset_of(np.arange(40) % 2, test=test), **settings())
    assert parts.notes == (
        "1 image is a copy of another; 1 of 2 test images is a copy of a training or validation "
        "image: scores on those are too high",
    )


def test_copies_between_given_parts_are_said_and_left():
    test = SealedSplit(some([1, 0, 0, 1, 0], [3, 4, 900, 901, 902]))
    parts = divide(dataset_of(np.arange(40) % 2, test=test), **settings())
    assert parts.test is test
    assert parts.notes == (
        "2 images are copies of another; 2 of 5 test images are copies of a training or validation "
        "image: scores on those are too high",
    )


def test_the_same_image_in_two_classes_is_said():
    pixels = np.arange(40)
    pixels[7] = pixels[4]
    parts = divide(dataset_of(np.arange(40) % 2, pixels), **settings())
    assert parts.notes[-1] == (
        "1 image is in more than one class (such as 'a' and 'b'); 'convscope data check' lists them"
    )


@pytest.mark.parametrize(
    ("val", "test", "said"),
    [
        ([0, 1], [0, 1], ["no validation and no test image of class 'c'; its score is unknown"]),
        (
            [0],
            [0],
            ["no validation and no test image of classes 'b', 'c'; their scores are unknown"],
        ),
        (
            [0, 2],
            [0, 1],
            [
                "no validation image of class 'b'; no choice considers it",
                "no test image of class 'c'; its score is unknown",
            ],
        ),
        ([2, 1, 0], [0, 1, 2], []),
    ],
)
def test_a_class_that_is_not_judged_is_said(val, test, said):
    given = {
        "val": some(val, np.arange(500, 500 + len(val))),
        "test": SealedSplit(some(test, np.arange(600, 600 + len(test)))),
    }
    assert divide(dataset_of(np.arange(30) % 3, **given), **settings()).notes == tuple(said)


def test_that_a_class_is_too_rare_to_be_judged_is_said():
    rare = dataset_of(np.repeat([0, 1, 2], [18, 18, 2]))
    assert divide(rare, **settings()).notes == (
        "no validation and no test image of class 'c'; its score is unknown",
    )


def test_a_class_without_a_training_image_is_said():
    labels = [0] * 20 + [1]
    plain = settings(stratify=False)
    told = {divide(dataset_of(labels), **{**plain, "seed": seed}).notes for seed in range(20)}
    assert told == {
        ("no training image of class 'b'; it cannot be learnt",),
        ("no validation and no test image of class 'b'; its score is unknown",),
    }


def test_a_class_that_every_training_image_has_is_said_where_images_may_have_several():
    labels = np.ones((20, 2), np.uint8)
    labels[:, 0] = np.arange(20) % 2
    labels[7, 1] = 0
    images = np.arange(20, dtype="<u4").view(np.uint8).reshape(-1, 2, 2, 1)
    whole = Dataset("some", ("a", "b"), Split(images, labels, np.arange(20).astype(str)))
    told = ("every training image has class 'b'; it cannot be learnt",)
    seen = set()
    for seed in range(10):
        divided = divide(whole, **settings(seed=seed))
        everywhere = bool(divided.train.labels[:, 1].all())
        assert divided.notes == (told if everywhere else ())
        seen.add(everywhere)
    assert seen == {False, True}
    # Of one class for each image, the others cannot be learnt, and that is said.
    assert not classes_everywhere(("a", "b"), np.zeros(3, np.int64))


def test_notes_of_the_loader_come_first_and_nothing_is_added_without_need():
    whole = dataset_of(np.arange(40) % 2, notes=("as it was",))
    assert divide(whole, **settings()).notes == ("as it was",)


def test_a_dataset_with_test_images_leaves_them_alone_where_folds_are_tested():
    test = SealedSplit(some(np.arange(6) % 2, np.arange(500, 506)))
    whole = dataset_of(np.arange(40) % 2, test=test)
    held = []
    for fold in range(4):
        parts = divide(whole, **settings(folds=4, fold=fold, fold_as="test"))
        assert parts.test is not None
        held += parts.test.ids.tolist()
        assert parts.notes == (
            "each fold is the test part in turn; the existing test images are not used",
        )
    assert sorted(held) == sorted(whole.train.ids)


def test_a_dataset_keeps_its_test_images_where_folds_validate():
    test = SealedSplit(some(np.arange(6) % 2, np.arange(500, 506)))
    parts = divide(dataset_of(np.arange(40) % 2, test=test), **settings(folds=4, fold=1))
    assert parts.test is test
    assert parts.notes == ()


def test_each_image_is_hashed_once(monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "convscope.types.hashlib.sha256",
        lambda content: hashed.append(content) or hashlib.blake2b(content),
    )
    whole = dataset_of(np.arange(50) % 2)
    parts = divide(whole, **settings())
    assert parts.test is not None
    assert parts.val is not None
    every = [*parts.train.hashes, *parts.val.hashes, *parts.test.hashes]
    assert len(set(every)) == len(hashed) == 50
    # And they are those of the images that they stand beside.
    for split in (parts.train, parts.val, parts.test.open(lambda n: None)):
        expected = [hashlib.blake2b(image.tobytes()).hexdigest()[:16] for image in split.images]
        assert split.hashes == expected
