"""Common corruptions of images, in five severities.

The kinds and their strengths are those of CIFAR-10-C, made for images of 32 pixels: Hendrycks and
Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019. Blurs grow with the image's side.
"""

import io
from collections.abc import Callable

import numpy as np

from convscope.errors import ConfigError
from convscope.types import FloatArray, UInt8Array

SEVERITIES = (1, 2, 3, 4, 5)
_MADE_FOR = 32
"""Side in pixels of the images that the strengths are for."""

Corruption = Callable[[FloatArray, float, np.random.Generator], FloatArray]


def _gaussian_noise(images: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    return images + rng.normal(0, c, images.shape).astype(np.float32)


def _shot_noise(images: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    return np.asarray(rng.poisson(images * c) / c, dtype=np.float32)


def _impulse_noise(images: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    draw = rng.random(images.shape)
    salted = np.where(draw < c / 2, 0, np.where(draw < c, 1, images))
    return np.asarray(salted, dtype=np.float32)


def _gaussian_blur(images: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    from scipy.ndimage import gaussian_filter

    del rng
    sigma = c * min(images.shape[1:3]) / _MADE_FOR
    return np.asarray(gaussian_filter(images, (0, sigma, sigma, 0), mode="reflect"), np.float32)


def _contrast(images: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    del rng
    mean = images.mean(axis=(1, 2), keepdims=True)
    return np.asarray((images - mean) * np.float32(c) + mean, dtype=np.float32)


def _brightness(images: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    del rng
    # As the source does it in HSV: the value rises, hue and saturation stay.
    value = images.max(axis=-1, keepdims=True)
    return np.asarray(images * ((value + c).clip(0, 1) / np.maximum(value, 1e-6)), np.float32)


def _jpeg(images: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    from PIL import Image

    del rng
    found = np.empty_like(images)
    for index, image in enumerate(_bytes(images)):
        held = io.BytesIO()
        Image.fromarray(image.squeeze()).save(held, format="JPEG", quality=int(c))
        found[index] = np.asarray(Image.open(held)).reshape(image.shape) / np.float32(255)
    return found


def _pixelate(images: FloatArray, c: float, rng: np.random.Generator) -> FloatArray:
    from PIL import Image

    del rng
    found = np.empty_like(images)
    height, width = images.shape[1:3]
    size = (max(1, int(width * c)), max(1, int(height * c)))
    for index, image in enumerate(_bytes(images)):
        small = Image.fromarray(image.squeeze()).resize(size, Image.Resampling.BOX)
        large = small.resize((width, height), Image.Resampling.NEAREST)
        found[index] = np.asarray(large).reshape(image.shape) / np.float32(255)
    return found


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
"""By name, what it does to images in [0, 1] and how strongly in each severity."""


def corrupt(images: UInt8Array, name: str, severity: int, *, seed: int = 83) -> UInt8Array:
    """Return images with a corruption.

    Args:
        images: Shape (n_images, height, width, 1 or 3), uint8.
        name: One of `CORRUPTIONS`.
        severity: From 1 to 5.
        seed: Of the noise; the same seed gives the same.

    Returns:
        Of the same shape, uint8.

    Raises:
        ConfigError: If there is no such severity.
    """
    if severity not in SEVERITIES:
        raise ConfigError(f"severity {severity}: choose one of {', '.join(map(str, SEVERITIES))}")
    corruption, strengths = CORRUPTIONS[name]
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name), severity])
    scaled = images.astype(np.float32) / np.float32(255)
    return _bytes(corruption(scaled, strengths[severity - 1], rng))


def _bytes(images: FloatArray) -> UInt8Array:
    return np.asarray(np.rint(images.clip(0, 1) * 255), dtype=np.uint8)
