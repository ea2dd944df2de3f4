"""Logistic regression: a linear head at its optimum, without epochs or a rate.

Multinomial; of each class for itself where an image may have any number of classes.

On features of a frozen backbone this is the textbook's answer, and with the right penalty it is
well calibrated. The penalty is chosen by cross-validation over the training images, so that the
validation images still say what to expect.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convscope.datasets.division.draw import Pool, Together, draw_folds
from convscope.machine import usable_cores
from convscope.models.head import Block
from convscope.progress import Progress
from convscope.run import Run
from convscope.storage import write_rows
from convscope.training.logistic_fit import TOLERANCE, fit_logistic, most_steps
from convscope.training.temperature import calibrated_losses
from convscope.training.weighting import Weighting
from convscope.types import FloatArray, IntArray, Labels, is_multi_label

PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.01, 0.001, 0.0001, 0.00001)
"""Candidates for the L2 penalty, the strongest first; see `fit_logistic`. Among weak ones the loss
at the best temperature hardly changes: by 1 % from 0.01 to 0.001 on four sets of photos."""

LAST_MAP = (1.0, 2.0, 0.5)
"""Candidates for the size of the features of the last map, relative to those of the others. What
separates the classes lies in the last map where there are many of them, earlier where they differ
in texture or detail."""

_HOPELESS = 1.02
"""Loss, relative to the best so far, from which another penalty would not help either: on four sets
of photos none made up for more than that."""

_COLUMNS = ("penalty", "accuracy", "loss", "seconds", "last_map")
_FOLDS = 5
_MANY = 5_000
"""Number of images from which one fold of the five says enough."""

_MOST_LEARNT, _MOST_HELD_OUT = 5_000, 5_000
"""Number of images beyond which more do not change the choice of the penalty, in each fold."""

_FEWER_FOLDS = 3
_LARGE = 20_000
"""Images times classes from which there are fewer folds; not features, so that networks are
compared by heads that learnt as many images."""

_LEAST_GAIN = 1.5
"""Columns for each row from which it pays to have fewer."""

_START = PENALTIES.index(0.01)
"""First candidate; from there the search follows the falling loss, which has one minimum."""

_MOST_VALUES, _LEAST_LEARNT = 1e9, 1_500
"""Images times features times classes above which fewer images choose the penalty, and how many at
least: with 132 classes, 5,000 images took minutes for a penalty on one core."""

Fold = tuple[IntArray, IntArray]
"""Images to learn from, and images to hold out."""


class Candidate(NamedTuple):
    """Penalty that was tried.

    Attributes:
        penalty: L2 penalty.
        accuracy: Fraction of correct answers on images that were held out, in [0, 1]; of images
            with any number of classes, of right decisions at a probability of 0.5.
        loss: Mean cross-entropy on these at the best temperature, in nats.
        seconds: Time that it took.
        last_map: Size of the features of the last map, of `LAST_MAP`.
        losses: Shape (n_images,), cross-entropy of each image, mean over its views; not a number
            for those that were not held out.
    """

    penalty: float
    accuracy: float
    loss: float
    seconds: float
    last_map: float = 1.0
    losses: FloatArray = np.empty(0, np.float32)


def labels_in_views(labels: Labels, views: int) -> Labels:
    """Return the labels of all views, one view after another."""
    return np.concatenate([labels] * views)


def hits_in_words(labels: Labels) -> str:
    """Return what `Candidate.accuracy` is, in words."""
    return "right decisions" if is_multi_label(labels) else "accuracy"


def held_out_probs(
    features: FloatArray,
    labels: Labels,
    n_classes: int,
    penalty: float,
    *,
    seed: int,
    together: Together | None = None,
    views: int = 1,
    blocks: Sequence[Block] = (),
    weighting: Weighting = "none",
) -> tuple[IntArray, FloatArray]:
    """Return probabilities by heads that were not trained on the image, at one penalty.

    Args:
        features: Shape (views * n_images, n_features), as in `choose_penalty`.
        labels: Classes of the images.
        n_classes: Number of classes.
        penalty: L2 penalty.
        seed: Seed of the folds.
        together: Which images stay together, as in `choose_penalty`.
        views: Number of views; the probabilities are for the first.
        blocks: Blocks of the features, as in `fit_logistic`.
        weighting: Weights of the classes, as in `fit_logistic`.

    Returns:
        Indices of the images that were held out, shape (n_held_out,): all of them, or of very many
        those of one fold; and their probabilities, shape (n_held_out, n_classes).
    """
    folds = _folds(labels, seed, _n_folds(len(labels), n_classes), n_classes, together)
    features, blocks = _in_fewer_columns(features, blocks)
    divided = [(_in_views(learnt, len(labels), views), held_out) for learnt, held_out in folds]
    with one_thread_each() as pool:
        probs = probs_of_folds(
            features,
            labels_in_views(labels, views),
            n_classes,
            penalty,
            divided,
            pool,
            blocks=blocks,
            weighting=weighting,
        )
    return np.concatenate([held_out for _, held_out in folds]), probs


def choose_penalty(
    features: FloatArray,
    labels: Labels,
    n_classes: int,
    *,
    seed: int,
    together: Together | None = None,
    views: int = 1,
    weighting: Weighting = "none",
    blocks: Sequence[Block] = (),
    last_maps: Sequence[float] = LAST_MAP,
    progress: Progress,
) -> list[Candidate]:
    """Return the penalties that were tried, the best first: the lowest loss on held-out images.

    At the best temperature: without it a stronger penalty is chosen than the answers need, since it
    makes up for a head that is too sure.

    First the features are taken as they are, then those of the last map larger, or smaller; the
    search for each begins at the penalty of the one before.

    Args:
        features: Shape (views * n_images, n_features), standardised; of the training images only,
            one view of all of them after another.
        labels: Classes of the images.
        n_classes: Number of classes.
        seed: Seed of the folds.
        together: Which images are learnt from or held out together, such as copies and the images
            of one patient; None for none.
        views: Number of views; all those of an image are learnt from, or all are held out.
        weighting: Weights of the classes, as in `fit_logistic`; the held-out images count alike.
        blocks: Blocks of the features, as in `fit_logistic`; none for a single one whose last map
            keeps its size.
        last_maps: Candidates for the size of the features of last maps, relative to the others;
            the first is tried first.
        progress: Called with each penalty.
    """
    comparison = _Comparison.of(
        features, labels, n_classes, seed=seed, together=together, views=views, weighting=weighting
    )
    tried: dict[tuple[float, int], Candidate] = {}
    words = hits_in_words(labels)
    with (
        progress.task("Choosing the penalty", None, "penalties") as step,
        one_thread_each() as pool,
    ):

        def loss_at(
            last_map: float, index: int, features: FloatArray, blocks: Sequence[Block]
        ) -> float:
            if (last_map, index) not in tried:
                new = comparison.tried(PENALTIES[index], last_map, features, blocks, pool)
                tried[last_map, index] = new
                said = f"held-out loss {new.loss:.4f}, {words} {new.accuracy:.4f}"
                step(1, f"{new.penalty:.3g}: {said}")
            return tried[last_map, index].loss

        best = _START
        for last_map in last_maps if any(block.n_last for block in blocks) else LAST_MAP[:1]:
            as_it_is = min((each.loss for each in tried.values()), default=math.inf)
            with _resized(comparison.features, blocks, last_map):
                fewer = _in_fewer_columns(comparison.features, blocks)
                if loss_at(last_map, best, *fewer) > _HOPELESS * as_it_is:
                    continue
                place = best
                for direction in (1, -1):
                    while 0 <= place + direction < len(PENALTIES):
                        if loss_at(last_map, place + direction, *fewer) >= loss_at(
                            last_map, place, *fewer
                        ):
                            break
                        place += direction
            if last_map == last_maps[0]:
                best = place
            elif tried[last_map, place].loss < as_it_is:
                # The other way is worse, then.
                break
    return sorted(tried.values(), key=lambda candidate: candidate.loss)


@dataclass(frozen=True)
class _Comparison:
    """Images that heads learn, and others on which penalties are compared.

    Attributes:
        features: Shape (n_rows, n_features), one view of the images after another.
        labels: Classes of the rows.
        n_classes: Number of classes.
        weighting: Weights of the classes.
        n_images: Number of images that there are.
        views: Number of views.
        held_out: Images that each fold holds out.
        folds: Rows to learn from and to hold out, in all their views.
        share: Images that a fold learns, as a fraction of those without a limit. The penalty weighs
            against a mean over images: with more of them the same prior weighs less.
        steps: Number of steps at which a fit ends in any case.
    """

    features: FloatArray
    labels: Labels
    n_classes: int
    weighting: Weighting
    n_images: int
    views: int
    held_out: Sequence[IntArray]
    folds: Sequence[Fold]
    share: float
    steps: int

    @classmethod
    def of(
        cls,
        features: FloatArray,
        labels: Labels,
        n_classes: int,
        *,
        seed: int,
        together: Together | None,
        views: int,
        weighting: Weighting,
    ) -> "_Comparison":
        """Return the images for `choose_penalty`, whose arguments these are."""
        n_images = len(labels)
        folds = _folds(labels, seed, _n_folds(n_images, n_classes), n_classes, together)
        n_learnt = len(folds[0][0])
        # As many as when all are learnt: to stop early is a penalty too.
        steps = most_steps(views * n_learnt, features.shape[1], n_classes)
        # Of many a random part: 5,000, with many classes fewer to learn from.
        fitting = int(_MOST_VALUES / (features.shape[1] * n_classes))
        limits = min(_MOST_LEARNT, max(fitting, _LEAST_LEARNT)), _MOST_HELD_OUT
        folds = [_thinned(fold, seed, limits) for fold in folds]
        in_views = [
            (_in_views(learnt, n_images, views), _in_views(held_out, n_images, views))
            for learnt, held_out in folds
        ]
        labels = labels_in_views(labels, views)
        used = np.unique(np.concatenate([part for fold in in_views for part in fold]))
        if 2 * len(used) <= len(labels):
            # Of very many images a part is taken, once: they may be mapped from a disk.
            features, labels = features[used], labels[used]
            in_views = [
                (np.searchsorted(used, learnt), np.searchsorted(used, held_out))
                for learnt, held_out in in_views
            ]
        return cls(
            features,
            labels,
            n_classes,
            weighting,
            n_images,
            views,
            held_out=[held_out for _, held_out in folds],
            folds=in_views,
            share=len(folds[0][0]) / n_learnt,
            steps=steps,
        )

    def tried(
        self,
        penalty: float,
        last_map: float,
        features: FloatArray,
        blocks: Sequence[Block],
        pool: ThreadPoolExecutor,
    ) -> Candidate:
        """Return what heads with a penalty reach; its own is that of as many images as there are.

        Args:
            penalty: L2 penalty for as many images as a fold learns here.
            last_map: Size of the features of the last map.
            features: Features of the rows at that size, perhaps in fewer columns.
            blocks: Blocks of these.
            pool: Threads from `one_thread_each`.
        """
        start = time.monotonic()
        probs = probs_of_folds(
            features,
            self.labels,
            self.n_classes,
            penalty,
            self.folds,
            pool,
            blocks=blocks,
            weighting=self.weighting,
            steps=self.steps,
        )
        labels = np.concatenate([self.labels[held_out] for _, held_out in self.folds])
        said = probs >= 0.5 if is_multi_label(labels) else probs.argmax(axis=1)
        losses = calibrated_losses(probs, labels)
        accuracy, loss = float((said == labels).mean()), float(losses.mean())
        seconds = time.monotonic() - start
        return Candidate(
            penalty * self.share,
            accuracy,
            loss,
            seconds,
            last_map,
            self._of_images(losses),
        )

    def _of_images(self, losses: npt.NDArray[np.float64]) -> FloatArray:
        """Return the loss of each image, from those of the rows that the folds hold out."""
        found, start = np.full(self.n_images, np.nan, np.float32), 0
        for held_out in self.held_out:
            stop = start + self.views * len(held_out)
            found[held_out] = losses[start:stop].reshape(self.views, -1).mean(axis=0)
            start = stop
        return found


@contextlib.contextmanager
def _resized(features: FloatArray, blocks: Sequence[Block], factor: float) -> Iterator[None]:
    """Multiply features of last maps for a while, in place: a copy may not fit into memory."""
    for block in blocks:
        features[:, block.last] *= factor
    try:
        yield
    finally:
        for block in blocks:
            # Exact for a power of two, as all of `LAST_MAP` are; one of the user's rounds once.
            features[:, block.last] /= factor


def probs_of_folds(
    features: FloatArray,
    labels: Labels,
    n_classes: int,
    penalty: float,
    folds: Sequence[Fold],
    pool: ThreadPoolExecutor,
    *,
    blocks: Sequence[Block],
    weighting: Weighting,
    tolerance: float = TOLERANCE,
    steps: int | None = None,
) -> FloatArray:
    """Return probabilities of the rows that each fold holds out, by a head that learnt its others.

    All folds are fitted at the same time, or a single one with all threads.

    Args:
        features: Shape (n_rows, n_features), standardised.
        labels: Classes of the rows.
        n_classes: Number of classes.
        penalty: L2 penalty.
        folds: Rows to learn from and rows to hold out.
        pool: Threads from `one_thread_each`.
        blocks: As in `fit_logistic`, like all that follows.
        weighting: Weights of the classes.
        tolerance: Largest derivative at which a fit ends.
        steps: Number of steps at which it ends in any case.

    Returns:
        Shape (n_held_out, n_classes), one fold after another.
    """
    alone = len(folds) == 1

    def of_fold(fold: Fold) -> FloatArray:
        learnt, held_out = fold
        head = fit_logistic(
            features,
            labels,
            n_classes,
            penalty,
            blocks=blocks,
            weighting=weighting,
            learnt=learnt,
            tolerance=tolerance,
            steps=steps,
            pool=pool if alone else None,
        )
        return head.probs(features, held_out)

    probs = map(of_fold, folds) if alone else pool.map(of_fold, folds)
    return np.concatenate(list(probs))


@contextlib.contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread for each core, with one thread of BLAS."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(usable_cores()) as pool:
        yield pool


def write_candidates(tried: list[Candidate], run: Run) -> None:
    """Write the penalties that were tried to `heads.csv` in the run.

    Raises:
        StorageError: If the file cannot be written.
    """
    rows = (
        dict(zip(_COLUMNS, (each.penalty, *(round(n, 5) for n in each[1:-1])), strict=True))
        for each in sorted(tried, key=lambda each: each[:-1], reverse=True)
    )
    write_rows(run.heads_file, _COLUMNS, rows)


def _in_fewer_columns(
    features: FloatArray, blocks: Sequence[Block]
) -> tuple[FloatArray, Sequence[Block]]:
    """Return features with the same products of rows, in fewer columns if there are fewer rows.

    Fits are the same with a rotated kernel, which has the same norm, and up to twice as quick.
    """
    if len(blocks) < 2:
        return _rotated(features), blocks
    parts = [_rotated(features[:, block.start : block.stop]) for block in blocks]
    ends = list(itertools.accumulate(part.shape[1] for part in parts))
    if ends[-1] == features.shape[1]:
        return features, blocks
    starts = [0, *ends[:-1]]
    return np.concatenate(parts, axis=1), list(map(Block, starts, ends))


def _rotated(features: FloatArray) -> FloatArray:
    n_images, n_features = features.shape
    if n_features < _LEAST_GAIN * n_images:
        return features
    # In double precision: rows that are nearly the same make the products nearly singular, and
    # standardised ones, whose sum is zero, wholly.
    wide = features.astype(np.float64)
    products = wide @ wide.T
    if not products.any():  # images that are all the same
        return features
    products[np.diag_indices(n_images)] += 1e-6 * np.trace(products) / n_images
    return np.linalg.cholesky(products).astype(np.float32)


def _n_folds(n_images: int, n_classes: int) -> int:
    """Return the number of folds by the images of one view: the same with mirrored ones."""
    return _FEWER_FOLDS if n_images * n_classes >= _LARGE else _FOLDS


def _in_views(rows: IntArray, n_images: int, views: int) -> IntArray:
    """Return the rows of images in all their views, the first view first."""
    return (n_images * np.arange(views)[:, None] + rows).ravel()


def _thinned(fold: Fold, seed: int, limits: tuple[int, int]) -> Fold:
    """Return a fold with a random part of its images to learn from, and to hold out, at most.

    Those held out do not depend on how many are learnt: networks are compared on them.
    """
    learnt, held_out = (
        part
        if len(part) <= limit
        else np.sort(np.random.default_rng(seed).choice(part, limit, replace=False))
        for part, limit in zip(fold, limits, strict=True)
    )
    return learnt, held_out


def _folds(
    labels: Labels, seed: int, n_folds: int, n_classes: int, together: Together | None
) -> list[Fold]:
    """Return the folds by which a penalty is chosen: of many images one says enough."""
    folds = folds_of(labels, seed, n_folds, n_classes, together)
    return folds[:1] if len(labels) >= _MANY else folds


def folds_of(
    labels: Labels,
    seed: int,
    n_folds: int,
    n_classes: int,
    together: Together | None = None,
) -> list[Fold]:
    """Return for each fold the images to learn from and those held out, classes spread evenly."""
    n_folds = min(n_folds, len(labels))
    # Of a single group nothing could be held out.
    keys, grouped = together or (None, False)
    if keys is not None and len(set(keys)) == 1:
        keys = None
    pool = Pool(labels, keys, n_classes, grouped)
    part_of = draw_folds(pool, n_folds, seed, stratify=bool(pool.counts.max() >= n_folds))
    # Of fewer units than folds some are empty.
    return [
        (np.flatnonzero(part_of != part), np.flatnonzero(part_of == part))
        for part in np.unique(part_of)
    ]
