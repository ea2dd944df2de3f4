"""Process of a job: waits for its turn, runs one command, and keeps how it ended.

It belongs to no terminal and no studio, so that closing either does not end it: run as
`python -m convscope.studio.worker FOLDER [PROGRAM...]`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from convscope.errors import LockTakenError
from convscope.machine import RUN_MODULE
from convscope.studio.jobs import Job

_LOOK_S = 0.3
"""Seconds between looks at a request to stop."""

_PATIENCE_S = 90.0
"""Seconds that a command may take to save its state after a request to stop."""


def work(job: Job, program: list[str]) -> None:
    """Run a job to its end, when all heavy jobs before it have ended.

    Args:
        job: Job in its folder.
        program: Command to which the words of the job are added.
    """
    with job.held():
        while job.is_heavy and any(
            other.is_heavy and other.status in ("waiting", "running") for other in job.before()
        ):
            if job.stop_file.exists():
                job.write_end(130)
                return
            time.sleep(_LOOK_S)
        job.write_start()
        with job.output_file.open("wb") as output, job.log_file.open("wb") as log:
            process = subprocess.Popen(
                [*program, *job.words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "CONVSCOPE_PROGRESS_FILE": str(job.progress_file.absolute()),
                    "PYTHONUNBUFFERED": "1",
                    "COLUMNS": "120",
                },
            )
            job.write_end(_follow(job, process))


def _follow(job: Job, process: "subprocess.Popen[bytes]") -> int:
    asked = None
    while True:
        try:
            return process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            pass
        if asked is None and job.stop_file.exists():
            asked = time.monotonic()
            # As Ctrl-C in a terminal, which every process of the command receives.
            _signal(process, signal.SIGINT)
        if asked is not None and time.monotonic() - asked > _PATIENCE_S:
            _signal(process, signal.SIGTERM if os.name != "posix" else signal.SIGKILL)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    if os.name != "posix":
        process.terminate()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def main() -> None:
    """Run the job whose folder is named on the command line."""
    if os.name == "posix":
        # A studio in the background of a shell ignores Ctrl-C, and would hand that on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    folder, *program = sys.argv[1:]
    with contextlib.suppress(LockTakenError):
        work(Job(Path(folder)), program or [*RUN_MODULE, "convscope"])


if __name__ == "__main__":
    main()
