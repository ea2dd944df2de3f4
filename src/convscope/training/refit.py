"""Training once more, on training and validation images together."""

import shutil
from collections.abc import Callable
from typing import Any

from convscope.progress import Progress
from convscope.run import Run
from convscope.storage import storage_errors

_CHOICES = ("head", "penalty", "last_map", "rolled_back")
"""Entries of `run.json` that the first training decided by images which the second one learns."""


def refit(run: Run, learn: Callable[[Run], Any], progress: Progress) -> None:
    """Train a run's network once more, into weights of their own; resumes after a kill.

    Does nothing if that was done after the training that the run has now.

    Args:
        run: Trained run.
        learn: Function that trains in the folder of another run, on all but test images.
        progress: Called with what is done.

    Raises:
        DivergedError: If the loss is not finite.
        StorageError: If a file cannot be written.
    """
    trained = run.weights_sha256("last")
    if run.weights("refit").exists() and run.state.get("refit_after") == trained:
        return
    progress.say("Training once more, on training and validation images together")
    again = Run(run.refit_dir)
    if not again.state_file.exists() or again.state.get("refit_after") != trained:
        with storage_errors(again.path):
            shutil.rmtree(again.path, ignore_errors=True)
        Run.create(again.path, "")
        choices = {key: run.state[key] for key in _CHOICES if key in run.state}
        again.record(refit_after=trained, **choices)
    learn(again)
    with storage_errors(run.weights("refit")):
        if again.out_of_fold_file.exists():
            again.out_of_fold_file.replace(run.out_of_fold_file)
        again.weights("last").replace(run.weights("refit"))
    run.record(refit_after=trained)
    with storage_errors(again.path):
        shutil.rmtree(again.path, ignore_errors=True)
