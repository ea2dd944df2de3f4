"""Probabilities that do not mean what they say."""

from convscope.classifier.classify import at_temperature
from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.evaluation.calibration import expected_calibration_error

_OFF = 0.05


@TRAPS.register("calibration")
def calibration(case: Case) -> Finding | None:
    """Probabilities that are not calibrated: too sure of themselves, or too modest."""
    from convscope.classifier.keras_model import spec_of

    val = case.val
    temperature = spec_of(case.trained, case.judged).temperature
    probs = at_temperature(val.probs, temperature)
    error = expected_calibration_error(probs, val.labels)
    if error < _OFF:
        return None
    sure = float(probs.max(axis=1).mean())
    right = float(val.right.mean())
    told = "" if temperature == 1 else f" at the temperature {temperature:.2f} that fits best"
    return Finding(
        symptom="Its probabilities are not calibrated: it is "
        + ("too sure." if sure > right else "too modest."),
        evidence=f"On validation images it says {sure:.0%} on average and is right in "
        f"{right:.0%}; expected calibration error {error:.3f}{told}.",
        remedies=(Remedy("fit the temperature on validation images", case.command("evaluate")),),
        sure="certain",
    )
