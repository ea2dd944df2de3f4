"""A training that ended too early."""

import math
import statistics

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case

_FALL, _GAIN = 0.03, 0.01
"""Of validation loss (a share of it) and accuracy, from a quarter of the epochs to the next."""


@TRAPS.register("under-fitting")
def underfitting(case: Case) -> Finding | None:
    """Under-fitting: it was still getting better when it ended.

    Told only of a constant learning rate. A rate that falls makes every training look as if it got
    better at its end, and then settled.
    """
    rows, config = case.history, case.config
    if config.schedule.name != "constant" or len(rows) < 4:
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
    longer = f"{case.command('train', '--resume')} --epochs {more}"
    return Finding(
        symptom="It under-fits: it was still getting better when it ended.",
        evidence=f"Over the last {quarter} of {len(rows)} epochs the validation loss was "
        f"{loss_last:.3f}, {1 - loss_last / loss_before:.0%} less than over the {quarter} before; "
        f"accuracy on validation images rose by {100 * gained:.1f} points.",
        remedies=(Remedy(f"go on to {more} epochs", longer),),
        sure="likely",
    )
