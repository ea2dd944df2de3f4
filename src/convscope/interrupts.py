"""Ctrl-C that is not lost, and SIGTERM that is no worse."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_pending = False
_terminated = False


@contextmanager
def remembered() -> Iterator[None]:
    """Remember Ctrl-C for `check` and `is_interrupt`, besides raising KeyboardInterrupt at once.

    Python ignores exceptions in a finaliser or a callback of C code, with a traceback on the
    screen, which is suppressed here; and a library that is interrupted may fail in its own cleanup.
    In other threads than the main one, and if another handler of Ctrl-C is set, nothing is done.
    """
    global _pending
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def remember(number: int, frame: FrameType | None) -> None:
        global _pending
        _pending = True
        signal.default_int_handler(number, frame)

    previous = sys.unraisablehook

    def report_others(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            previous(ignored)

    _pending = False
    signal.signal(signal.SIGINT, remember)
    sys.unraisablehook = report_others
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = previous
        _pending = False


def check() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C that was swallowed."""
    if _pending:
        raise KeyboardInterrupt


def is_interrupt(error: BaseException) -> bool:
    """Return whether an error is Ctrl-C, or was raised in the cleanup after it."""
    return _pending or isinstance(error, KeyboardInterrupt)


def take_sigterm_as_interrupt() -> None:
    """Let SIGTERM, by which schedulers and containers end a job, do what Ctrl-C does.

    So a run is marked as interrupted, and a line says how to resume it. Only the main thread can
    decide this; in others nothing is done.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def leave_sigterm_alone() -> None:
    """Let SIGTERM end this process at once again, even while it waits in code without Python."""
    if signal.getsignal(signal.SIGTERM) is _interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _terminated
    _terminated = True
    if not callable(signal.getsignal(signal.SIGINT)):
        # A command in the background of a shell ignores Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def exit_code() -> int:
    """Return the exit code after an interrupt, as shells count signals: 130, or 143 of SIGTERM."""
    return 128 + (signal.SIGTERM if _terminated else signal.SIGINT)
