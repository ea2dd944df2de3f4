"""Opening the test images: the one way in, which writes down each look."""

from typing import Any

from convscope.errors import StorageError
from convscope.ledger import Ledger
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import Dataset, Split


def open_test(
    dataset: Dataset,
    run: Run,
    *,
    by: str,
    weights: str,
    progress: Progress,
    look: str | None = None,
    shown: bool = False,
) -> Split:
    """Return the test images after the look at them is logged, in the run and on the machine.

    How many looks there have been is said, once for several calls of one look. Where the machine's
    ledger cannot be written, that is said instead.

    Args:
        dataset: Divided.
        run: The run that is judged on them, or whose answers are shown.
        by: The command that looks.
        weights: Whose answers are judged: "best" or "last".
        progress: Told how often these images have been judged.
        look: What makes several calls one look, such as the folds of one training or the runs of
            one comparison; None is a look of its own.
        shown: A person is shown some of the images; no model is judged on them.
    """
    test = dataset.test
    assert test is not None

    def log(n_images: int) -> None:
        more: dict[str, Any] = {"shown": True} if shown else {}
        if look is not None:
            more["look"] = look
        try:
            ledger = Ledger()
            name, first = ledger.add(
                test.source_hashes, by=by, run=run.path, look=look, shown=shown
            )
            tally = ledger.tally(name)
            assert tally is not None
            more |= {"images": name, "times": tally.times}
            if shown:
                progress.say(
                    f"That test images are looked at is logged; {tally.so_far} on this machine."
                )
            elif first:
                progress.say(tally.sentence)
        except StorageError as error:
            progress.say(f"This look at the test images cannot be counted on this machine: {error}")
        run.record_test_opening(by=by, weights=weights, n_images=n_images, **more)

    return test.open(log)


def log_seen_again(run: Run, *, by: str, look: str, progress: Progress) -> None:
    """Log that what a run said of its test images earlier is compared now.

    Nothing is logged if it was in this very look that they were opened.

    Args:
        run: It has been judged on its test images.
        by: The command that looks.
        look: Of which this is a part.
        progress: Told if the machine's ledger cannot be written.
    """
    if any(opening.get("look") == look for opening in run.state.get("test_openings", [])):
        return
    *_, last = run.test_openings or [{}]
    more = {"shown": True, "look": look}
    try:
        # Runs of older versions do not name their images.
        if "images" in last:
            more["images"] = last["images"]
            Ledger().add_again(str(last["images"]), by=by, run=run.path, look=look, shown=True)
    except StorageError as error:
        progress.say(f"This look at the test images cannot be counted on this machine: {error}")
    weights, n_images = str(last.get("weights", "")), int(last.get("n_images", 0))
    run.record_test_opening(by=by, weights=weights, n_images=n_images, **more)
