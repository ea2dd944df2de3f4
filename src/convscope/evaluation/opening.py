"""Opening the test images: the single entry point, which logs each look."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convscope.errors import ConfigError, StorageError
from convscope.ledger import Ledger
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import Dataset, Split


def require_judged(split: str) -> None:
    """Refuse another part than those on which a run is judged.

    Raises:
        ConfigError: If it is neither "val" nor "test".
    """
    if split not in ("val", "test"):
        raise ConfigError(f"split must be val or test, not {split!r}")


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
    """Return the test images after logging the look at them, in the run and on the machine.

    The number of looks so far is reported, once for several calls of one look. If the machine's
    ledger cannot be written, that is reported instead.

    Args:
        dataset: Dataset with a sealed test part.
        run: Run that is evaluated on them, or whose answers are shown.
        by: Name of the command.
        weights: Weights that are evaluated: one of `run.WEIGHTS`.
        progress: Called with the number of evaluations of these images so far.
        look: Name shared by calls that count as one look, such as the folds of one training or the
            runs of one comparison; None for a separate look.
        shown: Whether a person is shown some of the images and no model is evaluated on them.
    """
    test = dataset.test
    assert test is not None

    def log(n_images: int) -> None:
        more: dict[str, Any] = {"shown": True} if shown else {}
        if look is not None:
            more["look"] = look
        # A run that cannot be written to fails here, before a look is counted that nobody has.
        run.record()
        try:
            ledger = Ledger()
            name, first = ledger.add(
                test.source_hashes, by=by, run=run.path, look=look, shown=shown
            )
            tally = ledger.tally(name)
            assert tally is not None
            more |= {"images": name, "times": tally.times}
            if shown:
                progress.say(f"Each use of test images is logged; {tally.so_far} on this machine.")
            elif first:
                progress.say(tally.sentence)
        except StorageError as error:
            progress.say(f"This use of the test images cannot be counted on this machine: {error}")
        run.record_test_opening(by=by, weights=weights, n_images=n_images, **more)

    return test.open(log)


def log_others(hashes: Sequence[str], model: Path, *, by: str, progress: Progress) -> None:
    """Log on the machine that a model is evaluated on labelled images that are not its run's.

    Whoever chooses the best of many models by them has looked at them as often.

    Args:
        hashes: Hashes of the sources of the images, as in `Split`.
        model: Folder of the run, or exported file.
        by: Name of the command.
        progress: Called with the number of evaluations of these images so far.
    """
    try:
        ledger = Ledger()
        name, _ = ledger.add(hashes, by=by, run=model, look=None, shown=False)
        tally = ledger.tally(name)
        assert tally is not None
        progress.say(tally.sentence_about("images"))
    except StorageError as error:
        progress.say(f"This use of the images cannot be counted on this machine: {error}")


def log_seen_again(run: Run, *, by: str, look: str, progress: Progress) -> None:
    """Log that earlier test results of a run are used in a comparison.

    Nothing is logged if this very look opened the test images.

    Args:
        run: Run that has been evaluated on its test images.
        by: Name of the command.
        look: Name of the look that this is part of.
        progress: Called if the machine's ledger cannot be written.
    """
    if any(opening.get("look") == look for opening in run.state.get("test_openings", [])):
        return
    openings = run.test_openings
    # Runs of older versions do not name their images, nor does an evaluation of other images among
    # which some test images are.
    *_, last = [each for each in openings if "images" in each] or openings or [{}]
    more = {"shown": True, "look": look}
    try:
        if "images" in last:
            more["images"] = last["images"]
            Ledger().add_again(str(last["images"]), by=by, run=run.path, look=look, shown=True)
    except StorageError as error:
        progress.say(f"This use of the test images cannot be counted on this machine: {error}")
    weights, n_images = str(last.get("weights", "")), int(last.get("n_images", 0))
    run.record_test_opening(by=by, weights=weights, n_images=n_images, **more)
