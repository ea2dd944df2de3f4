"""The folder of a study of several runs: new, or resumed."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convscope.errors import RunError
from convscope.paths import numbered
from convscope.recipe import RANDOM_WEIGHTS, default_settings
from convscope.records import plain
from convscope.run import ROOT, Run, is_remains
from convscope.storage import require_outside, require_writable
from convscope.workplace import at_work


def require_place(out: Path | None, data: str | None, require_free: Callable[[Path], None]) -> None:
    """Reject a folder of results before the images are read, which may take minutes.

    Args:
        out: Folder; None for one below `runs/`.
        data: Setting `data_path`.
        require_free: Function that rejects a folder that holds something else.

    Raises:
        DataError: If it is inside the folder of images.
        RunError: If it is a file, or holds something else.
        StorageError: If it cannot be made or written to.
    """
    place = require_outside(ROOT if out is None else out, data)
    if out is not None:
        require_free(out)
    require_writable(place)


@dataclass(frozen=True)
class StudyKind:
    """A kind of study: what people call it, and the file that marks its folders.

    Attributes:
        name: Name for people.
        file: Name of the file in a folder of this kind that holds the state of the study.
        version: Version of that file; raised when an older convscope could misread it.
    """

    name: str
    file: str
    version: int = 1

    def state_file(self, path: Path) -> Path:
        """Return the file that marks a folder as such a study."""
        return path / self.file

    def require_place(self, out: Path | None, data: str | None) -> None:
        """Reject a folder of results before the images are read; see `require_place`."""
        require_place(out, data, self.require_free)

    def require_free(self, path: Path) -> None:
        """Reject a folder that holds something else.

        Args:
            path: Folder of the study; need not exist.

        Raises:
            RunError: If it is a file, or holds other things.
        """
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; choose another --out")
        # Leftovers of a kill are no reason to refuse.
        if not self.state_file(path).exists() and not all(map(is_remains, path.glob("*"))):
            raise RunError(f"{path} is not empty and holds no {self.name}; choose another --out")

    @contextlib.contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """Lock a study's folder, so that no other process works on it.

        Args:
            path: Folder; created if absent.

        Raises:
            RunError: If it is a file, holds other things, or another process works on it.
            StorageError: If it cannot be written to.
        """
        self.require_free(path)
        with at_work(path, "worked on"):
            yield

    def read(self, path: Path) -> dict[str, Any] | None:
        """Return the state of the study when it was stopped; None if it is new.

        Raises:
            RunError: If the file is damaged, or another version of convscope wrote it.
        """
        file = self.state_file(path)
        if not file.exists():
            return None
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
            written = state.get("format")
        except (OSError, ValueError, AttributeError, RecursionError):
            raise self.damaged(path) from None
        if written != self.version:
            raise RunError(
                f"{file} was written by another version of convscope; use that one, or choose "
                "another --out"
            )
        return state  # type: ignore[no-any-return]

    def kept(self, path: Path) -> dict[str, Any]:
        """Return the state of a study that is there.

        Raises:
            RunError: As for `read`, and if there is none.
        """
        state = self.read(path)
        if state is None:
            raise RunError(f"{path} holds no {self.name}")
        return state

    def write(self, path: Path, state: Mapping[str, Any]) -> None:
        """Write the state of a study, with its version."""
        Run.write_json(self.state_file(path), {"format": self.version, **state})

    def require_same(
        self, path: Path, state: Mapping[str, Any] | None, asked: Mapping[str, Any]
    ) -> None:
        """Refuse to resume a study with other settings.

        The images and a backbone's weights may have moved: the settings have hashes of both.

        Args:
            path: Folder of the study.
            state: Its state, whose "asked" has the settings that it was begun with; None if the
                study is new.
            asked: Settings given now; further ones of the state do not count.

        Raises:
            RunError: If the state is damaged, or they differ; the message names those that do.
        """
        if state is None:
            return
        before = state.get("asked")
        if not isinstance(before, Mapping):
            raise self.damaged(path)
        found = {name: both for name, *both in _differences(before, asked, asked)}
        if found and found.keys() <= set(_CONTENTS):
            raise RunError(f"{path} holds a {self.name} of other images; choose another --out")
        if found:
            # One setting may have decided others, such as the number of folds the batch size.
            listed = [
                f"{name} {then!r}, not {now!r}"
                for name, (then, now) in found.items()
                if name not in _CONTENTS
            ]
            more = f" and {len(listed) - _LISTED} more" * (len(listed) > _LISTED)
            raise RunError(
                f"{path} holds a {self.name} with {' and '.join(listed[:_LISTED])}{more}; repeat "
                "its settings to continue it, or choose another --out"
            )

    def free_place(self, usual: Path, asked: Mapping[str, Any]) -> Path:
        """Return a folder for a study: the usual one, or with a number if that holds another.

        Args:
            usual: Folder.
            asked: Settings of the study, as for `require_same`.
        """
        for place in numbered(usual):
            with contextlib.suppress(RunError):
                self.require_free(place)
                self.require_same(place, self.read(place), asked)
                break
        return place

    def damaged(self, path: Path) -> RunError:
        """Return the error for a state that makes no sense."""
        return RunError(f"{self.state_file(path)} is damaged; choose another --out")


def look_of(path: Path, first: Run) -> str:
    """Return the name by which the evaluations of a study count as one look at the test images.

    It is the same when a stopped study is resumed, another when it is created again under its name.

    Args:
        path: Folder of the study.
        first: First run of the study.
    """
    return f"{path.resolve()} {first.state.get('created', '')}"


def as_read_back(asked: Any) -> Any:
    """Return settings as they would be read back from a state file, to compare them with one."""
    return json.loads(json.dumps(asked, default=plain))


_CONTENTS = ("content", "data content")
"""Names of the hash of all images among the settings of a study."""

_LISTED = 3
"""Settings that differ and are named in a message, at most."""


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str], group: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted name and both values of those of some settings that differ."""
    for key in keys:
        name = f"{group}{key}"
        # A setting that there was not yet when the study was begun had its default.
        then = before[key] if key in before else as_read_back(default_settings().get(name))
        value = now.get(key)
        if isinstance(value, Mapping) and (then is None or isinstance(then, Mapping)):
            then = then or {}
            # All settings of a run or a rung, which need no name of their own.
            inner = "" if key in ("config", "settings") else f"{name}."
            yield from _differences(then, value, {**value, **then}, inner)
        elif _kind(key, then) != _kind(key, value):
            yield name, then, value


def _kind(key: str, value: Any) -> Any:
    """Return a setting; of the place of images or a table only whether there is one.

    Of weights: whether they are random.
    """
    if key in ("data_path", "labels"):
        return value is not None
    return value == RANDOM_WEIGHTS if key == "weights" else value
