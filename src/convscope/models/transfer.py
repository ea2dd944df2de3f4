"""A classifier of a pretrained backbone and a new head, whole and in pieces.

    pixels -> resize, scale -> trunk (the backbone) -> pool -> head -> probabilities

The frozen part need not be computed again in every epoch. So the classifier can be cut in two, at
the end of the trunk or at a layer inside it: `lower` turns pixels into activations, once per
image, and `upper` is trained on those. The pieces share their layers with the whole.
"""

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

from convscope.backend import precision_policy
from convscope.errors import ConfigError
from convscope.models.backbones import BACKBONES, Backbone
from convscope.models.head import Block, chain, head_layers, head_model, standardise
from convscope.models.pooled_maps import pooled_maps, pooled_parts
from convscope.models.preprocessing import (
    preprocessing_layers,
    resizing_layer,
    scaling_layers,
)
from convscope.models.weights import FoundWeights, load_weights
from convscope.recipe import HeadSettings
from convscope.types import FloatArray, InputSpec

if TYPE_CHECKING:
    import keras

END, START = "end", "start"
"""Places where any classifier can be cut: after the trunk (and its pooling), or before it."""


POOL = "pool"
"""Layer whose outputs are the features that the head sees."""


class TransferModel:
    """Backbone with a head, untrained; weights are loaded into `trunk`.

    Args:
        name: Registered name of the backbone.
        spec: Images, and size and scaling of the backbone's input. Grey images are given to it as
            colour ones with three equal channels.
        n_classes: Number of classes, at least 2.
        head: Settings of the head.
        cut: Place up to which layers are frozen: "end" (the whole trunk), "before-last" (all but
            the last stage), a stage or layer of the backbone, or "start" (nothing). BatchNorm
            inside the trunk is frozen even behind the cut: the statistics of a small batch would
            destroy what the trunk has learnt.
        activation: "softmax", or "sigmoid" for a probability of its own for each class.

    Attributes:
        whole: Model from pixels (batch, any height, any width, channels) in 0..255 to probabilities
            (batch, n_classes), float32.
        trunk: Model from scaled images to the last feature map (batch, rows, columns, features).
        head: Model from pooled features (batch, n_features) to probabilities.

    Raises:
        UnknownNameError: If there is no such backbone.
        ConfigError: If the images are too small for it, or it cannot be cut there.
    """

    def __init__(
        self,
        name: str,
        spec: InputSpec,
        n_classes: int,
        head: HeadSettings,
        cut: str = END,
        activation: str = "softmax",
    ) -> None:
        import keras

        self.backbone = BACKBONES.get(name)
        _check(self.backbone, spec, n_classes)
        self.cut = self.backbone.cut_at(cut)
        self.trunk = self.backbone.build((spec.height, spec.width, 3))
        self._spec = spec
        pooling = {
            "avg": keras.layers.GlobalAveragePooling2D,
            "flatten": keras.layers.Flatten,
            # Features are taken inside the trunk, where the maps are.
            "stages": keras.layers.Identity,
        }
        self._pool = pooling[head.pooling](name=POOL)
        self._of_maps: Any = None
        self._of_frozen_maps: list[Any] = []
        if head.pooling == "stages":
            self._of_maps, self._of_frozen_maps = self._pooled_maps()
        self._preprocessing = _preprocessing(spec)
        self._head_layers = head_layers(head, n_classes, activation)

        pixels = self._pixels()
        features = self._pool(self._pooled_trunk()(chain(self._preprocessing, pixels)))
        self.whole = keras.Model(pixels, chain(self._head_layers, features), name=name)
        self.head = head_model(features.shape[1:], self._head_layers)
        self._freeze()

    @property
    def blocks(self) -> list[Block]:
        """Blocks of the features that the head sees: one for each network of the backbone."""
        n_features = self.head.input_shape[-1]
        parts = self.backbone.parts or (self.backbone,)
        if self._of_maps is None and n_features != self.map_shape[2]:
            # All values of the maps: those of the parts are not apart.
            return [Block(0, n_features)]
        blocks, start = [], 0
        for part in parts:
            earlier = [self.trunk.get_layer(name).output for name in self._pooled_of(part)[:-1]]
            n_earlier = 0 if self._of_maps is None else 2 * sum(each.shape[-1] for each in earlier)
            n_last = part.n_features if self.backbone.parts else self.map_shape[2]
            stop = start + n_earlier + n_last
            blocks.append(Block(start, stop, n_last if n_earlier else 0))
            start = stop
        return blocks

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(rows, columns, features) of the last feature map."""
        return tuple(self.trunk.output.shape[1:])

    def lower(self, cut: str | None = None) -> "keras.Model":
        """Return the model from pixels to activations at the cut: at "end", pooled features.

        Where the head sees pooled maps that lie before the cut, they follow the activations, which
        are flattened then: one array for each image.

        Args:
            cut: Stage, layer or "end"; None takes the classifier's own.
        """
        import keras

        where = self.cut if cut is None else self.backbone.cut_at(cut)
        pixels = self._pixels()
        x = chain(self._preprocessing, pixels)
        if where == END:
            return keras.Model(pixels, self._pool(self._pooled_trunk()(x)), name="lower")
        activations = self._layer(where).output
        if where == self.cut and self._of_frozen_maps:
            flat = keras.layers.Flatten(name="flat")(activations)
            activations = keras.layers.Concatenate(name="packed")([flat, *self._of_frozen_maps])
        until = keras.Model(self.trunk.input, activations, name="until_cut")
        return keras.Model(pixels, until(x), name="lower")

    def between(self, cut: str) -> "keras.Model":
        """Return the model from the activations at `cut` to pooled features."""
        import keras

        activations, parts = self._activations(cut)
        features = self._pool(self._pooled_trunk(cut)(parts))
        return keras.Model(activations, features, name="between")

    def upper(self) -> "keras.Model":
        """Return the trainable part: from the activations at the cut to probabilities.

        At "end" that is the head, at "start" the whole.
        """
        import keras

        if self.cut == END:
            return self.head
        if self.cut == START:
            return self.whole
        activations, parts = self._activations(self.cut)
        features = self._pool(self._pooled_trunk(self.cut)(parts))
        return keras.Model(activations, chain(self._head_layers, features), name="upper")

    def standardise(self, mean: FloatArray, variance: FloatArray) -> None:
        """Set the statistics of the features for the head; no effect if it uses none.

        Args:
            mean: Shape (n_features,), over the training images.
            variance: Shape (n_features,), over the training images.
        """
        standardise(self._head_layers, mean, variance)

    def stage_of(self) -> "dict[str, int]":
        """Return the distance from the head of each variable of the trunk.

        Returns:
            By path of the variable: 1 for the last stage of the backbone, 2 for the one before it
            and so on. Variables of the head are left out.
        """
        depth: dict[str, int] = {}
        cuts = list(self.backbone.stages.values())[:-1]
        for variable in self.trunk.weights:
            depth[variable.path] = len(cuts) + 1
        for index, cut in enumerate(cuts):
            for layer in self._rest(cut).layers:
                for variable in layer.weights:
                    depth[variable.path] = len(cuts) - index
        return depth

    def _pixels(self) -> Any:
        import keras

        return keras.Input((None, None, self._spec.channels), name="pixels")

    def _activations(self, cut: str) -> tuple[Any, Any]:
        """Return an input for what `lower` gives, and what the trunk after the cut gets of it."""
        import keras

        shape = self._layer(cut).output.shape[1:]
        if cut != self.cut or not self._of_frozen_maps:
            activations = keras.Input(shape, name="activations")
            return activations, activations
        sizes = [math.prod(shape), *(each.shape[1] for each in self._of_frozen_maps)]
        packed = keras.Input((sum(sizes),), name="activations")
        ends = list(itertools.accumulate(sizes))
        flat, *pooled = (packed[:, end - size : end] for size, end in zip(sizes, ends, strict=True))
        return packed, [keras.layers.Reshape(shape, name="unpacked")(flat), *pooled]

    def _pooled_maps(self) -> tuple[Any, list[Any]]:
        """Return the features of all maps; and of those before the cut, in the frozen part."""
        if self.backbone.parts:
            parts = self.backbone.parts
            names_of_each = [self._pooled_of(part) for part in parts]
            return pooled_parts(self.trunk, names_of_each, [part.n_features for part in parts]), []
        names = self._pooled_of(self.backbone)
        learning = set(names)
        if self.cut not in (START, END):
            learning = {layer.name for layer in self._rest(self.cut).layers}
            learning.add(self._layer(self.cut).name)
        return pooled_maps(self.trunk, names, learning)

    def _pooled_of(self, part: Backbone) -> list[str]:
        """Return the layers of the trunk whose maps are pooled, of the backbone or a part of it."""
        prefix = "" if part is self.backbone else f"{part.name}_"
        return [f"{prefix}{name}" for name in part.pooled or part.stages.values()]

    def _pooled_trunk(self, cut: str | None = None) -> "keras.Model":
        """Return the trunk, or what of it follows a cut, up to what the pooling gets."""
        import keras

        if self._of_maps is None:
            return self.trunk if cut is None else self._rest(cut)
        start = self.trunk.input if cut is None else self._layer(cut).output
        if cut is not None and self._of_frozen_maps:
            start = [start, *self._of_frozen_maps]
        return keras.Model(
            start, self._of_maps, name=self.trunk.name if cut is None else "after_cut"
        )

    def _layer(self, where: str) -> Any:
        name = self.backbone.stages.get(where, where)
        try:
            return self.trunk.get_layer(name)
        except ValueError:
            raise ConfigError(_no_such_cut(self.backbone, where)) from None

    def _rest(self, cut: str) -> "keras.Model":
        """Return the trunk from a cut on, sharing its layers."""
        import keras

        try:
            rest = keras.Model(self._layer(cut).output, self.trunk.output, name="after_cut")
        except ValueError:
            # The graph has a path around that layer.
            raise ConfigError(_no_such_cut(self.backbone, cut)) from None
        # Before 3.14 Keras takes such a graph, with the input of the whole still in it.
        if sum(isinstance(layer, keras.layers.InputLayer) for layer in rest.layers) > 1:
            raise ConfigError(_no_such_cut(self.backbone, cut))
        return rest

    def _freeze(self) -> None:
        import keras

        if self.cut == END:
            self.trunk.trainable = False
            return
        learning = self.trunk.layers if self.cut == START else self._rest(self.cut).layers
        names = {layer.name for layer in learning}
        for layer in self.trunk.layers:
            still = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = layer.name in names and not still


def build_transfer(
    name: str,
    spec: InputSpec,
    n_classes: int,
    head: HeadSettings,
    *,
    cut: str = END,
    weights: FoundWeights | None = None,
    precision: str = "float32",
    activation: str = "softmax",
) -> TransferModel:
    """Build a classifier in a precision and load the backbone's weights.

    Args:
        name: Registered name of the backbone, as in `TransferModel`.
        spec: Images, and size and scaling of the backbone's input.
        n_classes: Number of classes, at least 2.
        head: Settings of the head.
        cut: Place up to which layers are frozen.
        weights: Weights of the backbone; None keeps random ones.
        precision: "float32" or "bfloat16"; weights are stored in float32 in either case.
        activation: "softmax" or "sigmoid", as in `TransferModel`.

    Raises:
        UnknownNameError: If there is no such backbone.
        ConfigError: If it cannot be built or cut like that.
        DataError: If the weights belong to another network.
    """
    with precision_policy(precision):
        network = TransferModel(name, spec, n_classes, head, cut, activation)
    if weights is not None:
        load_weights(network.trunk, network.backbone, weights)
    return network


def _check(backbone: Backbone, spec: InputSpec, n_classes: int) -> None:
    if n_classes < 2:
        raise ConfigError(f"a classifier needs at least 2 classes, not {n_classes}")
    if min(spec.height, spec.width) < backbone.smallest_size:
        raise ConfigError(
            f"image size {spec.height}x{spec.width} is too small for {backbone.name}, which needs "
            f"{backbone.smallest_size} pixels at least; enlarge the images with "
            f"--image-size {max(96, backbone.sensible_size)} or more"
        )


def _no_such_cut(backbone: Backbone, where: str) -> str:
    stages = ", ".join([START, *list(backbone.stages)[:-1], "before-last", END])
    return (
        f"{backbone.name} cannot be cut at '{where}'; choose one of: {stages}, or a layer that all "
        "data passes through"
    )


def _preprocessing(spec: InputSpec) -> list[Any]:
    import keras

    if spec.channels == 3:
        return preprocessing_layers(spec)
    colour = keras.layers.Concatenate(name="grey_to_rgb", dtype="float32")
    scaling = scaling_layers(dataclasses.replace(spec, channels=3))
    return [resizing_layer(spec), lambda grey: colour([grey] * 3), *scaling]
