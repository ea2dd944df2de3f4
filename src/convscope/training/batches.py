"""Batches of training examples, in an order that depends on seed and epoch alone."""

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.recipe import RunConfig
from convscope.scale.devices import ONE, Devices
from convscope.types import Images, ImageView, IntArray, Labels, Split, Stacked

_VALIDATION_BATCH = 512
"""Largest validation batch: no gradients are kept, so it is as large as is fast."""

Finish = Callable[[Any, Any, int], tuple[Any, Any]]
"""Called on each batch as `finish(inputs, labels, index)`, for operations on whole batches."""


@dataclass(frozen=True)
class Examples:
    """Examples for training or evaluation.

    Attributes:
        inputs: Function from the index of an epoch, from 0, to its inputs: an array of shape
            (n_images, ...), or an object that is indexed like one. Equal for equal epochs.
        labels: Classes of the images, see `types.Labels`.
        images: The images, if they are the inputs, perhaps augmented; they know what lies together.
    """

    inputs: Callable[[int], Any]
    labels: Labels
    images: Images | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, split: Split) -> "Examples":
        """Return the raw pixels of a split, the same in every epoch."""
        return cls(lambda epoch: split.images, split.labels, split.images)

    @classmethod
    def alternating(cls, views: list[Any], labels: Labels) -> "Examples":
        """Return versions of the same images that take turns, one per epoch."""
        return cls(lambda epoch: views[epoch % len(views)], labels)


class Batches:
    """One pass over examples, batch by batch, from memory or from a memory-mapped array.

    Args:
        inputs: Shape (n_images, ...); any object that is indexed like an array.
        labels: Classes of the images, see `types.Labels`.
        batch_size: Images per batch; the last may be smaller.
        order: Indices of the images in the order of the pass; None keeps the order of the inputs.
        finish: Operation on each whole batch, see `Finish`.
        devices: Devices among which each batch is divided: of a batch, this process gets its part.
        mixed: Whether an image may depend on others of its batch, which is then loaded whole.

    Attributes:
        inputs: As given.
        mixed: As given.
        n_images: Number of images in the pass, for all processes together.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Labels,
        batch_size: int,
        order: npt.NDArray[np.intp] | None = None,
        finish: Finish | None = None,
        devices: Devices = ONE,
        mixed: bool = False,
    ) -> None:
        self.inputs = inputs
        self._labels = labels
        self._batch_size = batch_size
        self._order = order
        self._finish = finish
        self._devices = devices
        self.mixed = mixed
        self.n_images = len(labels if order is None else order)

    def __len__(self) -> int:
        return n_batches(self.n_images, self._batch_size)

    def reading(self, inputs: Any) -> "Batches":
        """Return the same batches of other inputs, such as a copy of these on a device."""
        other = copy(self)
        other.inputs = inputs
        return other

    def size(self, index: int) -> int:
        """Return the number of images in batch `index`, for all processes together."""
        return min(self._batch_size, self.n_images - index * self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return (inputs, labels) of batch `index`: (batch, ...) and (batch,), then `finish`."""
        start, own = index * self._batch_size, self._devices.rows(self.size(index))
        loaded = slice(0, self.size(index)) if self.mixed else own
        where: slice | npt.NDArray[np.intp]
        where = slice(start + loaded.start, start + loaded.stop)
        if self._order is not None:
            where = self._order[where]
        inputs = self.inputs[where]
        if isinstance(inputs, np.ndarray):  # and not on a device already
            inputs = np.ascontiguousarray(inputs)
        batch = inputs, self._labels[where]
        if self._finish is not None:
            batch = self._finish(*batch, index)
        return (batch[0][own], batch[1][own]) if self.mixed else batch


def validation_batches(
    val: Examples, finish: Finish | None = None, devices: Devices = ONE
) -> Batches:
    """Return the batches for validation after an epoch; `finish` and `devices` as in `Batches`."""
    n_images = len(val)
    # About equal sizes: TensorFlow compiles again for a batch of another size.
    size = math.ceil(n_images / n_batches(n_images, _VALIDATION_BATCH))
    size = devices.rounded_up(size)
    return Batches(val.inputs(0), val.labels, size, finish=finish, devices=devices)


def n_batches(n_images: int, batch_size: int) -> int:
    """Return the number of batches in a pass; the last may be smaller."""
    return -(-n_images // batch_size)


def order_of(
    config: RunConfig,
    labels: Labels,
    epoch: int,
    among: IntArray | None = None,
    images: Images | None = None,
) -> npt.NDArray[np.intp]:
    """Return the order in which a run shows the images in one epoch.

    Args:
        config: Settings of the run.
        labels: Classes of the images, see `types.Labels`.
        epoch: Index of the epoch, from 0.
        among: Indices of the images to show, if not all are shown.
        images: The images; of those in many files, few files are read at a time.

    Returns:
        Shape (n_shown,), indices of images; longer if the last batch is filled up.
    """
    shown = labels if among is None else labels[among]
    if config.balance:
        order = balanced_order(shown, config.seed, epoch)
    else:
        order = epoch_order(len(shown), config.seed, epoch)
    if among is not None:
        order = among[order]
    if (windows := _windows(images, config.seed, epoch)) is not None:
        # In a window the order stays as it is: shuffled.
        order = order[np.argsort(windows[order], kind="stable")]
    if config.full_batches and len(order) > config.batch_size:
        # Repeats the order from its beginning.
        order = np.resize(order, n_batches(len(order), config.batch_size) * config.batch_size)
    return order


def _windows(images: Images | None, seed: int, epoch: int) -> IntArray | None:
    """Return the window of each image: those of few files, drawn anew in each epoch, are one."""
    view = images if isinstance(images, ImageView) else None
    base = view.base if view is not None else images
    if not isinstance(base, Stacked) or base.n_near is None:
        return None
    parts = base.part_of(view.rows if view is not None else np.arange(len(base)))
    # Not the numbers that shuffle the images.
    turns = np.random.default_rng([seed, epoch, 1]).permutation(len(base.parts))
    return np.asarray(np.argsort(turns)[parts] // base.n_near, np.int64)


def epoch_order(n_images: int, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """Return the shuffled order of one epoch.

    A pure function of its arguments, so a resumed run sees the images in the order that an
    uninterrupted one would have.

    Args:
        n_images: Number of images in the split.
        seed: Seed of the run.
        epoch: Index of the epoch, from 0.
    """
    return np.random.default_rng([seed, epoch]).permutation(n_images)


def balanced_order(labels: IntArray, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """Return the order of an epoch that shows each class equally often.

    It is as long as any other epoch: common classes are shown in part, images of rare classes
    several times, none more than once more often than another of its class. A pure function, as
    `epoch_order`.

    Args:
        labels: Shape (n_images,), class indices.
        seed: Seed of the run.
        epoch: Index of the epoch, from 0.

    Returns:
        Shape (n_images,), indices of images.
    """
    rng = np.random.default_rng([seed, epoch])
    classes = rng.permutation(np.unique(labels))
    shares = np.full(len(classes), len(labels) // len(classes))
    shares[: len(labels) % len(classes)] += 1
    parts = []
    for index, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == index)
        rounds = -(-int(share) // len(members))
        parts.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:share])
    return rng.permutation(np.concatenate(parts))
