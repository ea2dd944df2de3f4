"""Pictures of what augmentation makes of training images."""

import numpy as np
import pytest

from convscope.recipe import AugmentSettings
from convscope.training.preview import COLUMNS, augmented_samples


def samples(n_images: int) -> tuple[np.ndarray, list[str]]:
    """Images that are brighter the later they come, and darker to the left; and their classes."""
    images = np.zeros((n_images, 4, 4, 1), np.uint8)
    images += (20 * np.arange(n_images) + 10).astype(np.uint8)[:, None, None, None]
    images[:, :, :2] //= 2
    return images, [["left", "right"][index % 2] for index in range(n_images)]


def test_each_image_stands_before_its_versions_which_are_mirrored_in_turns():
    images, captions = augmented_samples(
        *samples(12), AugmentSettings(flip=True), seed=1, mixed=True
    )
    rows = images.reshape(6, COLUMNS, 4, 4, 1)
    np.testing.assert_array_equal(rows[:, 0, 0, 3, 0], [10, 30, 50, 70, 90, 110])
    for row in rows:
        (plain,) = {index for index in (1, 2) if np.array_equal(row[index], row[0])}
        for index in range(1, COLUMNS):
            wanted = row[0] if (index - plain) % 2 == 0 else row[0, :, ::-1]
            np.testing.assert_array_equal(row[index], wanted)
    versions = [f"version {number}" for number in range(1, 5)]
    named = ["left", "right"] * 3
    assert captions == [text for name in named for text in (name, *versions)]


def test_captions_tell_the_shares_of_the_mixed_images():
    images, captions = augmented_samples(
        *samples(2), AugmentSettings(mixup=1.0), seed=3, mixed=True
    )
    rows = images.reshape(2, COLUMNS, 4, 4, 1)[:, :, 0, 3, 0].astype(float)
    told = np.array(captions).reshape(2, COLUMNS)
    assert told[:, 0].tolist() == ["left", "right"]
    for row, texts in zip(rows, told[:, 1:], strict=True):
        for level, text in zip(row[1:], texts, strict=True):
            shares = dict(part.split() for part in text.split("\n"))
            assert level == pytest.approx(
                sum(
                    float(share.rstrip("%")) / 100 * {"left": 10, "right": 30}[name]
                    for name, share in shares.items()
                ),
                abs=0.8,
            )


def test_on_a_backbone_pixels_are_not_mixed():
    images, captions = augmented_samples(
        *samples(3), AugmentSettings(mixup=1.0), seed=3, mixed=False
    )
    rows = images.reshape(3, COLUMNS, 4, 4, 1)
    np.testing.assert_array_equal(rows, np.repeat(rows[:, :1], COLUMNS, axis=1))
    assert captions[1] == "version 1"
