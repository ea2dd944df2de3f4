"""Preprocessing that travels with the model: its first layers resize and scale the raw pixels."""

from typing import TYPE_CHECKING

from convscope.errors import ConfigError
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras

# Each scaling as (scale, offset): what the network sees is pixel * scale + offset.
SCALINGS: dict[str, tuple[float, float]] = {
    "none": (1.0, 0.0),
    "unit": (1.0 / 255.0, 0.0),
}


def preprocessing_layers(spec: InputSpec) -> "list[keras.Layer]":
    """Return the layers that turn raw pixels into what the network wants to see.

    They take images of shape (batch, any height, any width, channels) with values in 0..255,
    uint8 or float, and give float32 images of shape (batch, spec.height, spec.width, channels).
    Resizing is bilinear and antialiased, like Pillow's `BILINEAR`, so a model gives the same
    answer for an image that was resized before and one that was not.

    The layers compute in float32 under every precision policy: bfloat16 holds the whole numbers
    0..255 exactly but not the fractions between them that resizing makes. The layer after them
    casts to its own precision.

    Args:
        spec: The size, channels and scaling that the network expects.

    Returns:
        Keras' own layers, in order: "resize" and, unless the scaling is "none", "rescale".

    Raises:
        ConfigError: If the size is not positive or the scaling is not known.
    """
    if spec.height < 1 or spec.width < 1:
        raise ConfigError(
            f"image size {spec.height}x{spec.width} is not possible; both sides must be at least 1"
        )
    if spec.scaling not in SCALINGS:
        known = ", ".join(sorted(SCALINGS))
        raise ConfigError(f"unknown pixel scaling '{spec.scaling}'; choose one of: {known}")

    import keras

    from convscope.models._resizing import Resizing

    layers = [
        Resizing(
            spec.height,
            spec.width,
            interpolation="bilinear",
            antialias=True,
            dtype="float32",
            name="resize",
        )
    ]
    scale, offset = SCALINGS[spec.scaling]
    if (scale, offset) != (1.0, 0.0):
        layers.append(keras.layers.Rescaling(scale, offset, dtype="float32", name="rescale"))
    return layers
