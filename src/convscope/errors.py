"""The tree of errors.

    ConvscopeError                 any error that convscope reports in one line
    ├── UserError                  the input or the command is wrong: exit code 2
    │   ├── UnknownNameError       no such model, dataset, recipe, key: suggests the nearest
    │   ├── ConfigError            a setting that is not allowed, a config that cannot be read
    │   ├── DataError              a data folder or dataset that cannot be used as it is
    │   │   └── NoClassesError     a folder whose images have no labels
    │   ├── ImageError             one image that cannot be read
    │   │   ├── UnreadFormatError  it is of a format that is not read here
    │   │   └── ImageTooLargeError it has more pixels than are decoded
    │   ├── PathError              a path that is empty, or names a variable that is not set
    │   ├── RunError               a run folder that is missing, taken, or in the wrong state
    │   │   └── LockTakenError     another process is at work there
    │   └── ShapeError             an array of the wrong shape or range
    └── FailureError               the command was valid but failed: exit code 1
        ├── DownloadError          a file could not be downloaded from any of its sources
        ├── IntegrityError         a file does not match its checksum
        ├── StorageError           a file could not be written (disk full)
        │   └── ReadOnlyError      nobody, or not this user, may write there
        ├── TrainingError          training cannot begin or continue (another process is gone)
        │   └── DivergedError      a loss that is not finite
        ├── DuplicateNameError     two files, or a package and convscope, register one name
        └── MissingExtraError      a package of an optional extra is not installed

The message of each says what is wrong, where, and what to do, in one line.
"""

import difflib
from collections.abc import Iterable
from typing import Any


class ConvscopeError(Exception):
    """Base of every error that convscope raises on purpose."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # The usual way calls `__init__` with the message, and some take other arguments.
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(
    kind: type[ConvscopeError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> ConvscopeError:
    """Return an error that another process raised."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class UserError(ConvscopeError):
    """The input or the command is wrong; nothing was changed."""

    exit_code = 2


class UnknownNameError(UserError):
    """A name that is not registered; the message suggests the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        if near:
            advice = f"did you mean '{near[0]}'?"
        elif known:
            advice = f"choose one of: {', '.join(known)}"
        else:
            advice = "none is registered"
        super().__init__(f"unknown {kind} '{name}'; {advice}{hint}")


class ConfigError(UserError):
    """A setting that is not allowed, or a configuration that cannot be read."""


class DataError(UserError):
    """A data folder or dataset that cannot be used as it is."""


class NoClassesError(DataError):
    """A folder whose images have no labels: neither class folders nor a table."""


class ImageError(UserError):
    """One image that cannot be read."""


class UnreadFormatError(ImageError):
    """One image of a format that this installation does not read; the message says what does."""


class ImageTooLargeError(ImageError):
    """One image of more pixels than are decoded."""


class PathError(UserError):
    """A path that leads nowhere: it is empty, or names a variable that is not set."""


class RunError(UserError):
    """A run folder that is missing, taken, or in the wrong state."""


class LockTakenError(RunError):
    """Another process holds the lock of a file or folder."""


class ShapeError(UserError, ValueError):
    """An array of the wrong shape or range."""


class FailureError(ConvscopeError):
    """The command was valid, but it could not be carried out."""


class DownloadError(FailureError):
    """A file could not be downloaded from any of its sources."""


class IntegrityError(FailureError):
    """A file does not match its checksum."""


class StorageError(FailureError):
    """A file could not be written."""


class ReadOnlyError(StorageError):
    """A place cannot be written to, by this user or by anybody."""


class TrainingError(FailureError):
    """Training cannot begin or continue."""


class DivergedError(TrainingError):
    """Training diverged: a loss is not finite, and would not be with the same settings again."""


class DuplicateNameError(FailureError, ValueError):
    """Two objects of one kind are registered under the same name."""


class MissingExtraError(FailureError):
    """A package that is not in the base install is missing.

    Args:
        package: Name of the package.
        extra: Extra that installs it, with all that is needed beside it; None if it suffices alone.
    """

    def __init__(self, package: str, extra: str | None) -> None:
        wanted = package if extra is None else f"'convscope[{extra}]'"
        super().__init__(
            f"this needs the package '{package}'; install it with: pip install {wanted}"
        )
