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

    Python ignores what is raised in a finaliser or a callback of C code, with a traceback on the
    screen, which is left out here; and a library that is torn out of its work may fail on its own
    cleaning up. In other threads than the main one, and where someone else handles Ctrl-C, nothing
    is done.
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

    tell = sys.unraisablehook

    def tell_of_others(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            tell(ignored)

    _pending = False
    signal.signal(signal.SIGINT, remember)
    sys.unraisablehook = tell_of_others
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = tell
        _pending = False


def check() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C that came to nothing."""
    if _pending:
        raise KeyboardInterrupt


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an error is Ctrl-C, or came up on the way out of it."""
    return _pending or isinstance(error, KeyboardInterrupt)
