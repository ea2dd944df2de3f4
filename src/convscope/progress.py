"""Live progress of long work, reported by the work and drawn by its caller.

The stages call `Progress.task` and `Progress.say`; they never print. The base class is silent,
`ConsoleProgress` draws on a terminal and writes plain lines into a log file.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol, cast

from convscope.errors import ReadOnlyError
from convscope.wording import counted, printable


class Advance(Protocol):
    """Function that advances a task."""

    def __call__(self, n: int, note: str = "") -> None:
        """Count `n` more units as done; `note` is shown beside the bar."""


class Progress:
    """Silent progress: the base class, for tests and scripts."""

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Start a task and yield the function that advances it.

        Args:
            label: Name of the task, for people ("Downloading cifar-10-python.tar.gz").
            total: Number of units; None if unknown.
            unit: "B" for bytes, otherwise a plural noun ("images").
        """
        del label, total, unit
        yield lambda n, note="": None

    def say(self, text: str) -> None:
        """Print a line for the user."""

    def is_news(self, about: str) -> bool:
        """Return whether something is mentioned for the first time, and remember it.

        Args:
            about: Line, or the key of a thing.
        """
        # Not by a constructor: classes of others need not call it.
        known: set[str] = self.__dict__.setdefault("_mentioned", set())
        if about in known:
            return False
        known.add(about)
        return True


class WorkAlone(Progress):
    """Progress that draws work, and says nothing: for what was said before, or is of no interest.

    Args:
        outer: Progress that draws it.
    """

    def __init__(self, outer: Progress) -> None:
        self.task = outer.task  # type: ignore[method-assign]


class _Patient:
    """Standard error, whose closing or filling up is no reason to stop work that takes hours.

    The terminal may be gone, the reader of a pipe may have seen enough, the disk with the log may
    be full: then the rest goes nowhere.
    """

    def write(self, text: str) -> int:
        with dropped_if_broken():
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with dropped_if_broken():
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextlib.contextmanager
def dropped_if_broken() -> Iterator[None]:
    """Let standard error go nowhere from here on, if writing to it fails in the body."""
    try:
        yield
    except OSError:
        # Python would try what is left in its buffer again at its end, and fail then.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


@contextlib.contextmanager
def kept_if_writable(progress: Progress, place: Path) -> Iterator[None]:
    """Let results be shown but not saved, with a line, if their folder is read-only.

    Args:
        progress: Called with the line.
        place: Folder that the body writes to.
    """
    try:
        yield
    except ReadOnlyError:
        progress.say(f"{place} cannot be written to, so these results are shown but not saved.")


