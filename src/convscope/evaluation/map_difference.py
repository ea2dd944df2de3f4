"""Comparison of training configurations by mean average precision, over seeds and images at once.

As `statistics.difference` does for accuracy. A mean average precision is no mean over images, so
what the choice of images makes of it comes from the bootstrap: the same samples for every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscope.evaluation.multi_label import Flags, mean_average_precision, resampled_map
from convscope.evaluation.statistics import Difference, Margins, Variation
from convscope.types import FloatArray

FloatsOfSamples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Mean average precision of a run on the images of a comparison.

    Attributes:
        score: On these images, in [0, 1].
        resampled: Shape (n_samples,), on the bootstrap samples, which are the same for all runs.
        n_images: Number of images.
    """

    score: float
    resampled: FloatsOfSamples
    n_images: int

    @classmethod
    def of(cls, probs: FloatArray, labels: Flags) -> "Scored":
        """Return it for predictions, the images in the same order for all runs."""
        score = mean_average_precision(probs, labels)
        return cls(score, resampled_map(probs, labels), len(labels))


def map_difference(
    runs_a: Sequence[Scored], runs_b: Sequence[Scored], *, paired: bool, n_comparisons: int = 1
) -> Difference:
    """Compare two training configurations by the mean average precision of their runs.

    A side with a single seed borrows the spread over seeds of the other side. With a single seed
    each, the two networks are compared, and another seed may reverse the result.

    Args:
        runs_a: Runs of A, one for each seed.
        runs_b: Runs of B, on the same images.
        paired: Whether run k of both has the same seed; both then have as many.
        n_comparisons: Number of comparisons in all, as for `statistics.difference`.
    """
    confidence, n_images = 1 - 0.05 / n_comparisons, runs_a[0].n_images
    sides = [_Side.of(runs_a), _Side.of(runs_b)]
    mean = float(sides[1].scores.mean() - sides[0].scores.mean())
    means = sides[1].samples.mean(axis=0) - sides[0].samples.mean(axis=0)
    floor = float(means.var(ddof=1))
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
        one.score == other.score and (one.resampled == other.resampled).all()
        for one, other in zip(runs_a, runs_b, strict=True)
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
        identical=bool(identical),
        # As variances of single images, of which a mean has that over their number.
        variation=Variation(seeds, pure * n_images, rest * n_images, n_images),
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
