"""Training that ended too early."""

import math
import statistics

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case

_FALL, _GAIN = 0.03, 0.01
"""Gain in validation loss (as a share) and accuracy, from a quarter of the epochs to the next."""


@TRAPS.register("under-fitting")
def underfitting(case: Case) -> Finding | None:
    """Underfitting: validation was still improving when training ended.

    Reported only for a constant learning rate. A falling rate makes any training look as if it
    improved towards its end and then converged.
    """
    rows, config = case.history, case.config
    # The head on the frozen backbone has a falling rate.
    if case.rolled_back or config.schedule.name != "constant" or len(rows) < 4:
        return None
    quarter = max(1, len(rows) // 4)
    before, last = rows[-2 * quarter : -quarter], rows[-quarter:]
    loss_before = statistics.mean(row["val_loss"] for row in before)
    loss_last = statistics.mean(row["val_loss"] for row in last)
    gained = statistics.mean(row["val_accuracy"] for row in last) - statistics.mean(
        row["val_accuracy"] for row in before
    )
    falls = math.isfinite(loss_last) and loss_last < (1 - _FALL) * loss_before
    if not falls or gained < _GAIN:
        return None
    more = 2 * config.epochs
    longer = f"{case.command('train', '--resume')} --epochs {more}{' --no-test' * case.is_sealed}"
    return Finding(
        symptom="Underfitting: validation was still improving when training ended.",
        evidence=f"Over the last {quarter} of {len(rows)} epochs the validation loss was "
        f"{loss_last:.3f}, {1 - loss_last / loss_before:.0%} lower than over the {quarter} before; "
        f"{case.decisions} on validation images rose by {100 * gained:.1f} points.",
        remedies=(Remedy(f"continue to {more} epochs", longer),),
        sure="likely",
    )
