"""Models: one file each. Every one takes raw 0..255 pixels of any size and gives probabilities."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from convscope.registry import Registry
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras

ModelBuilder = Callable[[InputSpec, int], "keras.Model"]

MODELS: Registry[ModelBuilder] = Registry("model", "convscope.models")
