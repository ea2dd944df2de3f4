"""Comparison of training configurations by mean average precision, over seeds and images at once.

As `statistics.difference` does for accuracy. A mean average precision is no mean over images, so
what the choice of images makes of it comes from the bootstrap: the same samples for every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscope.evaluation.multi_label import (
    Flags,
    average_precisions,
    labels_of_units,
    resampled_map,
    unseen_loss,
)
from convscope.evaluation.statistics import Difference, Margins, Variation
from convscope.types import FloatArray

FloatsOfSamples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Mean average precision of a run on the images of a comparison.

    Attributes:
        of_classes: Shape (n_classes,), average precisions; nan for a class without images.
        resampled: Shape (n_samples,), on the bootstrap samples, which are the same for all runs.
        probs: Shape (n_images, n_classes), the answers.
        units: Shape (n_units, n_classes), classes of the images, or of their groups, which are the
            same for all runs.
        grouped: Whether the images are in groups.
    """

    of_classes: FloatsOfSamples
    resampled: FloatsOfSamples
    probs: FloatArray
    units: Flags
    grouped: bool

    @classmethod
    def of(
        cls, probs: FloatArray, labels: Flags, groups: npt.NDArray[np.str_] | None = None
    ) -> "Scored":
        """Return it for predictions, the images in the same order for all runs."""
        return cls(
            average_precisions(probs, labels)[0],
            resampled_map(probs, labels, groups),
            probs,
            labels_of_units(labels, groups),
            groups is not None,
        )

    @property
    def score(self) -> float:
        """Mean average precision on these images, in [0, 1]."""
        return float(np.nanmean(self.of_classes))


def map_difference(
    runs_a: Sequence[Scored], runs_b: Sequence[Scored], *, paired: bool, n_comparisons: int = 1
) -> Difference:
    """Compare two training configurations by the mean average precision of their runs.

    A side with a single seed borrows the spread over seeds of the other side. With a single seed
    each, the two networks are compared, and another seed may reverse the result.

    The bootstrap has no spread where both always score alike, though on other images they may not.
    So the interval reaches to either side at least as far as `unseen_loss` exceeds what is seen:
    the mean absolute difference of the average precisions of a class in a run of each.

    Args:
        runs_a: Runs of A, one for each seed.
        runs_b: Runs of B, on the same images.
        paired: Whether run k of both has the same seed; both then have as many.
        n_comparisons: Number of comparisons in all, as for `statistics.difference`.
    """
    from scipy.special import ndtri

    units = runs_a[0].units
    confidence, n_units = 1 - 0.05 / n_comparisons, len(units)
    sides = [_Side.of(runs_a), _Side.of(runs_b)]
    mean = float(sides[1].scores.mean() - sides[0].scores.mean())
    means = sides[1].samples.mean(axis=0) - sides[0].samples.mean(axis=0)
    apart = np.abs([one.of_classes - other.of_classes for one in runs_a for other in runs_b])
    unseen = max(0.0, unseen_loss(units) - float(np.nanmean(apart)))
    floor = max(float(means.var(ddof=1)), (unseen / float(ndtri(0.975))) ** 2)
    if len(runs_a) == len(runs_b) == 1:
        parts, pure, rest, seeds = [], floor, 0.0, None
    else:
        of = [sides[1].minus(sides[0])] if paired else sides
        spreads = [side.spread() for side in of]
        known = next(each for each in spreads if each is not None)
        filled = [each or known for each in spreads]
        parts = [
            (variance / len(side.scores), n)
            for (variance, _, n), side in zip(filled, of, strict=True)
        ]
        rest = sum(of_images for _, of_images, _ in filled)
        shared = sum(
            of_images / len(side.scores) for (_, of_images, _), side in zip(filled, of, strict=True)
        )
        pure = max(0.0, floor - shared)
        seeds = max(0.0, sum(variance - of_images for variance, of_images, _ in filled))
    margins = Margins(parts, pure, floor)
    half_width = margins.half_width(confidence)
    identical = paired and all(
        np.array_equal(one.probs, other.probs) for one, other in zip(runs_a, runs_b, strict=True)
    )
    return Difference(
        mean=mean,
        low=max(-1.0, mean - half_width),
        high=min(1.0, mean + half_width),
        p=margins.p(mean),
        p_seeds=Margins(parts, 0.0, 0.0).p(mean) if parts else None,
        p_images=Margins([], 0.0, floor).p(mean),
        of_ways=bool(parts),
        paired=paired,
        identical=identical,
        # As variances of single images, of which a mean has that over their number.
        variation=Variation(seeds, pure * n_units, rest * n_units, n_units, runs_a[0].grouped),
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Side:
    """Scores of the runs of a configuration, or differences of them.

    Attributes:
        scores: Shape (n_seeds,).
        samples: Shape (n_seeds, n_samples), on bootstrap samples.
    """

    scores: FloatsOfSamples
    samples: FloatsOfSamples

    @classmethod
    def of(cls, runs: Sequence[Scored]) -> "_Side":
        return cls(np.array([run.score for run in runs]), np.stack([run.resampled for run in runs]))

    def minus(self, other: "_Side") -> "_Side":
        return _Side(self.scores - other.scores, self.samples - other.samples)

    def spread(self) -> tuple[float, float, int] | None:
        """Return the variance over seeds, what the images make of it, and the number of seeds."""
        n = len(self.scores)
        if n < 2:
            return None
        # How much a seed's own answer to the choice of images differs from that of all seeds.
        alone = self.samples - self.samples.mean(axis=0)
        of_images = float(alone.var(axis=1, ddof=1).mean()) * n / (n - 1)
        return float(self.scores.var(ddof=1)), of_images, n
