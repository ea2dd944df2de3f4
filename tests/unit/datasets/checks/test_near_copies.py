"""Near copies: each kind of copy is found, images that only look alike are not."""

import csv
import itertools
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from convscope.api.data import load
from convscope.datasets.checks import neighbours
from convscope.datasets.checks.alignment import align, correlate, move
from convscope.datasets.checks.duplicates import NearGroup, near_groups
from convscope.datasets.checks.fingerprints import Fingerprints, fingerprint, gather
from convscope.datasets.checks.near_copies import (
    NearCopies,
    find_near_copies,
    least_likeness,
    near_copies_across,
)
from convscope.images.fit import FITS, resize
from convscope.progress import Progress
from convscope.types import Split
from scenes import COPIES, crop, jpeg, noisy, scene


def prints_of(images: Iterable[Image.Image | np.ndarray]) -> Fingerprints:
    return gather(fingerprint(np.asarray(image)) for image in images)


def pairs_of(found: NearCopies) -> list[tuple[int, int]]:
    return sorted((min(pair), max(pair)) for pair in found.pairs.tolist())


# Copies are found, and nothing else


@pytest.mark.parametrize("size", [96, 32])
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_among_many_images_is_found_with_the_way_it_lies(kind: str, size: int) -> None:
    copy, way = COPIES[kind]
    originals = [scene(seed) for seed in range(40)]
    images = [image.resize((size, size)) for image in (*originals, copy(originals[7]))]
    found = find_near_copies(prints_of(images))
    assert pairs_of(found) == [(7, 40)]
    assert near_groups(found) == [NearGroup((7, 40), (0, way))]
    assert found.complete


@pytest.mark.parametrize("side", [96, 40])
@pytest.mark.parametrize("fit", FITS)
def test_copies_of_another_aspect_ratio_are_found_however_images_are_fitted(
    fit: str, side: int
) -> None:
    def fitted(images: list[Image.Image]) -> Split:
        pixels = np.stack([np.asarray(resize(image, (side, side), fit)) for image in images])
        ids = np.array([str(place) for place in range(len(images))])
        return Split(pixels, np.zeros(len(images), np.int64), ids)

    shapes = [(96, 72), (72, 96), (96, 54)]
    photos = [scene(seed).resize(shapes[seed % 3]) for seed in range(60)]
    copies = [
        image.crop((0, 0, image.width, round(0.9 * image.height))).resize((image.width, 72))
        for image in photos[:20]
    ]
    others = [scene(seed).resize(shapes[seed % 3]) for seed in range(60, 90)]
    found = near_copies_across({"train": fitted(photos), "val": fitted([*copies, *others])})
    assert found["train", "val"] == [(place, place) for place in range(20)]


def test_different_photos_are_no_copies() -> None:
    found = find_near_copies(prints_of(scene(seed) for seed in range(150)))
    assert pairs_of(found) == []


def test_most_copies_are_found_where_each_image_was_augmented_before() -> None:
    """Four images in five are copies, so most of what is alike is a copy."""
    chance = np.random.default_rng(0)
    originals = [scene(seed) for seed in range(40)]
    copies = [
        jpeg(crop(image, chance.uniform(0.88, 1), *chance.uniform(0, 1, 2)), 70)
        for image in originals
        for _ in range(4)
    ]
    groups = near_groups(find_near_copies(prints_of([*originals, *copies])))
    expected = {(place, *range(40 + 4 * place, 44 + 4 * place)) for place in range(40)}
    assert len(expected & {group.places for group in groups}) >= 38
    for group in groups:
        # No two originals are taken for one.
        assert sum(place < 40 for place in group.places) <= 1


def test_digits_are_alike_but_no_copies() -> None:
    dataset = load("digits", progress=Progress())
    prints = prints_of(dataset.train.images)
    assert pairs_of(find_near_copies(prints)) == []


