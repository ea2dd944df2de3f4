"""A run that looks good because it is the best of many on the same test images."""

import contextlib

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Unknown
from convscope.diagnosis.case import Case
from convscope.errors import ConvscopeError
from convscope.ledger import COMMON_SHARE, Ledger, images_in
from convscope.run import Run
from convscope.wording import counted

_FEWEST = 3
"""Number of runs from which the best one overstates what a single run reaches."""


@TRAPS.register("best-of-many")
def best_of_many(case: Case) -> Finding | None:
    """The best of many runs on the same test images, whose lead is partly luck.

    Among equally good networks, the best on some images is better there than on all others. Runs
    are found in this machine's ledger of test-set uses, and next to this one.
    """
    case.require_one_class()
    run, mine = case.trained, len(case.test.labels)
    images = images_in(run.test_openings)
    if not images:
        raise Unknown("an older convscope evaluated it, which did not record the test images")
    ledger = Ledger()
    paths = [*ledger.runs_judged_on(images), *run.path.resolve().parent.glob("*/")]
    others: dict[str, tuple[float, float]] = {}
    for path in dict.fromkeys(path.resolve() for path in paths):
        with contextlib.suppress(ConvscopeError, KeyError, TypeError):
            other = Run(path)
            if path != run.path.resolve() and _is_of_same_images(ledger, other, images):
                metrics = other.metrics
                others[str(path)] = (metrics["test"]["accuracy"], metrics["val"]["accuracy"])
    n_runs = len(others) + 1
    accuracy, val = (run.metrics[part]["accuracy"] for part in ("test", "val"))
    tests = np.array([test for test, _ in others.values()])
    if n_runs < _FEWEST or accuracy <= tests.max():
        return None
    best_by_val = all(val > other_val for _, other_val in others.values())
    tally = ledger.tally(images)
    looks = "" if tally is None else f" On this machine {tally.so_far}."
    return Finding(
        symptom=f"This is the best of {n_runs} runs evaluated on the same test images.",
        evidence=(
            f"{accuracy:.1%} of {counted(mine, 'test image')}, where the others reach "
            f"{tests.min():.1%} to {tests.max():.1%}, {tests.mean():.1%} on average; by validation "
            f"images it is {'also the best' if best_by_val else 'not the best'}.{looks} Choose by "
            "validation images, then report the test accuracy of that run, or the mean over seeds."
        ),
        remedies=(),  # no command undoes a look
        # A choice by validation images would have led to this run as well.
        sure="possible" if best_by_val else "likely",
    )


def _is_of_same_images(ledger: Ledger, other: Run, images: str) -> bool:
    theirs = images_in(other.test_openings)
    return theirs == images or ledger.share_in_common(images, theirs) >= COMMON_SHARE
