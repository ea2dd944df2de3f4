"""How counts, sizes, times, file names and commands are put into messages."""

import shlex
from collections.abc import Iterable


def printable(name: str) -> str:
    """Return a file name with bytes that are not UTF-8 spelled out, so that it can be shown."""
    return name.encode("utf-8", "backslashreplace").decode()


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
    """
    return shlex.join(["convscope", *map(str, words)])


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return a number and its noun, in the plural unless it is one.

    Examples:
        >>> counted(1, "image"), counted(1200, "image"), counted(2, "class", "classes")
        ('1 image', '1,200 images', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


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
    """Return a number as it is said of a place in a row.

    Examples:
        >>> [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
        ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '102nd', '111th']
    """
    ending = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{'th' if n % 100 in (11, 12, 13) else ending}"