def test_noisy_copies_of_digits_are_found_among_digits() -> None:
    digits = load("digits", progress=Progress()).train.images[:500]
    chance = np.random.default_rng(0)
    copies = [
        (image + chance.integers(-4, 5, image.shape)).clip(0, 255).astype(np.uint8)
        for image in digits[:12]
    ]
    found = set(pairs_of(find_near_copies(prints_of([*digits, *copies]))))
    expected = {(place, 500 + place) for place in range(12)}
    assert len(found & expected) >= 11
    # A copy of an image is like what that is like; some are hard to tell from it.
    assert len(found - expected) <= 4


def strokes(chance: np.random.Generator, n_images: int) -> list[np.ndarray]:
    """One sign, written many times: alike, but no two are one image."""
    images = []
    for _ in range(n_images):
        y, x = np.mgrid[:28, :28] / 27 - 0.5
        slant, size, middle, width = chance.normal([0.2, 0.3, 0.0, 0.06], [0.15, 0.04, 0.04, 0.015])
        ring = np.abs(np.hypot(x - slant * y - middle, 1.2 * y) - size)
        light = 255 * np.clip(1.5 - ring / max(width, 0.03), 0, 1)
        images.append(light.astype(np.uint8)[:, :, None])
    return images


def test_one_sign_written_many_times_is_no_copy_but_its_copies_are() -> None:
    chance = np.random.default_rng(0)
    written = strokes(chance, 300)
    assert len(pairs_of(find_near_copies(prints_of(written)))) <= 1
    copies = [(image * 0.95 + 4).astype(np.uint8) for image in written[:20]]
    found = set(pairs_of(find_near_copies(prints_of([*written, *copies]))))
    expected = {(place, 300 + place) for place in range(20)}
    assert len(found & expected) >= 18
    assert len(found - expected) <= 4


def test_a_form_filled_in_by_hand_is_no_copy_of_another() -> None:
    """What all images have in common says nothing about two of them."""
    form = np.full((96, 96), 250.0)
    form[8::14] = form[:, 5::30] = 120
    images = []
    for seed in range(100):
        image = form.copy()
        image[10:86, 10:86] -= np.asarray(scene(seed, 76).convert("L"), float) / 1.2
        images.append(image.clip(0, 255).astype(np.uint8)[:, :, None])
    copy = (images[3] * 0.9).astype(np.uint8)
    assert pairs_of(find_near_copies(prints_of([*images, copy]))) == [(3, 100)]


def test_other_colours_are_no_copy_but_a_shade_is() -> None:
    image = scene(1)
    strong = ImageEnhance.Color(image).enhance(2.5)
    red, green, blue = strong.split()
    others = [scene(seed) for seed in range(2, 30)]
    swapped = Image.merge("RGB", (blue, green, red))
    assert pairs_of(find_near_copies(prints_of([*others, strong, swapped]))) == []
    assert pairs_of(find_near_copies(prints_of([*others, image, strong]))) == [(28, 29)]


def banded(colour: tuple[int, int, int]) -> Image.Image:
    """A scene with a band of one colour, such as a flag or a lamp that stands for its class."""
    image = scene(1)
    image.paste(colour, (0, 40, image.width, 56))
    return image


def test_a_part_of_another_hue_is_no_copy() -> None:
    others = [scene(seed) for seed in range(2, 30)]
    # As light as each other.
    red, green, blue = banded((200, 40, 40)), banded((20, 110, 60)), banded((40, 80, 160))
    assert pairs_of(find_near_copies(prints_of([*others, red, green, blue]))) == []
    pale = ImageEnhance.Color(red).enhance(0.4)
    orange = banded((190, 60, 30))
    found = pairs_of(find_near_copies(prints_of([*others, red, pale, orange])))
    assert set(found) >= {(28, 29), (28, 30)}


def test_grey_images_are_compared_too() -> None:
    images = [scene(seed).convert("L") for seed in range(20)]
    grey = [np.asarray(image)[:, :, None] for image in (*images, images[4].rotate(90))]
    assert near_groups(find_near_copies(prints_of(grey))) == [NearGroup((4, 20), (0, 1))]


