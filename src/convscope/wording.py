"""Counts, sizes, times, file names and commands in messages."""

import contextlib
import re
import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import Path

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Limits, since a text of another person's would otherwise take time with its length squared.
_PASSWORD = re.compile(
    r"([a-z][\w+.-]{0,40}://[^\s/?#:]{0,400}:)[^\s@]{0,4000}(?:@[^\s/?#@]{0,400})*(@)"
    r"|([?&](?:password|passwd|pwd)=)[^\s&]*",
    re.IGNORECASE,
)
_OF_DATABASE = re.compile(
    r"(^[\w+.-]+://[^/:]*:)[^@]*(?:@[^/?#@]*)*(@)|([?&](?:password|passwd|pwd)=)[^&]*",
    re.IGNORECASE,
)
"""The same in a URL alone, as SQLAlchemy reads it: there may be blanks in it."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that spreadsheets compute."""

FLATTERING = "(flattering: its thresholds were chosen on these images)"
"""What is said of a score on the images by which its thresholds were chosen."""


def in_utf8(name: str) -> str:
    r"""Return a name with bytes that are not UTF-8 spelled out, for files that hold UTF-8 only.

    Examples:
        >>> in_utf8("caf\udce9")
        'caf\\udce9'
    """
    return name.encode("utf-8", "backslashreplace").decode()


