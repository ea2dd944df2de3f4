"""Pretrained backbones: one file per family, each variant registered with its facts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convscope.registry import Registry

if TYPE_CHECKING:
    import keras


SIZES = (32, 96, 160, 224)
"""Sides in pixels for which the cost of each backbone is stated."""


@dataclass(frozen=True)
class WeightsFile:
    """Published file of ImageNet weights: Keras' own, without the classifier, or in a package.

    Attributes:
        name: Name of the file, also in Keras' cache.
        url: Address to download it from; "" if it comes in a package only.
        digest: Algorithm and hash of its bytes in hexadecimal, "md5:..." or "sha256:...", for
            Keras' files from its own table; None where that has neither (MobileNet and
            MobileNetV2).
        package: Python package that contains it; "" if there is none.
    """

    name: str
    url: str = ""
    digest: str | None = None
    package: str = ""

    @property
    def source(self) -> str:
        """Where to get it, for people."""
        return f"pip install {self.package}" if self.package else self.url


@dataclass(frozen=True)
class Backbone:
    """Network that was trained on ImageNet and turns images into feature maps.

    Attributes:
        name: Name that users type ("mobilenet_v2").
        family: Family that it belongs to ("MobileNetV2").
        paper: Publication.
        build: Function from (height, width, 3) to the untrained network without its classifier: a
            functional model whose output is the last feature map, (batch, rows, columns, features).
        scaling: Scaling of pixels that its weights were trained on; see `preprocessing.SCALINGS`.
        native_size: Side in pixels at which it was trained.
        smallest_size: Smallest side in pixels for which Keras builds it.
        sensible_size: Side in pixels below which the last feature map is a single value wide.
        n_params: Number of parameters of the network without its classifier.
        n_features: Channels of the last feature map.
        top1: Published accuracy on ImageNet's validation images, a fraction in [0, 1].
        top1_source: Source of that figure.
        weights: Published file.
        stages: Name of each stage in the order of the data, and of the layer that ends it. The
            network can be cut there: everything after it depends on that layer's output alone.
        multiply_adds: Multiply-adds for one image through the network without its classifier, by
            side of the image in pixels: for each of `SIZES` that it can be built for. Counted as in
            `models.geometry`: convolutions and dense layers, no biases and no normalisation.
        after_loading: Function called on the network after ImageNet weights are loaded, for changes
            that Keras makes only then.
        pooled: Layers whose maps are pooled where all stages are, in the order of the data: finer
            steps than `stages`, the last one the last map. Empty takes the ends of `stages`.
        from_torch: Function from the tensors of a PyTorch file (".pth"), by name, to the network's
            weights in order; None if there is no such file.
        parts: Networks that it consists of, side by side: each has weights of its own, and
            layers whose names begin with its name. Empty if it is one network.
    """

    name: str
    family: str
    paper: str
    build: "Callable[[tuple[int, int, int]], keras.Model]"
    scaling: str
    native_size: int
    smallest_size: int
    sensible_size: int
    n_params: int
    n_features: int
    top1: float
    top1_source: str
    weights: WeightsFile
    stages: Mapping[str, str] = field(default_factory=dict)
    multiply_adds: Mapping[int, int] = field(default_factory=dict)
    after_loading: "Callable[[keras.Model], None] | None" = None
    pooled: Sequence[str] = ()
    from_torch: "Callable[[Mapping[str, Any]], list[Any]] | None" = None
    parts: "Sequence[Backbone]" = ()

    def cut_at(self, where: str) -> str:
        """Return the name of the place that a value of `backbone.cut` means.

        Args:
            where: "before-last" for the stage before the last one; any other value names a place
                itself.
        """
        if where != "before-last":
            return where
        names = list(self.stages)
        return names[-2] if len(names) > 1 else "start"

    @property
    def end(self) -> str:
        """Name of the layer whose output is the last feature map."""
        return list(self.stages.values())[-1]

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"{self.family}, {self.paper}"


BACKBONES: Registry[Backbone] = Registry(
    "backbone", "convscope.models.backbones", group="convscope.models"
)


def register(*variants: Backbone) -> None:
    """Register the variants of a family.

    Raises:
        DuplicateNameError: If a name is taken.
    """
    for variant in variants:
        BACKBONES.register(variant.name)(variant)


def keras_application(
    builder: str, **arguments: Any
) -> "Callable[[tuple[int, int, int]], keras.Model]":
    """Return a function that builds a network of `keras.applications` without its classifier.

    Args:
        builder: Name of the function there ("MobileNetV2").
        arguments: Further arguments of it.
    """

    def build(shape: tuple[int, int, int]) -> "keras.Model":
        import keras

        return getattr(keras.applications, builder)(
            weights=None, include_top=False, input_shape=shape, **arguments
        )

    return build
