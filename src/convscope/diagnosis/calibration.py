"""Probabilities that do not match the accuracy."""

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.evaluation.calibration import (
    error_by_chance,
    expected_calibration_error,
    with_temperature,
)
from convscope.types import evenly_spread

_OFF = 0.05


@TRAPS.register("calibration")
def calibration(case: Case) -> Finding | None:
    """Probabilities that are not calibrated: over-confident or under-confident."""
    from convscope.classifier.keras_model import spec_of

    temperature = spec_of(case.trained, case.judged).temperature
    val = with_temperature(case.val, temperature)
    error = expected_calibration_error(val.probs, val.labels)
    # Of few images even a calibrated model has some error; of images in groups, a larger one.
    some = evenly_spread(len(val.labels), max(1, round(case.n_val)))
    if error < _OFF or error <= error_by_chance(val.probs[some], multi_label=val.multi_label):
        return None
    if val.multi_label:
        # An image has a class or not: each decision is as sure as the likelier of the two.
        sure = float(np.maximum(val.probs, 1 - val.probs).mean())
        right = float(((val.probs > 0.5) == (val.labels > 0)).mean())
    else:
        sure, right = float(val.probs.max(axis=1).mean()), float(val.right.mean())
    fitted = "" if temperature == 1 else f" at the best-fitting temperature {temperature:.2f}"
    return Finding(
        symptom="The probabilities are not calibrated: "
        + ("over-confident." if sure > right else "under-confident."),
        evidence=f"On validation images mean confidence is {sure:.1%} and "
        f"{'the share of right decisions' if val.multi_label else 'accuracy'} {right:.1%}; "
        f"expected calibration error {error:.3f}{fitted}.",
        remedies=(
            Remedy("fit the temperature on validation images", case.evaluation)
            if temperature == 1
            else Remedy(
                "see which confidences are off: one temperature cannot mend them",
                case.command("report"),
            ),
        ),
        sure="certain",
    )
