"""The tutorial's small CNN, written in each of Keras' three styles.

Read `sequential.py`, `functional.py` and `subclassing.py` (with `_subclassed.py`) side by side:
they hold the same network, layer by layer, and the same seed gives them the same weights.

For 32x32 colour images and 10 classes:

    layer      output shape   parameters
    resize     (32, 32, 3)             0   any image to the size of the network
    rescale    (32, 32, 3)             0   0..255 to 0..1
    conv1      (32, 32, 32)          896   (3*3*3 + 1) * 32
    pool1      (16, 16, 32)            0
    conv2      (16, 16, 64)       18,496   (3*3*32 + 1) * 64
    pool2      (8, 8, 64)              0
    conv3      (8, 8, 64)         36,928   (3*3*64 + 1) * 64
    flatten    (4096,)                 0   8*8*64
    dense      (128,)            524,416   (4096 + 1) * 128
    probs      (10,)               1,290   (128 + 1) * 10
    total                        582,026
"""

from convscope.errors import ConfigError
from convscope.types import InputSpec

# Two poolings halve the image, rounding down; from 4 pixels on, one is left.
SMALLEST_SIDE = 4


def check_input(
    spec: InputSpec,
    n_classes: int,
    *,
    smallest: int = SMALLEST_SIDE,
    because: str = "halves it twice",
) -> None:
    """Reject inputs that a network cannot be built for.

    Args:
        spec: Size that the network works at.
        n_classes: Number of classes, at least 2.
        smallest: Least side in pixels.
        because: Reason of that limit: what the network does to the image.

    Raises:
        ConfigError: If an image side is under `smallest` or there are fewer than 2 classes.
    """
    if min(spec.height, spec.width) < smallest:
        raise ConfigError(
            f"image size {spec.height}x{spec.width} is too small for this network, which "
            f"{because}; use at least {smallest}x{smallest} pixels"
        )
    if n_classes < 2:
        raise ConfigError(f"a classifier needs at least 2 classes, not {n_classes}")
