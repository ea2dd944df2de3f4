"""Models: one file each. All take raw 0..255 pixels of any size and return probabilities.

There are two kinds: networks that are trained from scratch (`MODELS`), and pretrained backbones
that get a new head (`backbones.BACKBONES`; `transfer.TransferModel` joins the two).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from convscope.errors import UnknownNameError
from convscope.registry import Registry
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras

ModelBuilder = Callable[[InputSpec, int], "keras.Model"]

MODELS: Registry[ModelBuilder] = Registry("model", "convscope.models", group="convscope.models")


def is_backbone(name: str) -> bool:
    """Return whether a name is a pretrained backbone, not a network that is trained from scratch.

    Raises:
        UnknownNameError: If it is neither; the message suggests the nearest name of both kinds.
    """
    from convscope.models.backbones import BACKBONES

    if name in BACKBONES.names():
        return True
    if name not in MODELS.names():
        raise UnknownNameError("model", name, [*MODELS.names(), *BACKBONES.names()])
    return False
