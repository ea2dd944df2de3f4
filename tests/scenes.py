"""Pictures made up by chance that have detail at every size, as photos have; and copies of them."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

UInt8 = np.ndarray


def scene(seed: int, side: int = 96) -> Image.Image:
    """A photo, as different from seed to seed as photos are."""
    chance = np.random.default_rng(seed)
    pixels = np.full((side, side, 3), 128.0)
    for coarse, strength in ((3, 60), (6, 45), (12, 35), (24, 30), (48, 20)):
        spots = chance.normal(0, strength, (coarse, coarse, 3)) * [1, 0.9, 0.8]
        spots = 0.6 * spots.mean(axis=2, keepdims=True) + 0.4 * spots
        layers = [
            np.asarray(
                Image.fromarray(spots[:, :, channel].astype(np.float32)).resize(
                    (side, side), Image.Resampling.BICUBIC
                )
            )
            for channel in range(3)
        ]
        pixels += np.stack(layers, axis=2)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def crop(image: Image.Image, share: float, left: float, top: float) -> Image.Image:
    """A part of the image at its full size; `left` and `top` are shares of what is cut off."""
    width, height = round(image.width * share), round(image.height * share)
    x, y = round((image.width - width) * left), round((image.height - height) * top)
    part = image.crop((x, y, x + width, y + height))
    return part.resize(image.size, Image.Resampling.BICUBIC)


def noisy(image: Image.Image, strength: float, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, strength, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def shift(image: Image.Image, right: int, down: int) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down), fillcolor=(128,) * 3
    )


# How copies come about, and the way in which they lie.
COPIES: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "saved as a poor JPEG": (lambda image: jpeg(image, 20), 0),
    "a thumbnail": (lambda image: image.resize((48, 48)).resize(image.size), 0),
    "cropped in a corner": (lambda image: crop(image, 0.9, 0, 1), 0),
    "cropped on all sides": (lambda image: crop(image, 0.85, 0.4, 0.6), 0),
    "shifted": (lambda image: shift(image, 6, -4), 0),
    "stretched": (lambda image: image.resize((96, 112)).crop((0, 8, 96, 104)), 0),
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.25), 0),
    "of little contrast": (lambda image: ImageEnhance.Contrast(image).enhance(0.5), 0),
    "of pale colours": (lambda image: ImageEnhance.Color(image).enhance(0.4), 0),
    "noisy": (lambda image: noisy(image, 10), 0),
    "mirrored": (ImageOps.mirror, 4),
    "mirrored and cropped": (lambda image: crop(ImageOps.mirror(image), 0.92, 1, 0), 4),
    "upside down": (ImageOps.flip, 6),
    "turned left": (lambda image: image.transpose(Image.Transpose.ROTATE_90), 1),
    "turned right": (lambda image: image.transpose(Image.Transpose.ROTATE_270), 3),
    "turned round": (lambda image: image.transpose(Image.Transpose.ROTATE_180), 2),
    "turned and saved as JPEG": (lambda i: jpeg(i.transpose(Image.Transpose.ROTATE_90), 60), 1),
    "mirrored along a diagonal": (lambda image: image.transpose(Image.Transpose.TRANSPOSE), 5),
    "mirrored along the other": (lambda image: image.transpose(Image.Transpose.TRANSVERSE), 7),
}
