"""Preprocessing that travels with the model: its first layers resize and scale the raw pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convscope.errors import ConfigError
from convscope.models.structure import as_functional, is_resizing
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras


Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Scaling:
    """Scaling of pixels for a network: `pixel * scale + offset`, channel by channel.

    Attributes:
        scale: One factor, or one for each of red, green and blue.
        offset: One offset, or one for each of red, green and blue.
        bgr: Whether the network takes blue first; `scale` and `offset` are then in that order.
    """

    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    bgr: bool = False

    @property
    def colour(self) -> bool:
        """Whether it applies to images of three channels only."""
        return self.bgr or not (isinstance(self.scale, float) and isinstance(self.offset, float))


_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

SCALINGS: dict[str, Scaling] = {
    "none": Scaling(),
    "unit": Scaling(scale=1.0 / 255.0),
    # The names are those of `keras.applications.imagenet_utils.preprocess_input`.
    "tf": Scaling(scale=1.0 / 127.5, offset=-1.0),
    "torch": Scaling(
        scale=tuple(1.0 / 255.0 / std for std in _IMAGENET_STD),
        offset=tuple(-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)),
    ),
    "caffe": Scaling(offset=(-103.939, -116.779, -123.68), bgr=True),
    # EfficientNet-Lite: whole numbers, so that 8-bit arithmetic loses nothing.
    "lite": Scaling(scale=1.0 / 128.0, offset=-127.0 / 128.0),
}
"""Scaling of pixels by name: "none" keeps 0..255, "unit" gives [0, 1], "tf" [-1, 1], "torch"
zero mean and unit spread over ImageNet, "caffe" blue first and zero mean over ImageNet, "lite"
(pixel - 127) / 128."""


RANGES = {
    "none": "0 to 255",
    "unit": "0 to 1",
    "tf": "-1 to 1",
    "torch": "to mean 0 and spread 1",
    "caffe": "blue first, minus the mean",
    "lite": "-0.99 to 1",
}
"""Resulting values, in words."""


def preprocessing_layers(spec: InputSpec) -> list[Any]:
    """Return the layers that turn raw pixels into the input that a network was trained on.

    They take images of shape (batch, any height, any width, channels) with values in 0..255,
    uint8 or float, and give float32 images of shape (batch, spec.height, spec.width, channels).
    Resizing is bilinear and antialiased, like Pillow's `BILINEAR`, so a model gives the same
    answer for an image that was resized beforehand and one that was not.

    They compute in float32 under every precision policy: bfloat16 holds the whole numbers 0..255
    exactly, but not the fractions between them that resizing produces. The layer after them
    casts to its own precision.

    Args:
        spec: The size, channels and scaling that the network expects.

    Returns:
        The layers of `resizing_layer` and `scaling_layers`, in this order.

    Raises:
        ConfigError: If the size is not positive, the scaling is unknown, or it is one for colours
            and the images are grey.
    """
    return [resizing_layer(spec), *scaling_layers(spec)]


def resizing_layer(spec: InputSpec) -> "keras.Model":
    """Return "resize", a small model that resizes images to the size of a network.

    Raises:
        ConfigError: If the size is not positive.
    """
    if spec.height < 1 or spec.width < 1:
        raise ConfigError(
            f"image size {spec.height}x{spec.width} is not possible; both sides must be at least 1"
        )
    from convscope.models._resizing import build_resizing

    return build_resizing(spec.height, spec.width, spec.channels)


@contextmanager
def working_at(model: "keras.Model", size: Size | None) -> Iterator[None]:
    """Let a model work at another size in what is traced, or run uncompiled, meanwhile.

    Args:
        model: Model that resizes images to its own size.
        size: Another size; None: its own.
    """
    if size is None:
        yield
        return
    from convscope.models._resizing import resizing_to

    (resizing,) = filter(is_resizing, as_functional(model).layers)
    with resizing_to(resizing, *size):
        yield


def scaling_layers(spec: InputSpec) -> list[Any]:
    """Return the layers that scale pixels 0..255, by channel.

    Returns:
        Keras' layer "rescale", or nothing if the scaling is "none". For the scaling "caffe", an
        operation that reverses the channels comes first; it works in a functional model, not in a
        Sequential one.

    Raises:
        ConfigError: If the scaling is unknown, or it is one for colours and the images are grey.
    """
    if spec.scaling not in SCALINGS:
        known = ", ".join(sorted(SCALINGS))
        raise ConfigError(f"unknown pixel scaling '{spec.scaling}'; choose one of: {known}")
    if SCALINGS[spec.scaling].colour and spec.channels != 3:
        raise ConfigError(f"the pixel scaling '{spec.scaling}' is for images with 3 channels")

    import keras

    layers: list[Any] = []
    scaling = SCALINGS[spec.scaling]
    if scaling.bgr:
        layers.append(lambda pixels: keras.ops.take(pixels, (2, 1, 0), axis=-1))
    if (scaling.scale, scaling.offset) != (1.0, 0.0):
        # As lists: Keras saves them in the model's configuration, which is JSON.
        scale, offset = (
            value if isinstance(value, float) else list(value)
            for value in (scaling.scale, scaling.offset)
        )
        layers.append(keras.layers.Rescaling(scale, offset, dtype="float32", name="rescale"))
    return layers
