"""Learning rates that are too high or too low."""

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Unknown
from convscope.diagnosis.case import Case

if TYPE_CHECKING:
    from convscope.training.range_test import RangeTest

_LEARNT = 0.95
"""Share of the loss of guessing; above it, nothing was learnt."""
_RISE = 0.05
"""Share of the loss of guessing; smaller changes are fluctuations of a loss near 0."""


@TRAPS.register("learning-rate")
def learning_rate(case: Case) -> Finding | None:
    """A learning rate that is too high or too low.

    Too high, and the loss is not finite or stays at that of guessing; too low, and it hardly moves.
    `convscope doctor --range-test` tries rates and says which.
    """
    if case.try_rates is not None:
        return _tried(case, case.try_rates())
    rate = case.config.optimizer.learning_rate
    failure = case.trained.state.get("failure", {})
    lower = case.again("lower the learning rate", {"optimizer.learning_rate": _rounded(rate / 10)})
    if failure.get("kind") == "TrainingError":
        return Finding(
            symptom="The learning rate is too high: training diverged.",
            evidence=f"{_sentence(failure['reason'])} Learning rate {rate:g}.",
            remedies=(lower,),
            sure="certain",
        )
    rows = case.history
    guessing = math.log(len(case.class_names))
    if case.config.multi_label:
        rates = np.clip(case.val.labels.mean(axis=0), 1e-6, 1 - 1e-6)
        guessing = float(-(rates * np.log(rates) + (1 - rates) * np.log(1 - rates)).mean())
    if case.config.label_smoothing:
        raise Unknown("with softened labels the loss does not distinguish guessing from learning")
    losses = [row["loss"] for row in rows]
    if min(losses) > _LEARNT * guessing:
        falling = all(b < a for a, b in itertools.pairwise(losses)) and len(rows) > 2
        higher = {"optimizer.learning_rate": _rounded(10 * rate)}
        evidence = (
            f"Training loss {losses[0]:.3f} after the first epoch and {losses[-1]:.3f} after the "
            f"last; guessing among {len(case.class_names)} classes gives {guessing:.3f}. "
            f"Learning rate {rate:g}."
        )
        if falling:
            return Finding(
                symptom="The learning rate is too low: the loss hardly moves.",
                evidence=evidence,
                remedies=(case.again("raise the learning rate", higher),),
                sure="likely",
            )
        return Finding(
            symptom="Nothing is learnt: the learning rate is probably too high.",
            evidence=evidence,
            remedies=(lower,),
            sure="likely",
        )
    if losses[-1] > 1.2 * min(losses) and losses[-1] - min(losses) > _RISE * guessing:
        return Finding(
            symptom="The training loss rises again: the learning rate is probably too high.",
            evidence=f"It was {min(losses):.3f} after epoch "
            f"{int(rows[losses.index(min(losses))]['epoch'])} and is {losses[-1]:.3f} at the end. "
            f"Learning rate {rate:g}.",
            remedies=(lower,),
            sure="likely",
        )
    return None


def _tried(case: Case, test: "RangeTest") -> Finding | None:
    if test.verdict == "fits":
        return None
    better = _rounded(min(test.steepest, test.highest))
    remedy = case.again(
        "use the rate at which the loss falls fastest", {"optimizer.learning_rate": better}
    )
    return Finding(
        symptom=f"The learning rate is {test.verdict}.",
        evidence=f"It is {test.asked:.2g}. In {len(test.rates)} steps with rising rates the loss "
        f"fell from {test.losses[0]:.2f} to {min(test.losses):.2f}, fastest at "
        f"{test.steepest:.2g}; rates from {test.lowest:.2g} to {test.highest:.2g} reduce it.",
        remedies=(remedy,),
        sure="likely",
    )


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


def _sentence(text: str) -> str:
    """Return the first part of an error line, as a sentence."""
    first = text.partition(";")[0].strip()
    return f"{first[:1].upper()}{first[1:]}."