def test_small_images_among_large_ones_are_compared_too() -> None:
    images = [scene(seed) for seed in range(20)]
    prints = prints_of([*images, images[4].resize((40, 30))])
    assert prints.light.shape == (21, 64, 64)
    assert pairs_of(find_near_copies(prints)) == [(4, 20)]


@pytest.mark.parametrize("n_images", [0, 1, 2])
def test_few_images(n_images: int) -> None:
    assert pairs_of(find_near_copies(prints_of(scene(seed) for seed in range(n_images)))) == []
    twice = prints_of([scene(0), noisy(scene(0), 3)])
    assert pairs_of(find_near_copies(twice)) == [(0, 1)]


def test_flat_images_are_copies_if_they_have_one_shade() -> None:
    chance = np.random.default_rng(0)
    shades = [(250, 250, 250), (6, 6, 6), (200, 40, 40), (40, 40, 200)]
    images = [
        (np.full((40, 40, 3), shade) + chance.integers(-2, 3, (40, 40, 3))).astype(np.uint8)
        for shade in shades * 3
    ]
    groups = near_groups(find_near_copies(prints_of([scene(0), *images])))
    assert [group.places for group in groups] == [
        (1, 5, 9),
        (2, 6, 10),
        (3, 7, 11),
        (4, 8, 12),
    ]


# Groups


def test_ways_add_up_along_a_chain() -> None:
    # 1 is mirrored beside 0, and 2 turned left beside 1.
    pairs = np.array([[1, 0], [2, 1], [4, 3]])
    found = NearCopies(pairs, np.array([4, 1, 0]), True)
    assert near_groups(found) == [NearGroup((0, 1, 2), (0, 4, 5)), NearGroup((3, 4), (0, 0))]


def test_an_image_that_looks_the_same_without_a_turn_is_not_called_turned() -> None:
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    found = NearCopies(pairs, np.array([2, 0, 0]), True)
    assert near_groups(found) == [NearGroup((0, 1, 2), (0, 0, 0))]


# How alike is enough


def fall(chance: np.random.Generator, n_pairs: int, middle: float, width: float) -> np.ndarray:
    return np.tanh(chance.normal(middle, width, n_pairs)).astype(np.float32)


def limit_of(scores: np.ndarray) -> float:
    """Return the limit for pairs of which no two share an image."""
    return least_likeness(np.arange(2 * len(scores)).reshape(-1, 2), scores, 0.8)


def test_the_limit_is_low_where_copies_stand_apart() -> None:
    chance = np.random.default_rng(0)
    others, copies = fall(chance, 5000, 0.1, 0.2), fall(chance, 60, 1.8, 0.3)
    assert limit_of(np.concatenate([others, copies])) == pytest.approx(0.8)
    assert limit_of(copies) == pytest.approx(0.8)


@pytest.mark.parametrize(("middle", "width"), [(0.6, 0.25), (0.8, 0.25), (1.0, 0.3)])
def test_the_limit_rises_until_a_tenth_at_most_is_chance(middle: float, width: float) -> None:
    chance = np.random.default_rng(0)
    others, copies = fall(chance, 20_000, middle, width), fall(chance, 200, 2.6, 0.2)
    limit = limit_of(np.concatenate([others, copies]))
    false, right = (others >= limit).sum(), (copies >= limit).sum()
    assert right >= 150
    assert false <= 0.1 * (false + right)
    assert (others >= 0.8).sum() > 0.3 * len(copies)
    # Without copies there is next to nothing beyond any limit.
    limit = limit_of(others)
    assert (others >= limit).sum() <= 2


def test_no_pairs_no_limit() -> None:
    assert limit_of(np.empty(0, np.float32)) == np.inf


def test_one_image_that_is_like_many_counts_once() -> None:
    chance = np.random.default_rng(0)
    scores = fall(chance, 2000, 0.8, 0.2)
    hub = np.array([[5000, other] for other in range(5001, 5021)])
    pairs = np.concatenate([np.arange(4000).reshape(-1, 2), hub])
    alike = np.concatenate(
        [scores, np.full(20, np.tanh(np.arctanh(scores.max()) + 0.22), np.float32)]
    )
    assert least_likeness(pairs, alike, 0.8) == np.inf
    # Twenty pairs of their own are more than chance.
    assert scores.max() < limit_of(alike) <= alike.max()


