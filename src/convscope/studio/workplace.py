"""Folder of a studio, beside the runs: its jobs, uploads and corrected labels; and its token."""

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path

from convscope.errors import ConvscopeError, RunError
from convscope.paths import short_name
from convscope.run import Run
from convscope.storage import cache_dir, storage_errors
from convscope.studio.jobs import Jobs


class Workplace:
    """The folder of runs that a studio shows, and its own folder in it.

    Attributes:
        root: Folder of runs, absolute and without links.
        jobs: Commands that the studio runs.
    """

    def __init__(self, root: Path) -> None:
        # Jobs keep paths below it, which a studio that is started elsewhere, or names the folder
        # by a link, compares with its own.
        self.root = Path(os.path.realpath(root))
        self.jobs = Jobs(self.own / "jobs")

    @property
    def own(self) -> Path:
        """Folder of the studio itself."""
        return self.root / ".studio"

    @property
    def uploads(self) -> Path:
        """Folder of what was dropped into the browser."""
        return self.own / "uploads"

    @property
    def labels(self) -> Path:
        """Folder of corrected labels."""
        return self.own / "labels"

    @property
    def token_file(self) -> Path:
        """File of the token, in the user's cache: a folder of runs may be another person's."""
        return cache_dir() / "studio" / hashlib.sha256(os.fsencode(self.root)).hexdigest()[:32]

    def token(self) -> str:
        """Return the secret of the address, the same after a restart, so that open pages go on.

        Raises:
            StorageError: If it cannot be kept.
        """
        file = self.token_file
        with contextlib.suppress(OSError, UnicodeDecodeError):
            known = file.read_text(encoding="ascii").strip()
            private = os.name != "posix" or not stat.S_IMODE(file.stat().st_mode) & 0o077
            own = os.name != "posix" or file.stat().st_uid == os.getuid()
            if len(known) >= 32 and private and own and not file.is_symlink():
                return known
        token = secrets.token_urlsafe(32)
        with storage_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(token + "\n")
        return token

    def runs(self) -> list[Run]:
        """Return the runs, the newest first."""
        return list(reversed(Run.find_all(self.root))) if self.root.is_dir() else []

    def run(self, name: str) -> Run:
        """Return the run of a name.

        Raises:
            RunError: If there is none below the folder of runs, its `run.json` is damaged, or a
                newer convscope made it.
        """
        path = self.root / name
        if not _is_name(name) or not Run(path).state_file.is_file():
            raise RunError(f"there is no run '{name}' below {self.root}")
        return Run.open(path)

    def comparison_page(self, name: str) -> Path:
        """Return the page of the comparison of a name.

        Links are not followed: the folder may be another person's.

        Raises:
            RunError: If there is none below the folder of runs, or its file is damaged.
        """
        from convscope.studies.comparison.comparison import Comparison

        if _is_name(name):
            page = Comparison.read(self.root / name).page
            if page.is_file() and not page.is_symlink() and not page.parent.is_symlink():
                return page
        raise RunError(f"there is no comparison '{name}' below {self.root}")

    def comparisons(self) -> list[str]:
        """Return the names of all comparisons with a page, the last one first."""
        found: list[tuple[float, str]] = []
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            with contextlib.suppress(ConvscopeError, OSError):
                found.append((self.comparison_page(folder.name).stat().st_mtime, folder.name))
        return [name for _, name in sorted(found, reverse=True)]

    def new_run(self, stem: str) -> Path:
        """Return a folder for a new run or study that is neither there nor promised to a job."""
        kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-.") or "run"
        stem = short_name(kept, 100)
        promised = {word for job in self.jobs.all() for word in job.words}
        number = 1
        while True:
            path = self.root / (stem if number == 1 else f"{stem}-{number}")
            if not path.exists() and str(path) not in promised:
                return path
            number += 1


def _is_name(name: str) -> bool:
    """Return whether a text is the name of something in a folder."""
    return name not in ("", ".", "..") and not any(each in name for each in "/\\\0")
