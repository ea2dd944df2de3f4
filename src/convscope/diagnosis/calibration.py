"""Probabilities that do not match the accuracy."""

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.evaluation.calibration import (
    error_by_chance,
    expected_calibration_error,
    with_temperature,
)

_OFF = 0.05


@TRAPS.register("calibration")
def calibration(case: Case) -> Finding | None:
    """Probabilities that are not calibrated: over-confident or under-confident."""
    from convscope.classifier.keras_model import spec_of

    temperature = spec_of(case.trained, case.judged).temperature
    val = with_temperature(case.val, temperature)
    error = expected_calibration_error(val.probs, val.labels)
    # Of few images even a calibrated model has some error.
    if error < _OFF or error <= error_by_chance(val.probs, multi_label=val.multi_label):
        return None
    if val.multi_label:
        # Of each decision the probability that an image has a class, and whether it has it.
        sure, right = float(val.probs.mean()), float(val.labels.mean())
    else:
        sure, right = float(val.probs.max(axis=1).mean()), float(val.right.mean())
    fitted = "" if temperature == 1 else f" at the best-fitting temperature {temperature:.2f}"
    return Finding(
        symptom="The probabilities are not calibrated: "
        + ("over-confident." if sure > right else "under-confident."),
        evidence=f"On validation images mean {'probability' if val.multi_label else 'confidence'} "
        f"is {sure:.0%} and {'share of classes' if val.multi_label else 'accuracy'} "
        f"{right:.0%}; expected calibration error {error:.3f}{fitted}.",
        remedies=(
            Remedy("fit the temperature on validation images", case.command("evaluate"))
            if temperature == 1
            else Remedy(
                "see which confidences are off: one temperature cannot mend them",
                case.command("report"),
            ),
        ),
        sure="certain",
    )
