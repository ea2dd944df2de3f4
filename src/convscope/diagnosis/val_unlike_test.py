"""Validation images that differ from the test images."""

import numpy as np
import numpy.typing as npt

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.evaluation.grouping import accuracies_unlike, unlike
from convscope.types import Predictions
from convscope.wording import command_line, p_value

_SURE = 1e-3
_POINTS = 0.01


@TRAPS.register("val-unlike-test")
def val_unlike_test(case: Case) -> Finding | None:
    """Validation that differs from test: accuracy or class frequencies differ beyond chance.

    Choices that were made on one then do not hold on the other. After a refit another network
    answers for the test images than for the validation images, so only class frequencies count.
    """
    case.require_one_class()
    val, test = case.val, case.test
    accuracies = [float(part.right.mean()) for part in (val, test)]
    differ = accuracies_unlike(val, test)
    if val.groups is None or test.groups is None:
        mixed = _mixed_by_images(val, test)
    else:
        mixed = _mixed_by_groups(val, test, (val.groups, test.groups))
    apart = abs(accuracies[0] - accuracies[1])
    one_network = case.judged != "refit"
    if mixed > _SURE and not (one_network and differ <= _SURE and apart >= _POINTS):
        return None
    evidence = []
    if one_network:
        evidence.append(
            f"Accuracy {accuracies[0]:.1%} on validation images, {accuracies[1]:.1%} on test "
            f"images ({p_value(differ)})."
        )
    if mixed <= _SURE:
        evidence.append(f"The class frequencies of the two differ ({p_value(mixed)}).")
    return Finding(
        symptom="Validation images differ from test images.",
        evidence=" ".join(evidence),
        remedies=(
            Remedy(
                "check how the parts were divided",
                command_line("data", "show", *case.data_words),
            ),
        ),
        sure="likely",
    )


def _mixed_by_images(val: Predictions, test: Predictions) -> float:
    """Return the p value of equal class frequencies."""
    from scipy.stats import chi2_contingency

    n_classes = val.probs.shape[1]
    counts = np.stack([np.bincount(part.labels, minlength=n_classes) for part in (val, test)])
    counts = counts[:, counts.sum(axis=0) > 0]
    return float(chi2_contingency(counts).pvalue) if counts.shape[1] > 1 else 1.0


def _mixed_by_groups(
    val: Predictions, test: Predictions, groups: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]]
) -> float:
    """Return the same over groups: their images are often of one class."""
    classes = np.union1d(val.labels, test.labels)
    each = [unlike(val.labels == index, test.labels == index, groups) for index in classes]
    # The least of several is small by chance too.
    return min(1.0, len(each) * min(each))
