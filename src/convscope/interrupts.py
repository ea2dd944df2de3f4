"""Ctrl-C that is not lost."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_pending = False


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