class ConsoleProgress(Progress):
    """Progress on standard error: live bars on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        place = cast("IO[str]", _Patient())
        self.console = Console(file=place, highlight=False)
        if self.console.is_jupyter:
            # Each line would be a display of its own. A notebook claims to know colours, and would
            # get bars too, which it cannot draw over.
            self.console = Console(
                file=place, highlight=False, force_jupyter=False, force_terminal=False
            )

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(printable(text), markup=False, emoji=False, soft_wrap=True)

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Draw a bar with rate and time left; leave one line behind when done."""
        start = time.monotonic()
        done, last_note = 0, ""
        if self.console.is_terminal:
            inner = self._bar(label, total, unit)
        else:
            inner = self._lines(label, total, unit)
        with inner as step:

            def count(n: int, note: str = "") -> None:
                nonlocal done, last_note
                done += n
                last_note = note or last_note
                step(n, note)

            yield count
        seconds = time.monotonic() - start
        self.say(_line(label, done, unit, seconds, last_note))

    @contextlib.contextmanager
    def _bar(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bars

        def text(template: str) -> ProgressColumn:
            # Labels and notes hold names of files, in which brackets are not markup.
            return TextColumn(template, markup=False)

        columns: list[ProgressColumn] = [text("{task.description}"), BarColumn(bar_width=24)]
        if unit == "B":
            columns += [DownloadColumn(), TransferSpeedColumn()]
        else:
            columns += [MofNCompleteColumn(), text("{task.fields[rate]}")]
        columns += [TimeRemainingColumn(), text("{task.fields[note]}")]
        with Bars(*columns, console=self.console, transient=True, refresh_per_second=5) as bars:
            bar = bars.add_task(label, total=total, note="", rate="")
            began = time.monotonic()

            def step(n: int, note: str = "") -> None:
                done = bars.tasks[0].completed + n
                seconds = max(time.monotonic() - began, 1e-9)
                bars.update(bar, advance=n, note=note, rate=_speed(done / seconds, unit))

            yield step

    @contextlib.contextmanager
    def _lines(
        self, label: str, total: int | None, unit: str, every_s: float = 30.0
    ) -> Iterator[Advance]:
        began = time.monotonic()
        reported, done = began, 0

        def step(n: int, note: str = "") -> None:
            nonlocal reported, done
            done += n
            now = time.monotonic()
            # The end has its own line.
            if now - reported >= every_s and done != total:
                reported = now
                part = f" ({100 * done / total:.0f} %)" if total else ""
                self.say(_line(label, done, unit, now - began, note) + part)

        yield step


class FileProgress(ConsoleProgress):
    """The same, and the task at hand in a file, for a program that watches the command.

    Args:
        path: File that is replaced twice a second at most, JSON: "label", "done", "total" (or
            null), "unit", "seconds" since the task began, and "note".
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Draw a bar, and keep how far it is."""
        began = written = time.monotonic()
        done, last_note = 0, ""

        def write() -> None:
            facts = {"label": label, "done": done, "total": total, "unit": unit}
            facts |= {"seconds": round(time.monotonic() - began, 2), "note": last_note}
            # Whoever watches goes without, if it cannot be written.
            with contextlib.suppress(OSError):
                beside = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
                beside.write_text(json.dumps(facts), encoding="utf-8")
                beside.replace(self._path)

        with super().task(label, total, unit) as step:
            write()

            def count(n: int, note: str = "") -> None:
                nonlocal done, last_note, written
                done += n
                last_note = note or last_note
                step(n, note)
                if time.monotonic() - written >= 0.5:
                    written = time.monotonic()
                    write()

            yield count


def _line(label: str, done: int, unit: str, seconds: float, note: str) -> str:
    """Return one line that sums up a task.

    Examples:
        >>> _line("Downloading x", 2_000_000, "B", 2.0, "")
        'Downloading x: 2.0 MB in 2.0 s (1.0 MB/s)'
        >>> _line("epoch 1/20", 40_000, "images", 10.0, "loss 1.5")
        'epoch 1/20: 40,000 images in 10.0 s (4,000 images/s)  loss 1.5'
        >>> _line("Choosing the penalty", 1, "penalties", 2.0, "")
        'Choosing the penalty: 1 penalty in 2.0 s (2.0 s each)'
    """
    rate = done / max(seconds, 1e-9)
    if unit == "B":
        amount, speed = f"{done / 1e6:.1f} MB", f"{rate / 1e6:.1f} MB/s"
    else:
        noun = f"{unit[:-3]}y" if unit.endswith("ies") else unit[:-1]
        amount, speed = counted(done, noun, unit), _speed(rate, unit)
    text = f"{label}: {amount} in {seconds:.1f} s ({speed})"
    return f"{text}  {note}" if note else text


def _speed(rate: float, unit: str) -> str:
    """Format a rate: items per second, or seconds per item when below one.

    Examples:
        >>> _speed(4000, "images"), _speed(1 / 6, "runs")
        ('4,000 images/s', '6.0 s each')
    """
    return f"{1 / rate:,.1f} s each" if 0 < rate < 1 else f"{rate:,.0f} {unit}/s"


def console_progress() -> Progress:
    """Return progress for people: on standard error, unless that is closed.

    With $CONVSCOPE_PROGRESS_FILE it is in that file too.
    """
    if sys.stderr is not None and (file := os.environ.get("CONVSCOPE_PROGRESS_FILE")):
        return FileProgress(Path(file))
    return ConsoleProgress() if sys.stderr is not None else Progress()
