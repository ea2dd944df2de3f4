"""Logistic heads on a frozen backbone, and probabilities for images that they did not learn."""

from collections.abc import Sequence

import keras
import numpy as np

from convscope.classifier.classify import at_temperature
from convscope.models.head import feature_statistics, standardised
from convscope.models.transfer import build_transfer
from convscope.models.weights import FoundWeights
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.training.frozen import run_frozen
from convscope.training.logistic import Fold, one_thread_each, probs_of_folds
from convscope.training.logistic_fit import COARSE
from convscope.training.temperature import best_temperature
from convscope.training.weighting import weighting_of_logistic
from convscope.types import FloatArray, InputSpec, IntArray, Split, is_multi_label

PENALTY = 0.1
"""Penalty of these heads. Their fits end early, so weaker ones hardly differ, and a search among
them finds noise. On four sets of photos apart and together this had a mean accuracy of 0.869 on
held-out images where the search had 0.858, and on 5,000 images of CIFAR-10, which had no part in
the choice, 0.8421 where it had 0.8433."""


class FrozenHeads:
    """Logistic heads on a frozen backbone, which runs once on each image.

    Args:
        config: Settings with a logistic head on a frozen backbone, on images as they are.
        spec: Input of the backbone.
        parts: Images, one part after another.
        n_classes: Number of classes.
        weights: Weights of the backbone; None keeps random ones.
        progress: Called with features.

    Attributes:
        images: The images, in the order of the rows.
        together: Which of them folds keep together.
    """

    def __init__(
        self,
        config: RunConfig,
        spec: InputSpec,
        parts: Sequence[Split],
        n_classes: int,
        weights: FoundWeights | None,
        progress: Progress,
    ) -> None:
        keras.utils.set_random_seed(config.seed)
        network = build_transfer(
            config.model,
            spec,
            n_classes,
            config.head,
            weights=weights,
            activation=config.activation,
        )
        output = run_frozen(network, config, spec, parts, parts[-1], progress)
        features = output.features.inputs(0)
        self.images, self.together = output.images, output.together
        self._features = standardised(features, feature_statistics(features))
        self._n_classes = n_classes
        self._blocks = network.blocks
        self._penalty = PENALTY if config.head.penalty is None else config.head.penalty
        self._weighting = weighting_of_logistic(config)

    def probs(self, folds: Sequence[Fold]) -> FloatArray:
        """Return probabilities for the images that each fold holds out, one fold after another.

        Returns:
            Shape (n_held_out, n_classes).
        """
        with one_thread_each() as pool:
            return probs_of_folds(
                self._features,
                self.images.labels,
                self._n_classes,
                self._penalty,
                folds,
                pool,
                blocks=self._blocks,
                weighting=self._weighting,
                tolerance=COARSE,
            )


def out_of_fold(heads: FrozenHeads, folds: IntArray) -> FloatArray:
    """Return probabilities of shape (n_images, n_classes), each by a head of the other folds.

    At the best temperature.

    Args:
        heads: Heads on the features of all images.
        folds: Shape (n_images,), index of the fold of each image.
    """
    divided = [
        (np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)
    ]
    held_out_probs = heads.probs(divided)
    probs = np.empty_like(held_out_probs)
    probs[np.concatenate([held_out for _, held_out in divided])] = held_out_probs
    temperature = best_temperature(probs, heads.images.labels)
    return at_temperature(probs, temperature, multi_label=is_multi_label(heads.images.labels))
