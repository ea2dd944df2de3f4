"""The search for near duplicates skips most pairs; here it is held against looking at all."""

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.checks import duplicates
from convscope.datasets.checks.duplicates import (
    Fingerprints,
    equal_groups,
    fingerprint,
    near_groups,
)


def flip(code: int, n_bits: int, rng: np.random.Generator) -> int:
    for bit in rng.choice(64, n_bits, replace=False):
        code ^= 1 << int(bit)
    return code


@pytest.fixture
def hashes() -> np.ndarray:
    """Hashes of which many lie at, just inside and just outside the limit from others."""
    rng = np.random.default_rng(0)
    centres = [int(code) for code in rng.integers(0, 2**63, 60)]
    codes = [flip(code, n_bits, rng) for code in centres for n_bits in (0, 0, 3, 6, 7, 12)]
    return rng.permutation(np.array(codes, dtype=np.uint64))


@pytest.mark.parametrize("block", [3, 2048])
def test_candidates_are_those_of_looking_at_all_pairs(
    hashes: np.ndarray, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    expected = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= duplicates.MAX_DISTANCE
    }
    found = [
        tuple(sorted(pair)) for pairs in duplicates._candidates(hashes) for pair in pairs.tolist()
    ]
    assert len(expected) > 200
    assert set(found) == expected
    assert len(found) == len(expected)


def photo(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    return np.asarray(shapes.resize((40, 40), Image.Resampling.BICUBIC))


def prints_of(*images: np.ndarray) -> Fingerprints:
    return duplicates.gather(fingerprint(image) for image in images)


def test_chains_join_into_one_group() -> None:
    """A is like B and B like C, however the pairs come in."""
    first, other = photo(1), photo(2)
    copies = [np.clip(first.astype(int) + shift, 0, 255).astype(np.uint8) for shift in (0, 4, 9)]
    prints = prints_of(copies[2], other, copies[0], photo(3), copies[1], other[:, ::1] ^ 1)
    assert near_groups(prints) == ([[0, 2, 4], [1, 5]], True)


def test_different_photos_are_in_no_group() -> None:
    prints = prints_of(*(photo(seed) for seed in range(200)))
    assert near_groups(prints) == ([], True)


def test_equal_hashes_alone_prove_nothing() -> None:
    """The pictures have the last word."""
    prints = prints_of(photo(1), photo(2))
    forged = Fingerprints(np.zeros(2, dtype=np.uint64), prints.pictures)
    assert near_groups(forged) == ([], True)
    twins = Fingerprints(np.zeros(2, dtype=np.uint64), prints.pictures[[0, 0]])
    assert near_groups(twins) == ([[0, 1]], True)


def test_grey_images_are_compared_too() -> None:
    grey = photo(1)[:, :, :1]
    assert near_groups(prints_of(grey, photo(2)[:, :, :1], grey ^ 1)) == ([[0, 2]], True)


def test_nothing_to_compare() -> None:
    assert near_groups(prints_of()) == ([], True)
    assert near_groups(prints_of(photo(1))) == ([], True)
    assert equal_groups([]) == []


def test_the_search_is_given_up_when_too_much_is_alike() -> None:
    alike = prints_of(*[photo(1)] * 5)
    assert near_groups(alike, max_candidates=9) == ([], False)
    assert near_groups(alike, max_candidates=10) == ([[0, 1, 2, 3, 4]], True)
