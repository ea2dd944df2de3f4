"""Parts of images that have any number of classes."""

import numpy as np
import pytest

from convscope.datasets.division.draw import Pool, draw_folds, hold_out
from convscope.datasets.division.iterative_stratification import iterative_stratification
from convscope.datasets.division.splits import draw_parts
from convscope.errors import DataError
from convscope.recipe import SplitSettings

NAMES = tuple(f"class {n}" for n in range(12))


def pool_of(n_images: int = 1_000, *, copies: int = 0) -> Pool:
    """Images with classes from half to a hundredth of them, which come together in part."""
    random = np.random.default_rng(0)
    rates = np.geomspace(0.5, 0.01, len(NAMES))
    labels = (random.random((n_images, len(NAMES))) < rates).astype(np.uint8)
    labels[:, 1] |= labels[:, 0]
    keys = [str(n if n >= copies else n // 2) for n in range(n_images)]
    return Pool(labels, keys, len(NAMES))


def shares_of(pool: Pool, parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: pool.labels[rows].mean(axis=0) for name, rows in parts.items()}


def test_each_class_has_its_share_in_each_part():
    pool = pool_of()
    parts = draw_parts(pool, NAMES, SplitSettings(), has_val=False, has_test=False)
    assert {name: len(rows) for name, rows in parts.items()} == {
        "test": 200,
        "val": 160,
        "train": 640,
    }
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1_000))
    expected = pool.labels.sum(axis=0)
    for name, share in (("train", 0.64), ("val", 0.16), ("test", 0.2)):
        there = pool.labels[parts[name]].sum(axis=0)
        assert abs(there - share * expected).max() < 2  # a plain draw is up to 15 off


def test_folds_share_out_each_class():
    pool = pool_of()
    part_of = draw_folds(pool, 5, 83, stratify=True)
    held_out = [np.flatnonzero(part_of == which) for which in range(5)]
    assert sorted(np.concatenate(held_out)) == list(range(1_000))
    counts = np.stack([pool.labels[rows].sum(axis=0) for rows in held_out])
    assert np.ptp(counts, axis=0).max() <= 2
    assert {len(rows) for rows in held_out} <= {199, 200, 201}


def test_copies_stay_together():
    pool = pool_of(copies=400)
    parts = draw_parts(pool, NAMES, SplitSettings(), has_val=False, has_test=False)
    part_of = {}
    for name, rows in parts.items():
        for row in rows:
            part_of.setdefault(pool.keys[row], set()).add(name)
    assert all(len(parts) == 1 for parts in part_of.values())
    assert abs(len(parts["val"]) - 160) <= 2


def test_a_class_of_three_images_is_in_each_part():
    labels = np.zeros((300, 3), np.uint8)
    labels[::2, 0] = 1
    labels[:3, 1] = 1
    labels[3:6, 2] = 1
    labels[3:6, 1] = 0
    pool = Pool(labels, None, 3)
    for seed in range(5):
        settings = SplitSettings(seed=seed)
        parts = draw_parts(pool, NAMES[:3], settings, has_val=False, has_test=False)
        for rows in parts.values():
            assert labels[rows].sum(axis=0)[1:].tolist() == [1, 1]


def test_the_draw_depends_on_the_seed_alone():
    pool = pool_of(200)
    zeros = np.zeros(len(NAMES), np.int64)
    first, again, other = (
        hold_out(pool, 0.2, seed, stratify=True, least_kept=zeros, least_held=zeros)[1]
        for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_a_plain_draw_looks_at_no_class():
    pool = pool_of(200)
    settings = SplitSettings(stratify=False)
    parts = draw_parts(pool, NAMES, settings, has_val=False, has_test=False)
    assert {name: len(rows) for name, rows in parts.items()} == {
        "test": 40,
        "val": 32,
        "train": 128,
    }


def test_too_few_images_of_a_class_are_refused():
    labels = np.zeros((20, 2), np.uint8)
    labels[:10, 0] = 1
    labels[0, 1] = 1
    pool = Pool(labels, None, 2)
    with pytest.raises(DataError, match="class 'class 1' has 1 image, too few to split"):
        draw_parts(pool, NAMES, SplitSettings(), has_val=False, has_test=False)
    labels[1, 1] = 1
    with pytest.raises(DataError, match="2 images of class 'class 1' cannot be in 3 folds"):
        draw_parts(
            Pool(labels, None, 2), NAMES, SplitSettings(folds=3), has_val=False, has_test=True
        )


def test_the_rarest_class_is_shared_out_first():
    # Were the common class first, it could fill the parts before the rare one.
    labels = np.array([[1, 0]] * 8 + [[1, 1]] * 2, np.uint8)
    part_of = iterative_stratification(labels, np.ones(10, np.int64), (0.5, 0.5), 0)
    assert np.bincount(part_of).tolist() == [5, 5]
    assert part_of[8] != part_of[9]