# The search


def brute_force(features: np.ndarray, n_nearest: int) -> set[tuple[int, int]]:
    cosines = features @ features.T
    rows, columns = np.nonzero(cosines >= neighbours.MIN_COSINE)
    ranks = np.argsort(np.argsort(-cosines, axis=1), axis=1)
    return {(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if ranks[i, j] < n_nearest}


@pytest.mark.parametrize(("rows", "columns", "bunch"), [(128, 32768, 64), (7, 100, 8), (64, 33, 3)])
def test_the_nearest_are_those_of_looking_at_all_pairs(
    rows: int, columns: int, bunch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_ROWS", rows)
    monkeypatch.setattr(neighbours, "_COLUMNS", columns)
    monkeypatch.setattr(neighbours, "_BUNCH", bunch)
    features = np.random.default_rng(0).normal(size=(401, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    done: list[int] = []
    found = neighbours.nearest(features, features, 5, 401, lambda n, note="": done.append(n))
    assert {(int(i), int(j)) for i, j in zip(*found, strict=True)} == brute_force(features, 5)
    assert sum(done) == 401


def test_a_search_that_is_cut_short_says_so_and_looks_at_the_likeliest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "_FEW", 100)
    monkeypatch.setattr(neighbours, "_ROWS", 8)
    originals = [scene(seed) for seed in range(80)]
    prints = prints_of([*originals, *(noisy(image, 4) for image in originals)])
    whole = find_near_copies(prints)
    assert whole.complete
    assert len(pairs_of(whole)) == 80
    short = find_near_copies(prints, max_looked_at=7 * 160 * 40)
    assert not short.complete
    # A quarter of the pairs holds nearly all copies.
    assert len(pairs_of(short)) >= 73


def test_moves_are_found() -> None:
    pictures = np.stack([np.asarray(scene(seed, 32).convert("L"), np.float32) for seed in range(8)])
    asked = np.array([[0.06, 0.03, -0.05, -0.02]] * 8, np.float32)
    moved, _ = move(pictures, asked)
    found = align(moved, pictures, np.zeros((8, 4), np.float32), 12)
    np.testing.assert_allclose(found, asked, atol=0.01)


def test_moving_nothing_changes_nothing() -> None:
    pictures = np.random.default_rng(0).normal(size=(3, 2, 8, 8)).astype(np.float32)
    moved, within = move(pictures, np.zeros((3, 4), np.float32))
    np.testing.assert_allclose(moved, pictures, atol=1e-5)
    assert (within == 1).all()


def test_correlation_is_that_of_numpy_where_both_show_something() -> None:
    chance = np.random.default_rng(0)
    first, second = chance.normal(10, 5, (2, 4, 8, 8)).astype(np.float32)
    second = (first + second).astype(np.float32)
    within = np.zeros((4, 8, 8), np.float32)
    within[:, 2:, :5] = 1
    expected = [
        np.corrcoef(a[2:, :5].ravel(), b[2:, :5].ravel())[0, 1]
        for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(correlate(first, second, within), expected, atol=1e-4)


# Across parts


def split_of(name: str, images: list[Image.Image]) -> Split:
    ids = np.array([f"{name}/{place}" for place in range(len(images))])
    pixels = np.stack([np.asarray(image) for image in images])
    return Split(pixels, np.zeros(len(images), np.int64), ids)


def test_near_copies_across_parts_are_found_without_equal_ones() -> None:
    train = [scene(seed) for seed in range(40)]
    val = [scene(seed) for seed in range(100, 110)]
    test = [scene(seed) for seed in range(200, 210)]
    val += [noisy(train[0], 5), COPIES["mirrored"][0](train[1]), train[2]]
    near = crop(train[3], 0.93, 0, 0)
    test += [near, near, jpeg(val[4], 40), jpeg(train[5], 40)]
    parts = {
        "train": split_of("train", train),
        "val": split_of("val", val),
        "test": split_of("test", test),
    }
    assert near_copies_across(parts) == {
        ("train", "val"): [(0, 10), (1, 11)],
        ("train", "test"): [(3, 10), (3, 11), (5, 13)],
        ("val", "test"): [(4, 12)],
    }


# Memory and time


def peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def like_images(n_images: int) -> Fingerprints:
    """One photo, again and again with a little noise."""
    chance = np.random.default_rng(0)
    light, colours = fingerprint(np.asarray(scene(0, 32)))
    noise = chance.integers(-3, 4, (n_images, 32, 32))
    return Fingerprints(
        (light + noise).clip(0, 255).astype(np.uint8), np.repeat(colours[None], n_images, axis=0)
    )


@pytest.mark.slow
def test_memory_of_like_images_grows_no_faster_than_their_number() -> None:
    few, many = like_images(400), like_images(1600)
    work = peak_mb(lambda: find_near_copies(few))
    more = peak_mb(lambda: find_near_copies(many))
    assert more < 4.5 * work
    assert more < 100


def test_like_images_are_one_group() -> None:
    groups = near_groups(find_near_copies(like_images(200)))
    assert max(len(group.places) for group in groups) > 195


LARGE = """
import resource, sys
import numpy as np
from convscope.datasets.checks.duplicates import near_groups
from convscope.datasets.checks.fingerprints import Fingerprints
from convscope.datasets.checks.near_copies import find_near_copies

chance = np.random.default_rng(0)
n_images, kind = 100_000, sys.argv[1]
if kind == "white":
    light = chance.integers(250, 256, (n_images, 32, 32), dtype=np.uint8)
else:
    photo = np.kron(chance.integers(40, 216, (16, 16)), np.ones((2, 2), int))
    noise = chance.integers(-3, 4, (n_images, 32, 32), dtype=np.int8)
    light = (photo + noise).astype(np.uint8)
colours = np.zeros((n_images, 2, 8, 8), np.int8)
found = find_near_copies(Fingerprints(light, colours))
largest = max(len(group.places) for group in near_groups(found))
print(largest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["white", "photo"])
def test_a_hundred_thousand_like_images_take_little_memory(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE, kind], capture_output=True, text=True, check=True
    )
    largest, peak_mb = map(int, done.stdout.split())
    assert largest > 99_000
    assert peak_mb < 1500


# Against people


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif("CONVSCOPE_NEAR_DUPLICATES" not in os.environ, reason="no list is given")
def test_what_people_found_in_cifar10_is_found() -> None:
    """CONVSCOPE_NEAR_DUPLICATES names the list; see benchmarks/near_duplicates.py."""
    with Path(os.environ["CONVSCOPE_NEAR_DUPLICATES"]).open() as file:
        rows = list(csv.DictReader(file))
    near = {int(row["TestID"]) for row in rows if row["Judgment"] == "1"}
    similar = {int(row["TestID"]) for row in rows if row["Judgment"] == "2"}
    dataset = load("cifar10", progress=Progress())
    assert dataset.val is not None
    assert dataset.test is not None
    parts = [dataset.train, dataset.val, dataset.test.open(lambda _: None)]
    names = np.concatenate([part.ids for part in parts]).tolist()
    images = itertools.chain.from_iterable(part.images for part in parts)
    flagged = set()
    for group in near_groups(find_near_copies(prints_of(images))):
        inside = [names[place] for place in group.places]
        if any(name.startswith("train/") for name in inside):
            tests = [name for name in inside if name.startswith("test/")]
            flagged |= {int(name.removeprefix("test/")) for name in tests}
    assert len(flagged & near) >= 0.85 * len(near)
    # The list is far from whole: what is found beside it was looked at, and nearly all is right.
    assert len(flagged & similar) <= 20
    assert len(flagged) < 900
