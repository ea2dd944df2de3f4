"""A run that looks good because it is the best of many on the same test images."""

import contextlib

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.errors import ConvscopeError
from convscope.ledger import COMMON_SHARE, Ledger
from convscope.run import Run
from convscope.wording import counted

_FEWEST = 3
"""Runs of which the best is too good to be taken for what one of them reaches."""


@TRAPS.register("best-of-many")
def best_of_many(case: Case) -> Finding | None:
    """The best of many runs on the same test images, whose lead is luck in part.

    Of equally good networks the best on some images is better there than on all others. Runs are
    found in this machine's ledger of looks at test images, and beside this one.
    """
    run, mine = case.trained, len(case.test.labels)
    images = _images_of(run)
    if not images:
        raise Unknown("an older convscope judged it, which did not name the test images")
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
    best_by_val = all(val > theirs for _, theirs in others.values())
    tally = ledger.tally(images)
    looks = "" if tally is None else f" On this machine {tally.so_far}."
    return Finding(
        symptom=f"It is the best of {n_runs} runs that were judged on the same test images.",
        evidence=(
            f"{accuracy:.1%} of {counted(mine, 'test image')}, where the others have "
            f"{tests.min():.1%} to {tests.max():.1%}, {tests.mean():.1%} on average; by validation "
            f"images it is {'the best too' if best_by_val else 'not the best'}.{looks}"
        ),
        remedies=(
            Remedy(
                "choose by validation images, and then report what the test images say of that "
                "one, or the mean over seeds",
                f"{case.again('', {}).command} --no-test",
            ),
        ),
        # Whoever chose by validation images came to this run as well.
        sure="possible" if best_by_val else "likely",
    )


def _images_of(run: Run) -> str:
    """Return the name of the test images that a run was judged on; "" if it does not say."""
    named = [str(opening["images"]) for opening in run.test_openings if "images" in opening]
    return named[-1] if named else ""


def _is_of_same_images(ledger: Ledger, other: Run, images: str) -> bool:
    theirs = _images_of(other)
    return theirs == images or (
        bool(theirs) and ledger.share_in_common(images, theirs) >= COMMON_SHARE
    )
