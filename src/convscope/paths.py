"""Paths as people give them: with `~` and variables, on the command line, in settings, in Python.

A shell expands `--out ~/x`, but not `--out=~/x`, nothing in quotes and nothing in a file of
settings or a job description; so convscope does it itself, in this one place.
"""

import errno
import hashlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from convscope.errors import PathError
from convscope.wording import masked, printable

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")

_IPV6 = re.compile(r"\[[0-9a-f:.]+\]", re.IGNORECASE)
"""Number of a host, in which "::" stands for zeros."""

_PASSWORD = re.compile(r"[?&][^=&]*(password|passwd|pwd)=", re.IGNORECASE)

KINDS_OF_ADDRESS = (
    *("abfs", "abfss", "adl", "az", "file", "ftp", "gcs", "gs", "hdfs", "hf", "http", "https"),
    *("local", "memory", "oss", "s3", "s3a", "sftp", "smb", "ssh", "webdav", "webhdfs"),
)
"""Kinds of address that are opened: object stores, file servers, and this machine. fsspec has
others, which read an address from the content of a file, or run code that stands in it."""

_NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f]|[. ]+\Z')

_DEVICE = re.compile(r"\A(con|prn|aux|nul|com\d|lpt\d)(?=\.|\Z)", re.IGNORECASE)
"""A file of this name is a device on Windows, whatever its ending."""


def user_path(given: Path | str, option: str) -> Path:
    """Return the path that a user means: `~`, `~name`, `$NAME` and `${NAME}` expanded.

    An existing path is taken literally, whatever its name contains, and so is a new file in an
    existing folder (but `~/new` is always in the home folder: `./~/new` is in a folder called `~`).

    Args:
        given: Path as given; need not exist.
        option: Name of the option, for the error: "--out", "$CONVSCOPE_CACHE".

    Raises:
        PathError: If it is no path, is empty, contains an unset variable, an unknown user or an
            unknown home folder, or is not accessible.
    """
    if not is_path(given):
        raise PathError(f"{option} is of type {type(given).__name__}; give a path")
    text = os.fspath(given)
    if "\0" in text:
        raise PathError(f"{option} has a null character in its path, which no path can have")
    if not os.path.lexists(text):
        if not text.strip():
            raise PathError(f"{option} is empty; give a path ('.' is the current folder)")
        if is_address(text):
            raise PathError(
                f"{option} is '{text}', but only the folder of a run or a study, and shards, may "
                "be at an address; give a path on this machine"
            )
        text = _with_home(_with_variables(text, option), option)
    path = Path(text)
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PathError(f"{option}: {path} is too long for a path or a name") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP):
            raise PathError(f"{option}: {path} cannot be accessed ({error.strerror})") from None
    # pathlib drops the "./" that keeps a name from being read as a home folder.
    return path.absolute() if str(path).startswith("~") else path


def is_path(given: object) -> bool:
    """Return whether a value from Python is a path: a text, or an object that stands for one."""
    return isinstance(given, str) or (
        isinstance(given, os.PathLike) and isinstance(os.fspath(given), str)
    )


def is_address(given: Path | str) -> bool:
    """Return whether a text is an address, such as "s3://bucket/runs", and no path."""
    return isinstance(given, str) and _ADDRESS.match(given) is not None


def require_plain_address(address: str) -> None:
    """Reject an address that may do more than name a place; it may stand in a foreign file.

    Raises:
        PathError: If it is of none of `KINDS_OF_ADDRESS`, chains several, or holds a password,
            which would be written into every run.
    """
    kind, _, place = address.partition("://")
    said = printable(masked(address))
    if kind not in KINDS_OF_ADDRESS:
        raise PathError(
            f"{said}: addresses of the kind '{kind}' are not opened, only "
            f"{', '.join(KINDS_OF_ADDRESS)}"
        )
    host, *rest = re.split("(?=[/?#])", place, maxsplit=1)
    if "::" in "".join([_IPV6.sub("", host), *rest]):
        raise PathError(f"{said}: an address with '::' is not opened; give one plain address")
    if ":" in host.rpartition("@")[0] or _PASSWORD.search(place):
        raise PathError(
            f"{said.partition('?')[0]} has a password in it; put that into the environment, such "
            f"as FSSPEC_{kind.upper()}_PASSWORD, and omit it from the address"
        )


def path_or_none(given: Path | str | None, option: str) -> Path | None:
    """Return `user_path` of a given path; None for None."""
    return None if given is None else user_path(given, option)


def short_name(name: str, n_bytes: int) -> str:
    """Return a name that is cut where it is too long, and then ends in a hash of the whole.

    What would lead to another folder, is no character to be seen, or cannot be in a name on some
    system, becomes a hyphen: a foreign dataset has any name.

    Args:
        name: A name of a file or folder, or the beginning of one.
        n_bytes: Most bytes that it may have in UTF-8, at least 16.

    Examples:
        >>> short_name("photos", 16), short_name("photographs-of-cats", 16)
        ('photos', 'photogr-eb17c7dd')
        >>> short_name("../c:photos", 16)
        '..-c-photos'
        >>> short_name("..", 16), short_name("who?", 16), short_name("nul", 16)
        ('-', 'who-', 'nul-')
    """
    name = _DEVICE.sub(r"\1-", _NOT_IN_NAMES.sub("-", name)) or "-"
    whole = os.fsencode(name)
    if len(whole) <= n_bytes:
        return name
    digest = hashlib.sha256(whole).hexdigest()[:8]
    # Never in the middle of a character.
    kept = whole[: n_bytes - 9].decode("utf-8", "ignore")
    return f"{kept}-{digest}"


def numbered(usual: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a path, then with the number 2 and so on behind its name, but before its suffix.

    Examples:
        >>> [path.name for path in itertools.islice(numbered(Path("a.jpg"), ".jpg"), 3)]
        ['a.jpg', 'a-2.jpg', 'a-3.jpg']
    """
    yield usual
    for number in itertools.count(2):
        yield usual.with_name(f"{usual.name.removesuffix(suffix)}-{number}{suffix}")


def _with_variables(text: str, option: str) -> str:
    found = list(_VARIABLE.finditer(text))
    if not found:
        return text
    end = text.find("/", found[-1].end())
    if end > 0 and os.path.lexists(text[:end]):
        return text

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        # An empty one would lead from "$NAME/x" to "/x".
        if not os.environ.get(name):
            raise PathError(
                f"{option} is '{text}', but the variable {name} is not set; set it, or write the "
                "path in full"
            )
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def _with_home(text: str, option: str) -> str:
    if not text.startswith("~"):
        return text
    user = re.split(r"[/\\]" if os.name == "nt" else "/", text[1:], maxsplit=1)[0]
    # An empty one would lead from "~/x" to "/x".
    if user or os.environ.get("HOME") != "":
        # pathlib raises where it is not known, os.path leaves the text as it is.
        expanded = os.path.expanduser(text)  # noqa: PTH111
        if expanded != text:
            return expanded
    if user:
        raise PathError(
            f"{option} is '{text}', but there is no user {user}; './{text}' is a file or folder "
            "of that name"
        )
    raise PathError(
        f"{option} is '{text}', but the home folder is not known (HOME is not set); write the path "
        "in full"
    )
