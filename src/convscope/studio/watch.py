"""A job on a page: how far it is, how long it takes, what it said, and a button that stops it."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

from convscope.run import Run
from convscope.studio import facts
from convscope.studio.jobs import Job, seconds_since
from convscope.studio.looks import button, command, pill, row, say, set_pill
from convscope.studio.nice import ui
from convscope.wording import duration, printable

_LOOK_S = 1.5
"""Seconds between looks at a job."""


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


def job_view(job: Job, *, compact: bool = False) -> None:
    """Draw a job: how far it is, what it said last, and a button that stops it.

    It is kept up to date while the job is at work, element by element: one that is drawn anew
    would lose the focus of the keyboard. `compact` omits the command.
    """
    with row():
        ui.label(printable(job.title)).style("font-weight:600")
        status_pill = pill("")
        since = ui.label("").classes("cs-quiet")

        def stop() -> None:
            job.stop()
            ui.notify("Stopping; what is finished is kept")
            update()

        stop_button = button("Stop", stop)
        stopping = ui.label("stopping").classes("cs-quiet")
    waiting = say("It starts when the jobs before it have ended.", "cs-quiet")
    bar = ui.element("div").classes("cs-bar")
    bar.props('role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-label="Progress"')
    with bar:
        filled = ui.element("div")
    line = ui.label("").classes("cs-log")
    reason = say("", "cs-bad")

    def update() -> None:
        status = job.status
        set_pill(status_pill, status)
        running, active = status == "running", status in ("waiting", "running")
        asked = active and job.stop_file.exists()
        stop_button.set_visibility(active and not asked)
        stopping.set_visibility(asked)
        waiting.set_visibility(status == "waiting")
        share = None
        if running:
            limit = time_limit(job)
            spent = f"for {duration(seconds_since(job.started))}"
            since.set_text(spent + (f" of {limit:g} min" if limit else ""))
            share, said = progress_of(job)
            line.set_text(printable(said))
        since.set_visibility(running)
        line.set_visibility(running)
        bar.set_visibility(share is not None)
        if share is not None:
            bar.props(f'aria-valuenow="{100 * share:.0f}"')
            filled.style(f"width:{100 * share:.1f}%")
        reason.set_visibility(status in ("failed", "killed"))
        if status in ("failed", "killed"):
            gone = "Its process is gone; was the machine restarted?"
            reason.set_text(printable(job.last_line or gone))
        if not active:
            timer.deactivate()

    if not compact:
        command(job.command)
    timer = ui.timer(_LOOK_S, update, active=job.is_active, immediate=False)
    update()


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
