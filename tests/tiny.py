"""A backbone of five convolutions, for tests of what is done with any: its training is quick."""

import dataclasses
from pathlib import Path

CHANNELS = 32
IN_A_PROCESS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import tiny
tiny.register()
"""
"""Code that registers it in a process of its own."""


def build(shape):
    """Return the network, of a convolution, a normalisation and an activation in each stage."""
    import keras

    x = image = keras.Input(shape)
    for stage in range(1, 6):
        convolution = keras.layers.Conv2D(
            CHANNELS, 3, strides=2, padding="same", use_bias=False, name=f"conv{stage}"
        )
        x = keras.layers.BatchNormalization(name=f"norm{stage}")(convolution(x))
        x = keras.layers.ReLU(name=f"relu{stage}")(x)
    return keras.Model(image, x, name="tiny")


def register() -> None:
    """Register it as "tiny", with the facts of MobileNetV2 where it has none of its own."""
    from convscope.models.backbones import BACKBONES

    tiny = dataclasses.replace(
        BACKBONES.get("mobilenet_v2"),
        name="tiny",
        build=build,
        smallest_size=32,
        stages={f"stage{stage}": f"relu{stage}" for stage in range(1, 6)},
        pooled=(),
    )
    BACKBONES.register("tiny")(tiny)
