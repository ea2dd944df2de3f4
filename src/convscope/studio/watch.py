"""A job on a page: how far it is, how long it takes, what it said, and a button that stops it."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

from convscope.run import Run
from convscope.studio import facts
from convscope.studio.jobs import Job, seconds_since
from convscope.studio.looks import button, command, pill, row, say
from convscope.studio.nice import ui
from convscope.wording import duration, printable


def progress_of(job: Job) -> tuple[float | None, str]:
    """Return how far a job is, a fraction or None, and a line about it.

    In a search that is the share of its time, in a training that of its epochs, else that of the
    task at hand.
    """
    found = job.progress
    total, done, seconds = (found.get(key) for key in ("total", "done", "seconds"))
    label, note = str(found.get("label", "")), str(found.get("note", ""))
    if not isinstance(done, int) or not isinstance(total, int) or total <= 0:
        return None, label or job.last_line
    share = min(1.0, done / total)
    line = f"{label}: {done:,} of {total:,} {found.get('unit', '')}"
    left = None
    if isinstance(seconds, int | float) and done:
        left = seconds * (1 - share) / share
    limit, epochs = time_limit(job), re.fullmatch(r"epoch (\d+)/(\d+)", label)
    if limit is not None:
        share = min(1.0, seconds_since(job.started) / (60 * limit))
        left = None
    elif epochs is not None:
        epoch, n_epochs = map(int, epochs.groups())
        per_epoch = [] if job.run is None else facts.seconds_of_epochs(Run(job.run))[-5:]
        if per_epoch:
            left = sum(per_epoch) / len(per_epoch) * (n_epochs - epoch + 1 - share)
        elif left is not None:
            left += (n_epochs - epoch) * left / max(1 - share, 1e-3)
        share = (epoch - 1 + share) / n_epochs
    if left and share < 1:
        line += f", {'at most ' if epochs else ''}{duration(left)} left"
    return share, f"{line}  {note}".strip()


def time_limit(job: Job) -> float | None:
    """Return the minutes that a search may take; None for any other job."""
    if job.words[:1] != ("train",) or "--minutes" not in job.words[:-1]:
        return None
    with contextlib.suppress(ValueError):
        return float(job.words[job.words.index("--minutes") + 1]) or None
    return None


def job_view(job: Job, *, compact: bool = False) -> Any:
    """Draw a job: how far it is, what it said last, and a button that stops it.

    It redraws itself while the job is at work; `compact` omits the command.

    Returns:
        The refreshable part.
    """

    @ui.refreshable
    def drawn() -> None:
        status = job.status
        with row():
            ui.label(printable(job.title)).style("font-weight:600")
            pill(status)
            if status == "running":
                since, limit = duration(seconds_since(job.started)), time_limit(job)
                about = f"for {since}" + (f" of {limit:g} min" if limit else "")
                ui.label(about).classes("cs-quiet")
            if status in ("waiting", "running"):

                def stop() -> None:
                    job.stop()
                    ui.notify("Stopping; what is finished is kept")
                    drawn.refresh()

                if job.stop_file.exists():
                    ui.label("stopping").classes("cs-quiet")
                else:
                    button("Stop", stop)
        if status == "waiting":
            say("It starts when the jobs before it have ended.", "cs-quiet")
        if status == "running":
            share, line = progress_of(job)
            if share is not None:
                with (
                    ui.element("div")
                    .classes("cs-bar")
                    .props(
                        f'role="progressbar" aria-valuenow="{100 * share:.0f}" aria-valuemin="0" '
                        'aria-valuemax="100" aria-label="Progress"'
                    )
                ):
                    ui.element("div").style(f"width:{100 * share:.1f}%")
            ui.label(printable(line)).classes("cs-log")
        if status in ("failed", "killed"):
            reason = job.last_line or "Its process is gone; was the machine restarted?"
            say(reason, "cs-bad")

    drawn()
    if not compact:
        command(job.command)

    def look() -> None:
        drawn.refresh()
        if not job.is_active:
            timer.deactivate()

    timer = ui.timer(1.5, look, active=job.is_active)
    return drawn


def age(job: Job, changed: float, changes: str) -> None:
    """Draw when a job was done, and whether what it looked at has changed since.

    Args:
        job: Ended job.
        changed: Time of the last change, in seconds since 1970.
        changes: What to say if it is later: "The images have changed since".
    """
    say(f"Done {job.ended[:16].replace('T', ' ')} UTC", "cs-quiet")
    if job.is_older(changed):
        say(f"{changes}: what follows may not hold any more.", "cs-warn")


def when_ended(job: Job, then: Callable[[], Any]) -> None:
    """Call a function once, when a job has ended; at once if it has."""
    if not job.is_active:
        then()
        return

    def look() -> None:
        if not job.is_active:
            timer.deactivate()
            then()

    timer = ui.timer(1.0, look)
