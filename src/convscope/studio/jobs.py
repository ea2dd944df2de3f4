"""Commands that the studio runs: each in processes of its own, with all that is known on disk.

A job is a folder. The studio writes what to do into it, the process of the job how far it is; so a
page that is loaded again, or a studio that is started again, finds every job as it stands.
"""

import contextlib
import datetime
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from convscope import heartbeat
from convscope.backend import is_chatter
from convscope.errors import LockTakenError, StorageError
from convscope.locks import exclusive
from convscope.machine import RUN_MODULE
from convscope.storage import read_object, storage_errors, write_text
from convscope.wording import command_line

Status = Literal["waiting", "running", "done", "failed", "stopped", "killed"]

_STARTING_S = 20.0
"""Seconds in which the process of a new job starts, on a busy machine."""

_KEPT = 200
"""Number of ended jobs whose folders are kept."""


class Job:
    """A command of convscope, waiting, running or ended.

    Attributes:
        path: Folder of the job.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Name of the folder; names sort by age."""
        return self.path.name

    @property
    def lock(self) -> Path:
        """Lock that the process of the job holds as long as it lives."""
        return self.path / ".lock"

    @property
    def stop_file(self) -> Path:
        """File whose existence asks the process to stop."""
        return self.path / "stop"

    @property
    def heartbeat_file(self) -> Path:
        """File of the heartbeat of the process of the job, for where there are no locks."""
        return self.path / ".heartbeat"

    @property
    def log_file(self) -> Path:
        """Standard error of the command: progress and errors."""
        return self.path / "log.txt"

    @property
    def output_file(self) -> Path:
        """Standard output of the command: its result."""
        return self.path / "output.txt"

    @property
    def progress_file(self) -> Path:
        """Progress of the command, see `progress.FileProgress`."""
        return self.path / "progress.json"

    @cached_property
    def _order(self) -> dict[str, Any]:
        return read_object(self.path / "job.json")

    @property
    def words(self) -> tuple[str, ...]:
        """Words of the command, without "convscope"."""
        return tuple(map(str, self._order.get("words", ())))

    @property
    def command(self) -> str:
        """The command line, to copy."""
        return command_line(*self.words)

    @property
    def kind(self) -> str:
        """Name of the page's action that began it: "train", "check", "predict"."""
        return str(self._order.get("kind", ""))

    @property
    def title(self) -> str:
        """Title for people."""
        return str(self._order.get("title", self.command))

    @property
    def run(self) -> Path | None:
        """Run folder that the command writes, if it trains."""
        found = self._order.get("run")
        return Path(found) if isinstance(found, str) else None

    @property
    def about(self) -> dict[str, Any]:
        """What the page that began it wants to know again."""
        found = self._order.get("about")
        return found if isinstance(found, dict) else {}

    @property
    def is_heavy(self) -> bool:
        """Whether it waits for other heavy jobs: two at once would take twice as long each."""
        return bool(self._order.get("heavy"))

    @property
    def success(self) -> tuple[int, ...]:
        """Exit codes besides 0 with which it may have a result."""
        return tuple(self._order.get("success", ()))

    @property
    def created(self) -> str:
        """Time at which it was asked for, in ISO format (UTC)."""
        return str(self._order.get("created", ""))

    @property
    def started(self) -> str:
        """Time at which its command began; empty while it waits."""
        return str(read_object(self.path / "started.json").get("at", ""))

    @property
    def ended(self) -> str:
        """Time at which its command ended; empty before."""
        return str(read_object(self.path / "ended.json").get("at", ""))

    @property
    def code(self) -> int | None:
        """Exit code of its command; None before its end."""
        found = read_object(self.path / "ended.json").get("code")
        return found if isinstance(found, int) else None

    @property
    def status(self) -> Status:
        """The status in a word; "killed" if its process is gone without an end."""
        code = self.code
        if code is not None:
            # A command that failed altogether may end as one whose result has gaps does.
            if code == 0 or (code in self.success and isinstance(self.result(), dict)):
                return "done"
            return "stopped" if self.stop_file.exists() else "failed"
        if self._has_process:
            return "running" if self.started else "waiting"
        # It may have ended in between.
        if self.code is not None:
            return self.status
        return (
            "waiting"
            if not self.started and seconds_since(self.created) < _STARTING_S
            else "killed"
        )

    @property
    def _has_process(self) -> bool:
        """Whether its process is alive, as far as can be told; see `Run.status`."""
        worker = read_object(self.path / "worker.json")
        try:
            with exclusive(self.lock, wait=False) as held:
                # A free lock says little about another host: many file systems keep locks to one.
                if held and (not worker or heartbeat.is_here(worker)):
                    return False
        except LockTakenError:
            return True
        except StorageError:
            pass  # a folder of another user
        return bool(worker) and heartbeat.is_alive(worker, self.heartbeat_file)

    def is_older(self, changed: float) -> bool:
        """Return whether it was asked for before something changed.

        Args:
            changed: Time of the change, in seconds since 1970.
        """
        return seconds_at(self.created) < changed

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ("waiting", "running")

    @property
    def last_line(self) -> str:
        """The last line of its log that is not the backend's, without "error: "."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 4_000))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip() and not is_chatter(line)]
        return said[-1].removeprefix("error: ") if said else ""

    @property
    def progress(self) -> dict[str, Any]:
        """What it works on: {"label", "done", "total", "unit", "seconds", "note"}; may be empty."""
        return read_object(self.progress_file)

    def result(self) -> Any:
        """Return its output, read as JSON; None if it is none."""
        try:
            return json.loads(self.output_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    def before(self) -> "list[Job]":
        """Return the jobs that were asked for before it and have not ended."""
        folder = self.path.parent
        earlier = [path for path in folder.iterdir() if path.name < self.name and path.is_dir()]
        return [Job(path) for path in sorted(earlier) if not (path / "ended.json").exists()]

    def stop(self) -> None:
        """Ask it to stop; training keeps its finished epochs."""
        write_text(self.stop_file, now() + "\n")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let other processes know that this one works on it, as long as the body runs."""
        with exclusive(self.lock, wait=True):
            write_text(self.path / "worker.json", json.dumps(heartbeat.this_process()) + "\n")
            with heartbeat.beating(self.heartbeat_file):
                yield

    def write_start(self) -> None:
        """Keep that its command began."""
        write_text(self.path / "started.json", json.dumps({"at": now()}) + "\n")

    def write_end(self, code: int) -> None:
        """Keep how its command ended."""
        write_text(self.path / "ended.json", json.dumps({"at": now(), "code": code}) + "\n")


