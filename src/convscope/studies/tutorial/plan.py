"""The plan of the tutorial: what is trained, on how many images, and how long that takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convscope.studies.ladder.rungs import BETTER_HEAD

STYLES = ("cnn-sequential", "cnn-functional", "cnn-subclassing")
"""The tutorial's network in its order of styles."""

SEVERAL = "cnn-functional"
"""Style that is trained with several seeds; the others are shown to be the same network."""

AT_HAND = "efficientnet_lite0"
"""Backbone whose weights are installed with convscope, for where no other's can be had."""


@dataclass(frozen=True)
class BackbonePlan:
    """A backbone of the tutorial and the rungs that it is trained on.

    Attributes:
        name: Registered backbone.
        sizes: Image sides in pixels, a rung each, after the tutorial's 32.
        until: Name of the last rung; None takes all.
        instead: Backbone to train in its place where its weights are missing; may be empty.
    """

    name: str
    sizes: tuple[int, ...]
    until: str | None = None
    instead: str = ""


@dataclass(frozen=True)
class Plan:
    """The extent of the tutorial.

    Attributes:
        quick: Whether it is the short one.
        images: Number of images to use; None takes all.
        epochs: Epochs of the small network; None takes the tutorial's 20.
        n_seeds: Number of seeds of one style; the others are trained with the first.
        backbones: Backbones in the tutorial's order.
    """

    quick: bool
    images: int | None
    epochs: int | None
    n_seeds: int
    backbones: tuple[BackbonePlan, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of every run that limit its images."""
        return {} if self.images is None else {"split.images": self.images}


WHOLE = Plan(
    quick=False,
    images=None,
    epochs=None,
    n_seeds=5,
    backbones=(
        BackbonePlan("vgg16", (64,), until="64 px"),
        BackbonePlan("mobilenet_v2", (64, 96, 160)),
        BackbonePlan("resnet50_v2", (64,), until="64 px", instead="resnet50"),
    ),
)
"""Under two hours for CIFAR-10 on two cores."""

QUICK = Plan(
    quick=True,
    images=4_000,
    epochs=10,
    n_seeds=1,
    backbones=(
        BackbonePlan("vgg16", (), until="own scaling"),
        BackbonePlan("mobilenet_v2", (96,), until=BETTER_HEAD),
        BackbonePlan("resnet50_v2", (64,), until="64 px", instead="resnet50"),
    ),
)
"""Under six minutes for CIFAR-10 on two cores."""

EPOCHS = 20
"""Epochs of the tutorial."""

# Measured on two cores (docs/results.md): seconds for an image of 32 x 32 pixels, once through.
_SMALL_NETWORK_S = 3e-4
_FROZEN_S = {
    "mobilenet_v2": 2.5e-4,
    "efficientnet_lite0": 3e-4,
    "resnet50": 1.3e-3,
    "resnet50_v2": 1.3e-3,
    "vgg16": 3.4e-3,
}
_HEAD_S = 2.5e-5
"""Seconds for an image in an epoch of a head on kept features."""

_START_S = 8.0
"""Seconds for starting and evaluating a run."""


def seconds_of_style(n_train: int, side: int, epochs: int) -> float:
    """Return the expected time of a run of the small network on two cores.

    Args:
        n_train: Number of training images.
        side: Side of an image in pixels.
        epochs: Number of epochs.
    """
    return _START_S + n_train * epochs * _SMALL_NETWORK_S * (side / 32) ** 2


def seconds_of_ladder(backbone: str, sizes: Sequence[int], until: str | None, n_all: int) -> float:
    """Return the expected time of a ladder on two cores.

    Args:
        backbone: Registered backbone.
        sizes: Image sides in pixels after 32.
        until: Name of the last rung; None takes all.
        n_all: Number of images of all parts.
    """
    once = n_all * _FROZEN_S.get(backbone, max(_FROZEN_S.values()))
    # Two rungs at 32 px, one for each larger size.
    passes = [once, once, *(once * (size / 32) ** 2 for size in sizes)]
    n_heads = len(passes)
    seconds = sum(passes)
    if until in (None, BETTER_HEAD):
        # Standardised features, and three heads.
        n_heads += 4
    if until is None:
        # The last stage, which costs some passes more.
        n_heads += 1
        seconds += 4.5 * passes[-1]
    return seconds + n_heads * (20 * n_all * _HEAD_S + _START_S / 4)
