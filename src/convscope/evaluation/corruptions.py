"""Common corruptions of images, in five severities.

Kinds and strengths are those of CIFAR-10-C, made for images of 32 pixels; the blur grows with the
shorter side of the image. Values are rounded to the nearest whole number, where CIFAR-10-C
truncates them: the difference is at most one grey level.

References:
    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations", ICLR 2019; strengths by `ImageNet-C/create_c/make_cifar_c.py` in
    github.com/hendrycks/robustness, commit ca36008.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from convscope.classifier.views import Network
from convscope.errors import ConfigError
from convscope.types import FloatArray, Images, Split, UInt8Array

if TYPE_CHECKING:
    from PIL import Image

SEVERITIES = (1, 2, 3, 4, 5)
_MADE_FOR = 32
"""Side in pixels of the images that the strengths were chosen for."""
_BATCH = 100
"""Images in memory at once; those of a memory-mapped set stay on the disk."""

Corruption = Callable[[FloatArray, float, np.random.Generator], FloatArray]
"""Function of an image of shape (height, width, channels) in [0, 1], a strength and a generator."""


def _gaussian_noise(image: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    return image + rng.normal(0, c, image.shape).astype(np.float32)


def _shot_noise(image: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    return np.asarray(rng.poisson(image * c) / c, dtype=np.float32)


def _impulse_noise(image: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    draw = rng.random(image.shape)
    salted = np.where(draw < c / 2, 0, np.where(draw < c, 1, image))
    return np.asarray(salted, dtype=np.float32)


def _gaussian_blur(image: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    from scipy.ndimage import gaussian_filter

    del rng
    sigma = c * min(image.shape[:2]) / _MADE_FOR
    # As in the source, the pixels at the edge are repeated beyond it.
    return np.asarray(gaussian_filter(image, (sigma, sigma, 0), mode="nearest"), np.float32)


def _contrast(image: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    del rng
    mean = image.mean(axis=(0, 1), keepdims=True)
    return np.asarray((image - mean) * np.float32(c) + mean, dtype=np.float32)


def _brightness(image: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    del rng
    # In HSV, as in the source: the value rises, hue and saturation stay. Black has no hue: it
    # becomes grey.
    value = image.max(axis=-1, keepdims=True)  # (height, width, 1)
    colour = np.divide(image, value, out=np.ones_like(image), where=value > 0)
    return np.asarray(colour * (value + c).clip(0, 1), dtype=np.float32)


def _jpeg(image: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    from PIL import Image

    del rng
    file = io.BytesIO()
    _picture(image).save(file, format="JPEG", quality=int(c))
    return _values(Image.open(file), image)


def _pixelate(image: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    from PIL import Image

    del rng
    height, width = image.shape[:2]
    size = (max(1, int(width * c)), max(1, int(height * c)))
    small = _picture(image).resize(size, Image.Resampling.BOX)
    return _values(small.resize((width, height), Image.Resampling.BOX), image)


CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "gaussian-noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot-noise": (_shot_noise, (500, 250, 100, 75, 50)),
    "impulse-noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "gaussian-blur": (_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "jpeg": (_jpeg, (80, 65, 58, 50, 40)),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
}
"""By name: the function that corrupts an image, and its strength at each severity."""


def corrupt(
    images: Images, name: str, severity: int, *, seed: int = 83, first: int = 0
) -> UInt8Array:
    """Return corrupted images.

    The noise on an image depends on the seed, the corruption, the severity and the index of the
    image, not on the other images: batches of any size give the same as the whole set at once.

    Args:
        images: Shape (n_images, height, width, 1 or 3), uint8. Only one of them at a time is held
            as floats.
        name: Key of `CORRUPTIONS`.
        severity: Severity from 1 to 5.
        seed: Seed of the noise.
        first: Index of the first image, if these are a batch of a larger set.

    Returns:
        Shape as `images`, uint8.

    Raises:
        ConfigError: If there is no such severity.
    """
    if severity not in SEVERITIES:
        raise ConfigError(
            f"severity must be one of {', '.join(map(str, SEVERITIES))}, not {severity}"
        )
    corruption, strengths = CORRUPTIONS[name]
    key = (seed, list(CORRUPTIONS).index(name), severity)
    corrupted = np.empty(images.shape, dtype=np.uint8)
    for index, image in enumerate(images):
        rng = np.random.default_rng([*key, first + index])
        scaled = image.astype(np.float32) / np.float32(255)
        corrupted[index] = _bytes(corruption(scaled, strengths[severity - 1], rng))
    return corrupted


def answers_under(
    classifier: Network,
    split: Split,
    name: str | None = None,
    severity: int = 1,
    *,
    on_batch: Callable[[int], None] = lambda _: None,
) -> FloatArray:
    """Return the probabilities of corrupted images.

    But for these, memory does not grow with the number of images: they are read, corrupted and
    classified in batches.

    Args:
        classifier: Function from pixels to probabilities.
        split: Images, at least one.
        name: Key of `CORRUPTIONS`; None leaves the images as they are.
        severity: Severity from 1 to 5.
        on_batch: Called after each batch with its number of images.

    Returns:
        Shape (n_images, n_classes).

    Raises:
        ConfigError: If there is no such severity.
    """
    answers = []
    for start in range(0, len(split), _BATCH):
        images: UInt8Array = np.ascontiguousarray(split.images[start : start + _BATCH])
        if name is not None:
            images = corrupt(images, name, severity, first=start)
        answers.append(np.asarray(classifier.predict_on_batch(images), np.float32))
        on_batch(len(images))
    return np.concatenate(answers)


def _bytes(image: FloatArray) -> UInt8Array:
    return np.asarray(np.rint(image.clip(0, 1) * 255), dtype=np.uint8)


def _picture(image: FloatArray) -> "Image.Image":
    from PIL import Image

    pixels = _bytes(image)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _values(picture: "Image.Image", like: FloatArray) -> FloatArray:
    pixels = np.asarray(picture, dtype=np.float32)
    return pixels.reshape(like.shape) / np.float32(255)