class Jobs:
    """All jobs of a studio.

    Args:
        folder: Folder of their folders; created with the first.
        program: Command that gets the words of a job; None is this convscope.
    """

    def __init__(self, folder: Path, program: Sequence[str] | None = None) -> None:
        self.folder = folder
        self._program = list(program or [*RUN_MODULE, "convscope"])

    def submit(
        self,
        words: Sequence[object],
        *,
        kind: str,
        title: str,
        heavy: bool = True,
        run: Path | None = None,
        about: dict[str, Any] | None = None,
        success: Sequence[int] = (),
    ) -> Job:
        """Start a job; heavy ones run one after another.

        Args:
            words: Words of the command, without "convscope".
            kind: Name of the action.
            title: Title for people.
            heavy: Whether it waits for the heavy jobs before it.
            run: Run folder that it writes.
            about: What the page wants to know again.
            success: Exit codes besides 0 with which it may have a result.

        Raises:
            StorageError: If its folder cannot be written.
        """
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
        path = self.folder / f"{moment}-{secrets.token_hex(2)}-{kind}"
        order = {
            "words": [str(word) for word in words],
            "kind": kind,
            "title": title,
            "heavy": heavy,
            "run": None if run is None else str(run),
            "about": about or {},
            "success": list(success),
            "created": now(),
        }
        with storage_errors(path):
            path.mkdir(parents=True)
        write_text(path / "job.json", json.dumps(order, ensure_ascii=False, indent=2) + "\n")
        job = Job(path)
        process = subprocess.Popen(
            [
                *(*RUN_MODULE, "convscope.studio.worker"),
                *(str(path.absolute()), *self._program),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _CHILDREN.append(process)
        self.forget_old()
        return job

    def submit_again(self, job: Job) -> None:
        """Start a job, whose process went before it began, in the place of the lost one.

        Raises:
            StorageError: If its folder cannot be written.
        """
        # Another page may have been quicker.
        if job.path.is_dir():
            self.submit(
                job.words,
                kind=job.kind,
                title=job.title,
                heavy=job.is_heavy,
                run=job.run,
                about=job.about,
                success=job.success,
            )
            shutil.rmtree(job.path, ignore_errors=True)

    def all(self) -> list[Job]:
        """Return all jobs, the newest first."""
        if not self.folder.is_dir():
            return []
        paths = (path for path in self.folder.iterdir() if (path / "job.json").is_file())
        return [Job(path) for path in sorted(paths, reverse=True)]

    def find(self, name: str) -> Job | None:
        """Return the job of a name; None if there is none."""
        return next((job for job in self.all() if job.name == name), None)

    def newest(self, kind: str, **about: Any) -> Job | None:
        """Return the newest job of a kind that is about something; None if there is none."""
        return next(
            (job for job in self.all() if job.kind == kind and about.items() <= job.about.items()),
            None,
        )

    def active(self) -> list[Job]:
        """Return the jobs that wait or run, the oldest first."""
        return [job for job in reversed(self.all()) if job.code is None and job.is_active]

    def forget_old(self) -> None:
        """Remove the folders of the oldest ended jobs beyond those that are kept."""
        # Processes that ended are asked for their exit code once, or the system keeps them.
        _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
        ended = [job for job in self.all() if job.code is not None]
        for job in ended[_KEPT:]:
            shutil.rmtree(job.path, ignore_errors=True)


_CHILDREN: "list[subprocess.Popen[bytes]]" = []
"""Processes of jobs that this studio started."""


def now() -> str:
    """Return the time in ISO format, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def seconds_since(moment: str) -> float:
    """Return the seconds since a time in ISO format; infinity if it is none."""
    return time.time() - seconds_at(moment)


def seconds_at(moment: str) -> float:
    """Return a time in ISO format in seconds since 1970; minus infinity if it is none."""
    try:
        return datetime.datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return float("-inf")