def printable(name: str) -> str:
    r"""Return a name with bytes that are not UTF-8 and control characters spelled out.

    A terminal obeys some of the latter: a file name could clear it, or write what looks like ours.

    Examples:
        >>> printable("caf\udce9 \x1b[2J")
        'caf\\udce9 \\x1b[2J'
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", in_utf8(name))


def masked(text: str) -> str:
    """Return a text in which the passwords of addresses are three stars.

    Examples:
        >>> masked("postgresql://ann:secret@db/trials")
        'postgresql://ann:***@db/trials'
        >>> masked("postgresql://db/trials?user=ann&password=secret")
        'postgresql://db/trials?user=ann&password=***'
        >>> masked("mysql://db/trials?user=ann&passwd=secret and http://ann@srv:se@cret@db/a@b")
        'mysql://db/trials?user=ann&passwd=*** and http://ann@srv:***@db/a@b'
    """
    return _PASSWORD.sub(r"\1\3***\2", text)


def masked_database(url: str) -> str:
    """Return the URL of a database with three stars for its password.

    Examples:
        >>> masked_database("postgresql://ann@srv:my /secret@db/trials?sslmode=require")
        'postgresql://ann@srv:***@db/trials?sslmode=require'
        >>> masked_database("mssql://db/trials?UID=ann&PWD=my secret&timeout=9")
        'mssql://db/trials?UID=ann&PWD=***&timeout=9'
        >>> masked_database("postgresql://ann@db:5432/trials"), masked_database("sqlite:///C:/a@b")
        ('postgresql://ann@db:5432/trials', 'sqlite:///C:/a@b')
    """
    return _OF_DATABASE.sub(r"\1\3***\2", url)


def sureness(prob: float, decimals: int = 0) -> str:
    """Return a probability in per cent, ">99%" where only rounding would make it certain.

    Examples:
        >>> sureness(0.984), sureness(0.9996)
        ('98%', '>99%')
        >>> sureness(0.9984, decimals=1), sureness(0.9996, decimals=1)
        ('99.8%', '>99.9%')
    """
    said = f"{prob:.{decimals}%}"
    return said if float(said.rstrip("%")) < 100 else f">{100 - 10.0**-decimals:.{decimals}f}%"


def first_line(error: BaseException) -> str:
    r"""Return what a library's error says, or its kind, as one short line for a message of ours.

    It may quote bytes of a file or a password, end in a full stop, or say nothing.

    Examples:
        >>> first_line(ValueError("bad name 'caf\udce9'.\nSee ..."))
        "bad name 'caf\\udce9'"
        >>> first_line(EOFError())
        'EOFError'
    """
    line = masked((str(error).strip().splitlines() or [""])[0])[:300].rstrip(" .")
    return printable(line) or type(error).__name__


_NO_MEMORY_ERRORS = {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}
"""Kinds of errors of Python, torch and TensorFlow where memory is not enough, on GPUs too."""

_NO_MEMORY = (
    *("out of memory", "oom when allocating", "failed to allocate", "bad_alloc"),
    *("can't allocate memory", "cannot allocate memory"),
)
"""What other kinds say then: those of the system, JAX, torch on the CPU, ONNX Runtime, OpenVINO."""


def lack_of_memory(error: BaseException) -> str | None:
    r"""Return the line that tells what had no room in memory; None if something else went wrong.

    Examples:
        >>> lack_of_memory(RuntimeError("Graph execution error:\n\nOOM when allocating tensor."))
        'OOM when allocating tensor'
        >>> lack_of_memory(ValueError("bad shape")) is None
        True
    """
    lines = str(error).splitlines()
    telling = [line for line in lines if any(sign in line.lower() for sign in _NO_MEMORY)]
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if not telling and not kinds & _NO_MEMORY_ERRORS:
        return None
    return first_line(RuntimeError(telling[0])) if telling else first_line(error)


def composed(name: str) -> str:
    r"""Return a name in Unicode's composed form (NFC), in which equal names have equal characters.

    macOS writes accents into file names as characters of their own, other systems mostly do not.

    Examples:
        >>> len("cafe\u0301"), len(composed("cafe\u0301"))
        (5, 4)
    """
    return unicodedata.normalize("NFC", name)


def has_controls(name: str) -> bool:
    """Return whether there are control characters in a name, which a terminal would obey."""
    return _CONTROLS.search(name) is not None


def spreadsheet_text(text: str) -> str:
    """Return a name as a cell of a CSV file that spreadsheets do not compute.

    A foreign folder may be called =HYPERLINK(...). A number stays a number.

    Examples:
        >>> spreadsheet_text("cat"), spreadsheet_text("=1+1"), spreadsheet_text("-1")
        ('cat', "'=1+1", '-1')
    """
    with contextlib.suppress(ValueError):
        float(text)
        return text
    return f"'{text}" if text.startswith(_FORMULA) else text


def spreadsheet_path(path: str) -> str:
    """Return a relative path as such a cell: it still leads to the same file.

    Examples:
        >>> spreadsheet_path("cats/1.png"), spreadsheet_path("=1+1/1.png")
        ('cats/1.png', './=1+1/1.png')
    """
    return f"./{path}" if path.startswith(_FORMULA) else path


def quoted(names: Iterable[str], most: int = 5) -> str:
    """Return names for a message, the first few in full.

    Examples:
        >>> quoted(["cat", "dog"])
        "'cat', 'dog'"
        >>> quoted(["a", "b", "c"], most=1)
        "'a' and 2 more"
    """
    names = [printable(name) for name in names]
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def command_line(*words: object) -> str:
    """Return a command of convscope that can be pasted into a shell, whatever is in its words.

    Examples:
        >>> command_line("evaluate", "runs/digits")
        'convscope evaluate runs/digits'
        >>> command_line("evaluate", "my runs/a;b")
        "convscope evaluate 'my runs/a;b'"
        >>> command_line("evaluate", Path("-x"))
        'convscope evaluate ./-x'
    """
    # A path that begins like an option would be taken for one.
    spelled = (
        f"./{w}" if isinstance(w, Path) and f"{w}".startswith("-") else str(w) for w in words
    )
    return shlex.join(["convscope", *spelled])


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return a number and its noun, in the plural unless it is one.

    Examples:
        >>> counted(1, "image"), counted(1200, "image"), counted(2, "class", "classes")
        ('1 image', '1,200 images', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def p_value(p: float) -> str:
    """Return a p value for people.

    Examples:
        >>> p_value(0.0312), p_value(1e-9)
        ('p = 0.031', 'p below 1e-6')
    """
    return "p below 1e-6" if p < 1e-6 else f"p = {p:.2g}"


def spell_size(size: tuple[int, int]) -> str:
    """Return a (height, width) for people.

    Examples:
        >>> spell_size((64, 64))
        '64 x 64 pixels'
        >>> spell_size((48, 64))
        '64 pixels wide and 48 high'
    """
    height, width = size
    if height == width:
        return f"{width} x {height} pixels"
    return f"{width} pixels wide and {height} high"


def file_size(n_bytes: int) -> str:
    """Return a size for people.

    Examples:
        >>> file_size(812), file_size(20_480), file_size(7_340_032), file_size(16_106_127_360)
        ('812 B', '20.5 kB', '7.3 MB', '16.1 GB')
    """
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes} B"


def duration(seconds: float) -> str:
    """Return a time for people.

    Examples:
        >>> duration(8.04), duration(75), duration(754), duration(9000)
        ('8 s', '75 s', '13 min', '2.5 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_700 else f"{seconds / 3600:.1f} h"


def ordinal(n: int) -> str:
    """Return a number as an ordinal.

    Examples:
        >>> [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
        ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '102nd', '111th']
    """
    ending = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{'th' if n % 100 in (11, 12, 13) else ending}"
