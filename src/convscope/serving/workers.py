"""Several processes that answer at one socket."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from convscope.errors import ConfigError, FailureError
from convscope.serving.log import LOG, facts

_BEGINNING_S = 10.0
"""Age below which a worker that ended is not replaced: its models cannot be loaded."""


def run_workers(n_workers: int, work: Callable[[], None]) -> None:
    """Run a function in several processes, replace those that crash, pass signals on.

    Args:
        n_workers: Number of processes.
        work: Function that serves until SIGTERM.

    Raises:
        ConfigError: If the system has no `fork`.
        FailureError: If a worker ends by itself at the beginning.
    """
    if not hasattr(os, "fork"):
        raise ConfigError("this system cannot share a socket among processes; leave out --workers")
    workers: dict[int, float] = {}
    ending = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        ending = ending or number != signal.SIGHUP
        sent = number if number == signal.SIGHUP else signal.SIGTERM
        for pid in list(workers):
            os.kill(pid, sent)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        for _ in range(n_workers):
            workers[_fork(work)] = time.monotonic()
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
            if code > 0 and age < _BEGINNING_S:
                forward(signal.SIGTERM, None)
                while workers:
                    workers.pop(os.wait()[0], None)
                raise FailureError("a worker cannot start; its line above says why")
            workers[_fork(work)] = time.monotonic()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fork(work: Callable[[], None]) -> int:
    """Return the process id of a child that does the work."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # Ctrl-C reaches the parent only, which passes it on.
        os.setpgid(0, 0)
        # Not before it can load its models again, which it may be doing for the first time.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        work()
        code = 0
    except BaseException as error:
        LOG.error("worker failed", extra=facts(error=str(error)))
    finally:
        os._exit(code)
