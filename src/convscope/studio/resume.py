"""Trainings that stopped before their end, and the button that goes on with them."""

from pathlib import Path

from convscope.errors import ConvscopeError
from convscope.run import Run
from convscope.studio.looks import job_button
from convscope.studio.nice import ui
from convscope.studio.workplace import Workplace

_STOPPED = ("created", "trained", "interrupted", "killed", "failed")
"""Statuses of a run that still misses epochs or its evaluation."""


def words_to_resume(path: Path) -> tuple[object, ...]:
    """Return the words of the command that resumes the training of a run."""
    return ("train", "--resume", path)


def can_resume(place: Workplace, path: Path) -> bool:
    """Return whether a training stopped before its end, and nobody goes on with it.

    Args:
        place: Workplace, whose jobs may train it.
        path: Folder of the run; of a search that found nothing yet it holds no run.
    """
    run = Run(path)
    if any(job.run == path for job in place.jobs.active()):
        return False
    try:
        # A search that is at its end removes its state.
        stopped = run.search_file.exists() or run.status in _STOPPED
        return stopped and not run.is_locked
    except ConvscopeError:
        return False


def resume_button(place: Workplace, path: Path, text: str, *, strong: bool = False) -> None:
    """Draw the button that resumes a training, and then shows it."""

    def resume() -> None:
        # Another page may have resumed it since this one was drawn.
        if can_resume(place, path):
            title = f"Training of {path.name}, resumed"
            place.jobs.submit(words_to_resume(path), kind="train", title=title, run=path)
        ui.navigate.to("/train")

    job_button(text, resume, strong=strong)
