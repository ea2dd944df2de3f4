"""What the tests of training share."""

import dataclasses
from collections.abc import Iterator

import keras
import pytest

from convscope.models.backbones import BACKBONES, Backbone


def _build(shape: tuple[int, int, int]) -> keras.Model:
    x = image = keras.Input(shape)
    for stage in range(1, 6):
        convolution = keras.layers.Conv2D(
            8, 3, strides=2, padding="same", activation="relu", name=f"conv{stage}"
        )
        x = convolution(x)
    return keras.Model(image, x, name="tiny")


@pytest.fixture(scope="module")
def tiny() -> Iterator[Backbone]:
    """A registered backbone of five convolutions, each a stage."""
    stages = {f"stage{n}": f"conv{n}" for n in range(1, 6)}
    other = BACKBONES.get("mobilenet_v2")
    backbone = dataclasses.replace(
        other, name="tiny", build=_build, smallest_size=32, stages=stages
    )
    BACKBONES.register("tiny")(backbone)
    yield backbone
    del BACKBONES._entries["tiny"]
