"""Learning rates that are too high or too low."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convscope.diagnosis import TRAPS, Finding, Unknown
from convscope.diagnosis.case import Case
from convscope.diagnosis.guessing import (
    SURE,
    Guessing,
    beyond_guessing,
    guessing,
    ranked_beyond_guessing,
)
from convscope.errors import DivergedError, TrainingError

if TYPE_CHECKING:
    from convscope.training.range_test import RangeTest

_LEARNT = 0.1
"""Share of the way from guessing to all right from which training accuracy shows that something was
learnt; the loss of so weak a network hardly differs from that of guessing."""
_TREND = 0.05
"""Probability that losses without a trend fall so steadily."""
_SHORTEST_TREND = 4
"""Least number of epochs whose losses, each lower than the last, show a trend."""
_MOST_AT_ONCE = 0.5
"""Share of a steady fall that one epoch makes at most."""


@TRAPS.register("learning-rate")
def learning_rate(case: Case) -> Finding | None:
    """A learning rate that is too high or too low.

    Too high, and the loss is not finite, leaps above that of guessing, or rises again; too low, and
    it falls slowly. A loss that stays at that of guessing may be either;
    `convscope doctor --range-test` tries rates and says which.
    """
    if case.trains_at_once:
        raise Unknown("a head of logistic regression has no learning rate")
    if case.try_rates is not None:
        return _tried(case, case.try_rates())
    rate = case.config.optimizer.learning_rate
    failure = case.trained.state.get("failure", {})
    lower = case.other_rate(0.1)
    if _diverged(failure):
        return Finding(
            symptom="The learning rate is too high: training diverged.",
            evidence=f"{_sentence(failure['reason'])} Learning rate {rate:g}.",
            remedies=(lower,),
            sure="certain",
        )
    if case.rolled_back:
        raise Unknown("fine-tuning was undone, so its learning rate is not behind what was kept")
    rows, guess = case.whole_epochs, guessing(case)
    losses = [row["loss"] for row in rows]
    if _is_nothing_learnt(case, rows, guess):
        verdict = _verdict(losses, guess)
        remedies = {"too high": (lower,), "too low": (case.other_rate(10),)}
        return Finding(
            symptom=f"Nothing is learnt: the learning rate is probably {verdict}."
            if verdict in remedies
            else f"Nothing is learnt: the learning rate is {verdict}.",
            evidence=f"Training loss {losses[0]:.3f} after the first epoch and {losses[-1]:.3f} "
            f"after the last; guessing among {len(case.class_names)} classes gives "
            f"{guess.loss:.3f}. {case.decisions.capitalize()} {rows[-1]['accuracy']:.1%} on "
            f"training images, {guess.accuracy:.1%} by guessing. Learning rate {rate:g}.",
            remedies=remedies.get(verdict, case.other_rates()),
            sure="likely",
        )
    least = min(losses)
    if losses[-1] > 1.2 * least and losses[-1] - least > guess.little:
        return Finding(
            symptom="The training loss rises again: the learning rate is probably too high.",
            evidence=f"It was {least:.3f} after epoch {int(rows[losses.index(least)]['epoch'])} "
            f"and is {losses[-1]:.3f} after epoch {int(rows[-1]['epoch'])}. "
            f"Learning rate {rate:g}.",
            remedies=(lower,),
            sure="likely",
        )
    return None


def _diverged(failure: Mapping[str, str]) -> bool:
    kind = failure.get("kind")
    # Before there was a kind for it, only the text told it from a lost process.
    of_old = kind == TrainingError.__name__ and "training diverged" in failure["reason"]
    return kind == DivergedError.__name__ or of_old


def _is_nothing_learnt(case: Case, rows: Sequence[Mapping[str, Any]], guess: Guessing) -> bool:
    if min(row["loss"] for row in rows) <= guess.loss - guess.little:
        return False
    # Most classes are absent from most images, so guessing is nearly always right about them.
    accuracy = max(row["accuracy"] for row in rows)
    if not case.config.multi_label and accuracy >= guess.accuracy + _LEARNT * (1 - guess.accuracy):
        return False
    # Dropout and the mean over an epoch hide what a short training has learnt; validation does not.
    beyond, error = 0.0, 0.0
    with contextlib.suppress(Unknown):  # it may not have been evaluated yet
        val = case.val
        if case.config.multi_label:
            beyond, error = ranked_beyond_guessing(val)
        else:
            answers = val.probs.argmax(axis=1)
            beyond, error = beyond_guessing(val.labels, answers, val.probs.shape[1])
        error = case.over_groups(error)
    return not beyond > max(_LEARNT, SURE * error)  # nan shows nothing


def _verdict(losses: Sequence[float], guess: Guessing) -> str:
    """Return which way a rate is wrong with which nothing is learnt."""
    if any(after - before > guess.little for before, after in itertools.pairwise(losses)):
        return "too high"
    # Where guessing has a loss far below that of a new network, a slow fall passes through it.
    if _falls_slowly(losses):
        return "too low"
    # A loss that began high, as of a new head on large features, and falls is on its way.
    on_its_way = losses[0] > losses[-1] > guess.loss + guess.little
    began_worse = max(losses) > max(guess.loss, guess.even_loss) + guess.little
    return "too high" if began_worse and not on_its_way else "too low or too high"


def _falls_slowly(losses: Sequence[float]) -> bool:
    """Return whether losses fall steadily.

    Too high a rate may end in a fall too, but in one step: a first epoch that began with a leap and
    left no unit alive.
    """
    from scipy.stats import kendalltau

    if len(losses) < _SHORTEST_TREND:
        return False
    steps = [before - after for before, after in itertools.pairwise(losses)]
    steady = max(steps) <= _MOST_AT_ONCE * (losses[0] - losses[-1])
    # nan, so not below it, for losses that are all the same
    trend = kendalltau(range(len(losses)), losses, alternative="less").pvalue < _TREND
    return bool(steady and trend)


def _tried(case: Case, test: "RangeTest") -> Finding | None:
    if test.verdict == "fits":
        return None
    better = float(f"{min(test.steepest, test.highest):.2g}")
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


def _sentence(text: str) -> str:
    """Return the first part of an error line, as a sentence."""
    first = text.partition(";")[0].strip()
    return f"{first[:1].upper()}{first[1:]}."
