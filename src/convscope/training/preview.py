"""What augmentation makes of some training images, to show to people."""

import numpy as np

from convscope.recipe import AugmentSettings
from convscope.training.augment import AugmentedView, soft_targets
from convscope.types import FloatArray, UInt8Array

N_IMAGES = 6
N_VERSIONS = 4
COLUMNS = 1 + N_VERSIONS
"""Pictures in a row: an image, and its versions."""


def augmented_samples(
    images: UInt8Array, names: list[str], settings: AugmentSettings, seed: int, *, mixed: bool
) -> tuple[UInt8Array, list[str]]:
    """Return training images, each followed by versions of it, and captions, for a grid.

    The versions are drawn as training draws them, but are not those of a certain training, in which
    they depend on the positions of an image among all and in its batch.

    Args:
        images: Shape (n_images, height, width, channels), of which the first are taken.
        names: Name of the class of each.
        settings: Kinds and strengths of augmentation.
        seed: Seed of the random numbers.
        mixed: Whether MixUp and CutMix apply to pixels; on a backbone they mix what it computes.

    Returns:
        Images of shape (6 * 5, height, width, channels), uint8, fewer of fewer than 6
        images, and a text for each: the class of an image, and the number of a version,
        or the classes and shares of the images that are mixed in it.
    """
    images, names = images[:N_IMAGES], names[:N_IMAGES]
    columns = [(images, names)]
    for version in range(N_VERSIONS):
        pixels = AugmentedView(images, settings, seed, version)[:]
        captions = [f"version {version + 1}"] * len(images)
        # Each image is a class of its own here, so that the targets tell the shares of images.
        own = np.arange(len(images))
        mix = soft_targets(settings, 0.0, len(images), seed, version) if mixed else None
        if mix is not None:
            blend, shares = mix(pixels, own, 0)
            pixels = np.rint(blend).astype(np.uint8)
            captions = [_told(row, names) for row in shares]
        columns.append((pixels, captions))
    rows = np.stack([pixels for pixels, _ in columns], axis=1)  # (images, columns, h, w, channels)
    return (
        rows.reshape(-1, *images.shape[1:]),
        [text for row in zip(*(texts for _, texts in columns), strict=True) for text in row],
    )


def _told(shares: FloatArray, names: list[str]) -> str:
    """Return the classes that are mixed in a picture, and their shares, one below the other.

    Examples:
        >>> _told(np.array([0.25, 0, 0.75]), ["cat", "dog", "cow"]).splitlines()
        ['cow 75%', 'cat 25%']
    """
    largest = [index for index in np.argsort(-shares, kind="stable") if shares[index] >= 0.005]
    return "\n".join(f"{names[index]} {shares[index]:.0%}" for index in largest)
