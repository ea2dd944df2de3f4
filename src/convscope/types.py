"""The objects that stages pass to each other."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from convscope.errors import ShapeError

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class InputSpec:
    """Input of a model's network, after the preprocessing inside the model.

    A model takes raw pixels, 0..255, of any size. Inside, they are resized to `height` x `width`
    and scaled.

    Attributes:
        height: Height of the network's input, in pixels.
        width: Width of the network's input, in pixels.
        channels: Number of channels of the images: 1 for grey, 3 for RGB.
        scaling: Name in `models.preprocessing.SCALINGS`; "unit" is x / 255, giving [0, 1].
    """

    height: int
    width: int
    channels: int
    scaling: str = "unit"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (self.height, self.width, self.channels)


def evenly_spread(n_images: int, most: int) -> npt.NDArray[np.intp]:
    """Return indices of at most so many images, in order and evenly spread from first to last.

    Examples:
        >>> evenly_spread(10, 4).tolist(), evenly_spread(2, 4).tolist()
        ([0, 3, 6, 9], [0, 1])
    """
    return np.unique(np.linspace(0, n_images - 1, min(n_images, most)).astype(np.intp))


class ImageView:
    """Some images of a larger array, in some order, read from it only on access.

    Args:
        base: Shape (n_base, height, width, channels), uint8; memory-mapped, or in several files.
        rows: Shape (n_images,), indices into `base`.
    """

    def __init__(self, base: "UInt8Array | Stacked", rows: npt.NDArray[np.intp]) -> None:
        self.base = base
        self.rows = rows
        self.shape = (len(rows), *base.shape[1:])
        self.ndim = base.ndim
        self.dtype = base.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def expect(self, rows: npt.NDArray[np.intp]) -> None:
        """Tell the base that its images will be asked for in this order, as `Stacked.expect`."""
        if isinstance(self.base, Stacked):
            self.base.expect(self.rows[rows])

    def __getitem__(self, key: Any) -> UInt8Array:
        """Return the images at an index, a slice or an array of indices, copied into memory."""
        images: UInt8Array = self.base[self.rows[key]]
        return images

    def __iter__(self) -> Iterator[UInt8Array]:
        return (self[index] for index in range(len(self)))


class Stacked:
    """Arrays one after another, indexed like a single one, which is never put together as a whole.

    Args:
        parts: Arrays of shape (n_part, ...), or objects that are indexed like one.
        n_near: Number of parts that are read at a time in a shuffled order, since each is fetched
            as a whole: parts with a method `expect` for the order of all; None for parts that are
            read in any order.
    """

    def __init__(self, parts: Sequence[Any], n_near: int | None = None) -> None:
        self.parts = tuple(parts)
        self.n_near = n_near
        self._ends = np.cumsum([len(part) for part in self.parts])
        self.shape = (int(self._ends[-1]), *self.parts[0].shape[1:])
        self.ndim = len(self.shape)
        self.dtype = self.parts[0].dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Return the rows at an index, a slice or an array of indices, copied into memory."""
        if np.ndim(key) == 0 and not isinstance(key, slice):
            row: npt.NDArray[Any] = self[np.array([key])][0]
            return row
        rows = np.arange(*key.indices(len(self))) if isinstance(key, slice) else np.asarray(key)
        rows = (
            np.flatnonzero(rows)
            if rows.dtype == bool
            else np.where(rows < 0, rows + len(self), rows)
        )
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        which = self.part_of(rows)
        for index in np.unique(which):
            here = which == index
            part = self.parts[index]
            found[here] = part[rows[here] - (self._ends[index] - len(part))]
        return found

    def expect(self, rows: npt.NDArray[np.intp]) -> None:
        """Tell the parts that the rows will be asked for in this order; they may be far away."""
        if self.n_near is None:
            return
        which = self.part_of(rows)
        firsts = np.sort(np.unique(which, return_index=True)[1])
        parts = [self.parts[index] for index in which[firsts]]
        if parts:
            parts[0].expect(parts)

    def part_of(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the index of the part that each row is in.

        Raises:
            IndexError: If there is no such row.
        """
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"there are {len(self)} rows")
        return np.searchsorted(self._ends, rows, side="right")

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (row for part in self.parts for row in part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all rows in one array."""
        return np.concatenate([np.asarray(part[:], dtype) for part in self.parts])


Images = UInt8Array | ImageView | Stacked
"""Shape (n_images, height, width, channels), uint8."""


def hashes_of(images: Iterable[UInt8Array]) -> list[str]:
    """Return sixteen hex digits of the SHA-256 of each image's pixels, to identify images."""
    return [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in images]


def _joined_images(parts: Sequence[Images]) -> Images:
    """Return images one after another, without copying them; files of which stay apart."""
    views = [part for part in parts if isinstance(part, ImageView)]
    if len(views) == len(parts) and all(view.base is views[0].base for view in views):
        return ImageView(views[0].base, np.concatenate([view.rows for view in views]))
    bases = [part.base if isinstance(part, ImageView) else part for part in parts]
    stacks = [base for base in bases if isinstance(base, Stacked)]
    if len(stacks) < len(parts):
        return Stacked(parts)
    # The files side by side, not a stack of stacks: what orders batches sees files alone.
    whole = Stacked([file for stack in stacks for file in stack.parts], stacks[0].n_near)
    if not views:
        return whole
    starts = np.cumsum([0, *map(len, stacks)])
    rows = [
        start + (part.rows if isinstance(part, ImageView) else np.arange(len(part)))
        for start, part in zip(starts, parts, strict=False)
    ]
    return ImageView(whole, np.concatenate(rows))


Labels = npt.NDArray[Any]
"""Labels of images: one class each, shape (n_images,), int64, class indices in [0, n_classes); or
any number of classes each, shape (n_images, n_classes), uint8, 1 for each class of an image."""


def is_multi_label(labels: Labels) -> bool:
    """Return whether labels give each image any number of classes, not exactly one."""
    return labels.ndim == 2


def n_of_each(labels: Labels, n_classes: int) -> IntArray:
    """Return the number of images of each class, shape (n_classes,).

    Examples:
        >>> n_of_each(np.array([0, 2, 2]), 3).tolist()
        [1, 0, 2]
        >>> n_of_each(np.array([[1, 1], [0, 1]], np.uint8), 2).tolist()
        [1, 2]
    """
    if is_multi_label(labels):
        return np.asarray(labels.sum(axis=0), np.int64)
    return np.bincount(labels, minlength=n_classes).astype(np.int64)


def classes_of(label: Any) -> tuple[int, ...]:
    """Return the class indices of one image, from its entry in `Labels`.

    Examples:
        >>> classes_of(np.int64(2)), classes_of(np.array([1, 0, 1], np.uint8))
        ((2,), (0, 2))
    """
    if np.ndim(label):
        return tuple(np.flatnonzero(label).tolist())
    return (int(label),)


def names_of(label: Any, class_names: Sequence[str]) -> str:
    """Return the classes of one image in words.

    Examples:
        >>> names_of(np.array([1, 0, 1], np.uint8), ["cat", "dog", "owl"])
        'cat + owl'
    """
    return said_of([class_names[index] for index in classes_of(label)])


def said_of(names: Sequence[str]) -> str:
    """Return the names of an image's classes in words; `NO_LABEL` for none."""
    return " + ".join(names) or NO_LABEL


NO_LABEL = "no class"
"""Words for an image that has none of the classes, where images may have any number of them."""


@dataclass(frozen=True)
class Split:
    """Labelled images.

    Attributes:
        images: Shape (n_images, height, width, channels), uint8, channels 1 or 3. It may be a
            memory-mapped array larger than memory: take batches from it, not the whole.
        labels: Classes of the images, see `Labels`.
        ids: Shape (n_images,), a name for each image that is the same at every load: its index in
            the official file ("train/00190") or its path below the data folder.
        files: Shape (n_images,), sixteen hex digits of the SHA-256 of the file that each image was
            decoded from; None where the pixels are the original.
        groups: Shape (n_images,), name of the group that each image belongs to, such as its patient
            or its burst, which a division keeps in one part; "" for an image of none; None where
            there are no groups.
    """

    images: Images
    labels: Labels
    ids: npt.NDArray[np.str_]
    files: npt.NDArray[np.str_] | None = None
    groups: npt.NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[3] not in (1, 3):
            raise ShapeError(
                "images must have shape (n_images, height, width, 1 or 3), "
                f"not {tuple(self.images.shape)}"
            )
        if self.images.dtype != np.uint8:
            raise ShapeError(f"images must be uint8 in 0..255, not {self.images.dtype}")
        if not len(self.images) == len(self.labels) == len(self.ids):
            raise ShapeError(
                f"{len(self.images)} images, {len(self.labels)} labels and {len(self.ids)} ids: "
                "the three must have the same length"
            )
        if self.groups is not None and len(self.groups) != len(self.ids):
            raise ShapeError(
                f"{len(self.ids)} images and {len(self.groups)} groups: each image needs its own"
            )

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def joined(cls, parts: "Sequence[Split]") -> "Split":
        """Return the images of several splits, one after another, without copying them."""
        first, *others = parts
        if not others:
            return first
        whole = cls(
            _joined_images([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.ids for part in parts]),
            joined_if_all([part.files for part in parts]),
            joined_if_all([part.groups for part in parts]),
        )
        whole.__dict__["hashes"] = [each for part in parts for each in part.hashes]
        return whole

    def take(self, indices: npt.NDArray[np.intp]) -> "Split":
        """Return the images at `indices`, in that order, copied into memory."""
        return self._with(self.images[indices], indices)

    def select(self, indices: npt.NDArray[np.intp]) -> "Split":
        """Return the images at `indices`, in that order; memory-mapped ones stay on the disk."""
        images: Images
        if isinstance(self.images, ImageView):
            images = ImageView(self.images.base, self.images.rows[indices])
        elif isinstance(self.images, np.memmap | Stacked):
            images = ImageView(self.images, indices)
        else:
            images = self.images[indices]
        selected = self._with(images, indices)
        if (known := self.__dict__.get("hashes")) is not None:
            # Each image is hashed once, however often the set is divided.
            selected.__dict__["hashes"] = [known[index] for index in indices]
        return selected

    @cached_property
    def hashes(self) -> list[str]:
        """Sixteen hex digits of the SHA-256 of each image's pixels, to identify images."""
        return hashes_of(self.images)

    @property
    def source_hashes(self) -> list[str]:
        """Sixteen hex digits that identify the source of each image, at any `--image-size`."""
        return self.hashes if self.files is None else self.files.tolist()

    def in_groups(self, groups: npt.NDArray[np.str_]) -> "Split":
        """Return the same images in groups."""
        grouped = replace(self, groups=groups)
        if (known := self.__dict__.get("hashes")) is not None:
            grouped.__dict__["hashes"] = known
        return grouped

    def _with(self, images: Images, indices: npt.NDArray[np.intp]) -> "Split":
        """Return the images at `indices`, whose pixels are given."""
        return Split(
            images,
            self.labels[indices],
            self.ids[indices],
            None if self.files is None else self.files[indices],
            None if self.groups is None else self.groups[indices],
        )


def numbered(values: Iterable[_Key]) -> tuple[npt.NDArray[np.intp], list[_Key]]:
    """Return the number of each value, from 0 in the order of the first of each, and the values.

    Examples:
        >>> numbered(["b", "a", "b"])[1]
        ['b', 'a']
    """
    numbers: dict[_Key, int] = {}
    found = np.array([numbers.setdefault(each, len(numbers)) for each in values], np.intp)
    return found, list(numbers)


def joined_if_all(
    parts: Sequence[npt.NDArray[np.str_] | None],
) -> npt.NDArray[np.str_] | None:
    """Return arrays one after another; None if one of them is missing."""
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


@dataclass(frozen=True)
class SealedSplit:
    """Test images, which nobody sees by accident.

    Selection looks at validation data only; the test set is opened by `open`, which informs the run
    first. Its size, names and hashes are not secret, nor are its pixels where no model judges them.
    """

    _split: Split

    def __len__(self) -> int:
        return len(self._split)

    @property
    def ids(self) -> npt.NDArray[np.str_]:
        """Shape (n_images,), as in `Split`."""
        return self._split.ids

    @property
    def labels(self) -> Labels:
        """As in `Split`."""
        return self._split.labels

    @property
    def groups(self) -> npt.NDArray[np.str_] | None:
        """As in `Split`."""
        return self._split.groups

    @property
    def hashes(self) -> list[str]:
        """Hashes of the pixels, as in `Split`."""
        return self._split.hashes

    @property
    def source_hashes(self) -> list[str]:
        """Hashes of the sources, as in `Split`."""
        return self._split.source_hashes

    def in_groups(self, groups: npt.NDArray[np.str_]) -> "SealedSplit":
        """Return the same images in groups, sealed too."""
        return SealedSplit(self._split.in_groups(groups))

    def select(self, indices: npt.NDArray[np.intp]) -> "SealedSplit":
        """Return the images at `indices`, sealed too."""
        return SealedSplit(self._split.select(indices))

    def unjudged(self) -> Split:
        """Return the test images for copying and comparing them, which is not logged.

        Whoever lets a model see them logs that, as `open` does.
        """
        return self._split

    def open(self, log: Callable[[int], None]) -> Split:
        """Return the test images, after calling `log` with their number."""
        log(len(self._split))
        return self._split


PART_NAMES = {"train": "training", "val": "validation", "test": "test"}
"""Parts of a dataset, and words for them."""


@dataclass(frozen=True)
class Dataset:
    """A set of labelled images, in two or three parts.

    Attributes:
        name: Registered name, or name of the folder.
        class_names: Name of each class, in the order of the labels.
        train: Training images. Until `splits.divide` has run, validation images may still be among
            them.
        val: Validation images, for choices; None until they have been split off.
        test: Test images, opened once, at the end; None until they have been split off.
        provenance: Origin of the data: at least "source"; also "licence", "citation", "checksum".
        notes: Notes for the user ("ignored 2 hidden folders").
        white: Pixel value shown as white in images whose files do not state it (floating-point,
            32-bit); None if there are none.
        drawn: Names of the parts that were drawn by chance, not given.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    val: Split | None = None
    test: SealedSplit | None = None
    provenance: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    white: int | None = None
    drawn: frozenset[str] = frozenset()

    @property
    def multi_label(self) -> bool:
        """Whether an image has any number of classes, not exactly one."""
        return is_multi_label(self.train.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of its images."""
        height, width, channels = self.train.images.shape[1:]
        return (height, width, channels)

    @property
    def parts(self) -> dict[str, Split | SealedSplit]:
        """The parts that there are, by name: "train", "val", "test"."""
        named = {name: getattr(self, name) for name in PART_NAMES}
        return {name: part for name, part in named.items() if part is not None}

    @property
    def validation(self) -> Split:
        """The validation part of a dataset that is divided."""
        assert self.val is not None
        return self.val

    def parts_to_learn(self, *, refit: bool) -> tuple[Split, ...]:
        """Return the parts that a network is trained on; in a refit, the validation part too."""
        return (self.train, self.val) if refit and self.val is not None else (self.train,)


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for a split: all that evaluation needs.

    Attributes:
        probs: Shape (n_images, n_classes), float32, rows sum to 1; where images have any number of
            classes, each is for itself.
        labels: True classes, see `Labels`.
        ids: Shape (n_images,), names of the images.
        split: Name of the split: "val" or "test"; "train" or "out_of_fold" where each image was
            predicted by a network of folds that did not learn it; "new" for images that are not
            those of the run.
        groups: Groups of the images, as in `Split`.
    """

    probs: FloatArray
    labels: Labels
    ids: npt.NDArray[np.str_]
    split: str
    groups: npt.NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if self.probs.ndim != 2 or len(self.probs) != len(self.labels):
            raise ShapeError(
                f"probs must have shape (n_images, n_classes) with n_images = {len(self.labels)}, "
                f"not {tuple(self.probs.shape)}"
            )

    def require_names(self, class_names: Sequence[str]) -> None:
        """Reject predictions that are not a probability for each class.

        Raises:
            ShapeError: If the number of classes is another one.
        """
        n_classes = self.probs.shape[1]
        if n_classes != len(class_names):
            raise ShapeError(f"{n_classes} probabilities per row for {len(class_names)} classes")

    @classmethod
    def joined(cls, parts: "Sequence[Predictions]", split: str) -> "Predictions":
        """Return the predictions for several splits, one after another, as those for one."""
        return cls(
            np.concatenate([part.probs for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.ids for part in parts]),
            split,
            joined_if_all([part.groups for part in parts]),
        )

    @property
    def multi_label(self) -> bool:
        """Whether an image has any number of classes, not exactly one."""
        return is_multi_label(self.labels)

    @cached_property
    def right(self) -> BoolArray:
        """Shape (n_images,): whether the most probable class is the true one.

        Of images with any number of classes there is no such thing.
        """
        assert not self.multi_label
        return np.asarray(self.probs.argmax(axis=1) == self.labels)

    @property
    def right_by_id(self) -> BoolArray:
        """The same in the order of the images' names, which does not depend on the model."""
        return self.right[np.argsort(self.ids, kind="stable")]

    @property
    def groups_by_id(self) -> npt.NDArray[np.str_] | None:
        """The groups in that order."""
        return None if self.groups is None else self.groups[np.argsort(self.ids, kind="stable")]


NO_CLASS = "none of these"
"""Answer for an image that looks like no class."""


@dataclass(frozen=True)
class ImagePrediction:
    """Prediction of a model for one image file.

    Attributes:
        path: Path of the file; None for an image that was no file.
        probs: Probability of each class by name, in the order of the classes; the sum is 1, unless
            an image may have any number of classes.
        rejected: Whether it looks like no class; always False where nobody asked.
        thresholds: Least probability of each class that is part of the answer, where an image may
            have any number of classes; None where it has exactly one.
    """

    path: Path | None
    probs: dict[str, float]
    rejected: bool = False
    thresholds: dict[str, float] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the answer, the most probable first; none if the image was rejected.

        Where an image may have any number of classes, all that reach their thresholds, which may be
        none.
        """
        if self.rejected:
            return ()
        if self.thresholds is None:
            return (self.class_name,)
        least = self.thresholds
        said = [name for name, prob in self.probs.items() if prob >= least[name]]
        return tuple(sorted(said, key=lambda name: -self.probs[name]))

    @property
    def class_name(self) -> str:
        """The most probable class, even if the image was rejected."""
        return max(self.probs, key=self.probs.__getitem__)

    @property
    def answer(self) -> str:
        """The most probable class, or `NO_CLASS`; of several, all in words."""
        return NO_CLASS if self.rejected else said_of(self.class_names)

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the `k` most probable classes and their probabilities, the best first."""
        return sorted(self.probs.items(), key=lambda item: -item[1])[:k]


@dataclass(frozen=True)
class UnreadableImage:
    """An image file that could not be read.

    Attributes:
        path: Path of the file; None for an image that was no file.
        reason: One line that names the file and the problem.
    """

    path: Path | None
    reason: str


@dataclass(frozen=True)
class PackedImage:
    """An image file in an archive.

    Attributes:
        path: Path of the archive, and below it the name in the archive.
        content: Bytes of the file.
        reason: Reason why it cannot be read, in words that follow its name; "" if there is none.
    """

    path: Path
    content: bytes = b""
    reason: str = ""


@dataclass(frozen=True)
class Neighbour:
    """Training image near another image.

    Attributes:
        image_id: Name of the image.
        class_name: Class of its label.
        similarity: Cosine of the angle between the features of the two, in [-1, 1].
    """

    image_id: str
    class_name: str
    similarity: float

    @property
    def caption(self) -> str:
        """Two lines for below the image."""
        return f"{self.class_name}\n{self.similarity:.2f}"
