"""Fixed names for layers that Keras numbers differently in every network it builds."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

Build = Callable[[tuple[int, int, int]], "keras.Model"]


def name_output(build: Build, name: str) -> Build:
    """Return a builder of the same network whose last layer is called `name`."""

    def build_named(shape: tuple[int, int, int]) -> "keras.Model":
        trunk = build(shape)
        trunk.layers[-1].name = name
        return trunk

    return build_named
