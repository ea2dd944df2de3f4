"""How unlike the training images an image is to a frozen backbone. NumPy only."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convscope.npz import require_sound
from convscope.storage import atomic_path
from convscope.types import BoolArray, FloatArray, evenly_spread
from convscope.wording import first_line

N_AXES = 200
"""Directions in which the training images differ most, at most; more than 64 or 16 of them reject
more strange images."""

_IMAGES_PER_AXIS = 4
"""Images that a direction takes: with few of them the last ones are chance."""

MOST_FEATURES = 16_384
"""Number of features above which the file would be too large: it is of 14 MB with so many."""

MOST_IMAGES = 2_000
"""Images that the directions are computed from, at most, evenly spread."""

_MOST_BYTES = 100_000_000


@dataclass(frozen=True)
class Familiarity:
    """What the features of the training images have in common.

    A distance is Mahalanobis', with one variance for each of the main directions and a single one
    for all others: an image is strange if it has what no training image has.

    Attributes:
        centre: Shape (n_features,), mean of each feature.
        scale: Shape (n_features,), factor that gives each feature the standard deviation 1.
        axes: Shape (n_features, n_axes), the main directions, of length 1.
        variances: Shape (n_axes,), variance along them.
        rest: Variance along any other direction.
        farthest: Largest distance of an image that is accepted.
        rejected: Share of the images of each part ("val", "test") that are farther.
        weights_sha256: Digest of the weights that this belongs to.

    References:
        Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
        Adversarial Attacks", NeurIPS 2018; Tipping and Bishop, "Probabilistic Principal Component
        Analysis", 1999.
    """

    centre: FloatArray
    scale: FloatArray
    axes: FloatArray
    variances: FloatArray
    rest: float
    farthest: float = 0.0
    rejected: dict[str, float] = field(default_factory=dict)
    weights_sha256: str = ""

    @classmethod
    def of(cls, features: FloatArray) -> "Familiarity":
        """Return it from features of training images, shape (n_images, n_features)."""
        known = np.asarray(features[evenly_spread(len(features), MOST_IMAGES)], np.float64)
        centre, spread = known.mean(axis=0), known.std(axis=0)
        # What never varied is not made large by the first image in which it does.
        scale = 1 / np.maximum(spread, 0.01 * spread.mean() + 1e-12)
        known = (known - centre) * scale
        # The directions from the products of images or of features, whichever are fewer.
        by_feature = known.shape[1] < known.shape[0]
        values, vectors = np.linalg.eigh(known.T @ known if by_feature else known @ known.T)
        n_axes = min(N_AXES, max(1, len(known) // _IMAGES_PER_AXIS))
        values, vectors = values[::-1][:n_axes], vectors[:, ::-1][:, :n_axes]
        there = values > max(0.0, 1e-9 * values[0])
        values, vectors = values[there], vectors[:, there]
        axes = vectors if by_feature else known.T @ vectors / np.sqrt(values)
        n_others = max(1, known.shape[1] - len(values))
        rest = max((np.square(known).sum() - values.sum()) / n_others, 1e-6 * len(known))
        n_images = max(1, len(known) - 1)
        return cls(
            centre.astype(np.float32),
            scale.astype(np.float32),
            axes.astype(np.float32),
            (values / n_images).astype(np.float32),
            rest=float(rest / n_images),
        )

    def distances(self, features: FloatArray) -> npt.NDArray[np.float64]:
        """Return the squared distance of images per feature, shape (n_images,), 1 on average.

        Args:
            features: Shape (n_images, n_features), by the backbone.
        """
        away = (np.asarray(features, np.float64) - self.centre) * self.scale
        along = away @ self.axes.astype(np.float64)
        others = np.maximum(np.square(away).sum(axis=1) - np.square(along).sum(axis=1), 0)
        total = (np.square(along) / self.variances).sum(axis=1) + others / self.rest
        return np.asarray(total / away.shape[1])

    def rejects(self, features: FloatArray) -> BoolArray:
        """Return whether images look like no training image, shape (n_images,)."""
        return np.asarray(self.distances(features) > self.farthest)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            StorageError: If it cannot be written.
        """
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        arrays["rejected"] = json.dumps(self.rejected)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> "Familiarity":
        """Read what `write` wrote, without pickles; everything is checked before use.

        Raises:
            ValueError: If the file is damaged.
        """
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            with path.open("rb") as stream:
                require_sound(stream)
                with np.load(stream, allow_pickle=False) as file:
                    held = {each.name: file[each.name] for each in dataclasses.fields(cls)}
            arrays = {n: held[n] for n in ("centre", "scale", "axes", "variances")}
            n_features, n_axes = arrays["axes"].shape
            shapes = [(n_features,), (n_features,), (n_features, n_axes), (n_axes,)]
            numbers = [held["rest"], held["farthest"], *arrays.values()]
            if [each.shape for each in arrays.values()] != shapes or not all(
                each.dtype.kind == "f" and np.isfinite(each).all() for each in numbers
            ):
                raise ValueError("its arrays do not fit together")
            shares = json.loads(str(held["rejected"]))
            return cls(
                **arrays,
                rest=float(held["rest"]),
                farthest=float(held["farthest"]),
                rejected={str(part): float(share) for part, share in shares.items()},
                weights_sha256=str(held["weights_sha256"]),
            )
        except Exception as error:  # NumPy raises any exception on a damaged archive.
            raise ValueError(first_line(error)) from None
