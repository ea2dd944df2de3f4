"""Several processes that answer at one socket."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from convscope.errors import ConfigError, FailureError
from convscope.serving.log import LOG, facts

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]

_BEGINNING_S = 10.0
"""Age below which a worker that failed is not replaced: its models cannot be loaded."""

_MOST_KILLED = 5
"""Number of workers in a row that are killed below that age, as by a lack of memory, and replaced
nevertheless."""


def run_workers(n_workers: int, work: Callable[[], None]) -> None:
    """Run a function in several processes, replace those that crash, pass signals on.

    Args:
        n_workers: Number of processes.
        work: Function that serves until SIGTERM.

    Raises:
        ConfigError: If the system has no `fork`.
        FailureError: If a worker ends by itself at the beginning, or one after the other is killed
            there.
    """
    if not hasattr(os, "fork"):
        raise ConfigError("this system cannot share a socket among processes; omit --workers")
    workers: dict[int, float] = {}
    ending = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        ending = ending or number != signal.SIGHUP
        sent = number if number == signal.SIGHUP else signal.SIGTERM
        for pid in list(workers):
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, sent)

    def begin() -> None:
        # A signal between the two would miss the new worker.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            if not ending:
                workers[_fork(work)] = time.monotonic()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    before = {number: signal.signal(number, forward) for number in _SIGNALS}
    n_killed = 0
    try:
        for _ in range(n_workers):
            begin()
        while workers:
            try:
                pid, status = os.wait()
            except InterruptedError:
                continue
            age = time.monotonic() - workers.pop(pid, 0.0)
            if ending:
                continue
            code = os.waitstatus_to_exitcode(status)
            LOG.error("worker ended", extra=facts(pid=pid, code=code))
            n_killed = n_killed + 1 if code < 0 and age < _BEGINNING_S else 0
            if (code > 0 and age < _BEGINNING_S) or n_killed > _MOST_KILLED:
                forward(signal.SIGTERM, None)
                while workers:
                    workers.pop(os.wait()[0], None)
                raise FailureError(
                    "a worker cannot start; its line above says why"
                    if code > 0
                    else f"workers are killed by signal {-code} while they start, as by a lack of "
                    "memory; try fewer --workers"
                )
            begin()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fork(work: Callable[[], None]) -> int:
    """Return the process id of a child that does the work; called with `_SIGNALS` blocked."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # Ctrl-C reaches the parent only, which passes it on.
        os.setpgid(0, 0)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # SIGHUP not before it can load its models again, which it may be doing for the first time.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        work()
        code = 0
    except BaseException as error:
        LOG.error("worker failed", extra=facts(error=str(error)))
    finally:
        os._exit(code)
