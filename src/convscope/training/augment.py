"""Data augmentation: flips, turns, shifts and Cutout of pixels, Keras' RandAugment, MixUp, CutMix.

Everything here is a pure function of a seed, the number of a view or epoch, and the position of the
image or batch, so that a cached or interrupted result is the same when it is made again.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convscope.backend import uncompiled
from convscope.errors import ConfigError
from convscope.images.orientation import turn
from convscope.recipe import AugmentSettings, TtaSettings
from convscope.training.batches import Examples, Finish
from convscope.types import (
    FloatArray,
    Images,
    IntArray,
    Labels,
    Split,
    UInt8Array,
    is_multi_label,
)

_OF_FLIPS = 2**32 - 1
"""Number of no view, so that flips are independent of what a view draws."""

_OF_TURNS = 2**32 - 2
"""The same for turns."""


class Changes(NamedTuple):
    """What is done to each image of a view; arrays of NumPy, or of JAX on a device.

    Attributes:
        flipped: Shape (n_images,), bool.
        turns: Shape (n_images,): quarters of a circle to the left, in [0, 4), after the flip.
        shift: Shape (n_images, 2): rows and columns by which the frame moves.
        corner: Shape (n_images, 2): row and column of the blanked rectangle's upper left pixel.
    """

    flipped: Any
    turns: Any
    shift: Any
    corner: Any

    def of(self, key: Any) -> "Changes":
        """Return those of the images at an index array or slice."""
        return Changes(*(each[key] for each in self))


class Extent(NamedTuple):
    """How far the changes of a view go.

    Attributes:
        turn: Whether any image is turned; they are square then.
        reach: Largest shift in rows and in columns.
        hole: Height and width of the blanked rectangle, in pixels; 0 and 0: none.
    """

    turn: bool
    reach: tuple[int, int]
    hole: tuple[int, int]


class AugmentedView:
    """One augmented version of each image: flipped, turned, shifted, partly blanked, recoloured.

    Flips alternate: an image that is mirrored in one view is not mirrored in the next, so two views
    hold each image both ways round equally often (Jordan, "94% on CIFAR-10 in
    3.29 Seconds on a Single GPU", 2024).

    Turns go round: four views, counted from a multiple of four, hold each image in all four ways,
    and with flips eight views in all eight orientations.

    Cutout (DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", 2017) blanks a square with the image's mean colour; as in Jordan's airbench96, all of
    it lies inside of the image.

    Flips, turns, shifts and squares of an image depend on its position alone. RandAugment
    transforms all images of one request alike (one by one it would take fifty times as long), so
    its choice depends on the first of them.

    Args:
        images: Shape (n_images, height, width, channels), uint8; may be memory-mapped.
        settings: Kinds and strengths of augmentation.
        seed: Seed of the random numbers.
        view: Number of the version.

    Attributes:
        images: The images before the changes.
        settings: Kinds and strengths of augmentation.
        changes: What is done to each image, apart from RandAugment.
        extent: How far that goes.

    Raises:
        ConfigError: If images are to be turned and are not square.
    """

    def __init__(self, images: Images, settings: AugmentSettings, seed: int, view: int) -> None:
        n_images, height, width = images.shape[:3]
        require_turnable(settings, height, width)
        self.images = images
        self.settings = settings
        self._seed = [seed, view]
        # By the seed alone the numbers would be those of the shifts in view 0.
        first = np.random.default_rng([seed, _OF_FLIPS]).integers(0, 2, n_images)
        flipped = ((first + view) % 2).astype(bool) & settings.flip
        turns = np.zeros(n_images, np.int64)
        if settings.turn:
            start = np.random.default_rng([seed, _OF_TURNS]).integers(0, 4, (n_images,))
            # A step more after four views: otherwise an image that is mirrored, as it is in every
            # second view, would be seen in two of its four ways only.
            turns = (start + view + view // 4) % 4
        rng = np.random.default_rng(self._seed)
        reach = (round(settings.crop * height), round(settings.crop * width))
        shift = np.stack([rng.integers(-n, n + 1, n_images) for n in reach], axis=1)
        hole = (round(settings.cutout * height), round(settings.cutout * width))
        # Drawn last, so that shifts are the same with and without Cutout.
        corner = np.stack(
            [
                rng.integers(0, side - length + 1, n_images)
                for side, length in zip((height, width), hole, strict=True)
            ],
            axis=1,
        )
        self.changes = Changes(flipped, turns, shift, corner)
        self.extent = Extent(settings.turn, reach, hole)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Any) -> UInt8Array:
        """Return the images at an index array or slice: (batch, height, width, channels)."""
        images: UInt8Array = np.array(self.images[key])
        (flipped, turns, shift, corner), (_, reach, hole) = self.changes.of(key), self.extent
        images[flipped] = images[flipped, :, ::-1]
        for quarters in set(turns.tolist()) - {0}:
            images[turns == quarters] = turn(images[turns == quarters], quarters, (1, 2))
        if any(reach):
            images = _shifted(images, shift, reach)
        if all(hole):
            _blank(images, corner, hole)
        if self.settings.randaugment:
            place = int(np.arange(len(self))[key][0])
            images = _randaugmented(images, self.settings, [*self._seed, place])
        return images


class OrientedImages:
    """All images in another orientation, read on access.

    Args:
        images: Shape (n_images, height, width, channels), uint8; may be memory-mapped.
        way: Orientation in [0, 8), as `images.orientation` counts them.
    """

    def __init__(self, images: Images, way: int) -> None:
        self._images = images
        self._way = way

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: Any) -> UInt8Array:
        """Return the images at an index array or slice, in that orientation."""
        return turn(np.asarray(self._images[key]), self._way, (1, 2))


def require_turnable(settings: AugmentSettings | TtaSettings, height: int, width: int) -> None:
    """Refuse to turn images by a quarter of a circle that would have other sides then.

    Args:
        settings: Kinds of augmentation, in training or of test time.
        height: Rows of the images.
        width: Columns of the images.

    Raises:
        ConfigError: If they are to be turned and are not square.
    """
    if settings.turn and height != width:
        name = "augment.turn" if isinstance(settings, AugmentSettings) else "tta.turn"
        raise ConfigError(
            f"{name} needs square images, and these are {width} x {height}; --image-size "
            f"{min(height, width)} makes images of a folder square, or leave {name} at false"
        )


def augmented(split: Split, settings: AugmentSettings, seed: int) -> Examples:
    """Return the pixels of a split, augmented afresh in every epoch; unchanged if nothing is set.

    Args:
        split: Images to augment.
        settings: Kinds and strengths of augmentation.
        seed: Seed of the run.
    """
    if not settings.varies:
        return Examples.of(split)
    return Examples(
        lambda epoch: AugmentedView(split.images, settings, seed, epoch), split.labels, split.images
    )


def soft_targets(
    settings: AugmentSettings,
    label_smoothing: float,
    n_classes: int,
    seed: int,
    epoch: int,
    weights: FloatArray | None = None,
) -> Finish | None:
    """Return a function that one-hot encodes labels of a batch, smooths them, and mixes images.

    Args:
        settings: MixUp (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019) apply to maps
            of shape (batch, rows, columns, channels): pixels, or activations inside a network.
            With both, each batch draws one of them. Each image keeps its own share, drawn from
            Beta(alpha, alpha), and takes the rest from another image of its batch.
        label_smoothing: Share of each label that is spread over all classes.
        n_classes: Number of classes; labels that are flags already are taken as they are, and
            smoothed towards a half.
        seed: Seed of the run.
        epoch: Index of the epoch, from 0.
        weights: Weight of each class in the loss, shape (n_classes,); None weighs all alike.
            Cross-entropy is linear in the target, so a target times a weight has its loss times it.
            (TensorFlow's own gradient takes targets to sum to 1, unless its operations are
            deterministic, as `backend.configure` makes them.)

    Returns:
        None if labels stay plain indices.
    """
    if not (label_smoothing or settings.mixup or settings.cutmix or weights is not None):
        return None
    identity = np.eye(n_classes, dtype=np.float32)

    def finish(inputs: Any, labels: Labels, index: int) -> tuple[Any, Any]:
        several = is_multi_label(labels)
        hard = labels.astype(np.float32) if several else identity[labels]
        soft = hard * (1 - label_smoothing) + label_smoothing / (2 if several else n_classes)
        if weights is not None:
            soft *= weights[labels, None]
        # Patches can be cut out of maps only, not out of pooled features.
        alphas = [(_mixup, settings.mixup), (_cutmix, settings.cutmix if inputs.ndim == 4 else 0)]
        chosen = [(mix, alpha) for mix, alpha in alphas if alpha]
        if not chosen or len(inputs) < 2:
            return inputs, soft
        rng = np.random.default_rng([seed, epoch, index])
        mix, alpha = chosen[rng.integers(len(chosen))]
        return mix(np.asarray(inputs, np.float32), soft, alpha, rng)

    return finish


def hard_targets(n_classes: int) -> Finish:
    """Return a function that one-hot encodes labels, to evaluate a network trained on soft ones."""
    identity = np.eye(n_classes, dtype=np.float32)
    return lambda inputs, labels, index: (inputs, identity[labels])


def _shifted(
    images: UInt8Array, shift: npt.NDArray[np.int64], reach: tuple[int, int]
) -> UInt8Array:
    up, left = reach
    padded = np.pad(images, ((0, 0), (up, up), (left, left), (0, 0)), mode="symmetric")
    height, width = images.shape[1:3]
    rows = (shift[:, :1] + up) + np.arange(height)  # (batch, height)
    columns = (shift[:, 1:] + left) + np.arange(width)  # (batch, width)
    batch = np.arange(len(images))[:, None, None]
    moved: UInt8Array = padded[batch, rows[:, :, None], columns[:, None, :]]
    return moved


def _blank(images: UInt8Array, corner: npt.NDArray[np.int64], hole: tuple[int, int]) -> None:
    """Give a rectangle of each image the image's mean colour, in place."""
    n_pixels = images.shape[1] * images.shape[2]
    # In whole numbers, so that it is the same on any device; half of a level is rounded up.
    total = images.sum(axis=(1, 2), dtype=np.uint32)
    colour = ((total + n_pixels // 2) // n_pixels).astype(np.uint8)
    batch = np.arange(len(images))[:, None, None]
    rows = corner[:, :1] + np.arange(hole[0])  # (batch, height of the hole)
    columns = corner[:, 1:] + np.arange(hole[1])
    images[batch, rows[:, :, None], columns[:, None, :]] = colour[:, None, None]


_LAYERS: dict[tuple[int, float], Any] = {}
"""Keras' layers are slow to make and hold no state but that of their random numbers."""


def _randaugmented(images: UInt8Array, settings: AugmentSettings, seed: list[int]) -> UInt8Array:
    import keras

    key = (settings.randaugment, settings.randaugment_factor)
    if key not in _LAYERS:
        _LAYERS[key] = keras.layers.RandAugment(
            value_range=(0, 255),
            num_ops=settings.randaugment,
            factor=settings.randaugment_factor,
            seed=0,
            dtype="float32",
        )
    layer = _reseeded(_LAYERS[key], seed)
    grey = images.shape[-1] == 1
    colour = np.repeat(images, 3, axis=-1) if grey else images
    with uncompiled():
        changed = keras.ops.convert_to_numpy(layer(colour.astype(np.float32), training=True))
    pixels: UInt8Array = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    if grey:
        pixels = pixels.mean(axis=-1, keepdims=True).round().astype(np.uint8)
    return pixels


# Not Keras' layers: its CutMix draws alpha itself, from 0 to a factor of at most 1, and its labels
# differ from the share of pixels by up to a row and a column, which is a lot on a small map.


def _mixup(
    inputs: FloatArray, labels: FloatArray, alpha: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    other = rng.permutation(len(inputs))
    kept = rng.beta(alpha, alpha, len(inputs)).astype(np.float32)
    share = kept.reshape(-1, *[1] * (inputs.ndim - 1))
    mixed: FloatArray = share * inputs + (1 - share) * inputs[other]
    return mixed, _mixed_labels(labels, other, kept)


def _cutmix(
    inputs: FloatArray, labels: FloatArray, alpha: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    n_images, height, width = inputs.shape[:3]
    other = rng.permutation(n_images)
    side = np.sqrt(1 - rng.beta(alpha, alpha, n_images))
    inside = []
    for length in (height, width):
        # As in the paper, the patch may reach over the edge.
        centre = rng.uniform(0, length, n_images)
        low = np.rint(centre - side * length / 2)[:, None]
        high = np.rint(centre + side * length / 2)[:, None]
        place = np.arange(length)
        inside.append((place >= low) & (place < high))
    patch = inside[0][:, :, None] & inside[1][:, None, :]  # (batch, rows, columns)
    mixed: FloatArray = np.where(patch[..., None], inputs[other], inputs)
    kept = 1 - patch.mean(axis=(1, 2), dtype=np.float32)
    return mixed, _mixed_labels(labels, other, kept)


def _mixed_labels(labels: FloatArray, other: IntArray, kept: FloatArray) -> FloatArray:
    mixed: FloatArray = kept[:, None] * labels + (1 - kept[:, None]) * labels[other]
    return mixed


def _reseeded(layer: Any, seed: list[int]) -> Any:
    """Return the layer with all its random generators reseeded."""
    import keras

    words = np.random.SeedSequence(seed).generate_state(64)
    states = [v for v in layer.variables if v.path.endswith("seed_generator_state")]
    for index, state in enumerate(states):
        # Two words for each generator, so that they do not all draw the same numbers.
        state.assign(keras.ops.convert_to_tensor(words[2 * index % 62 :][:2], state.dtype))
    return layer
