"""Silencing of the decoders: no warnings, no log lines, nothing on standard error."""

import contextlib
import ctypes
import functools
import importlib
import logging
import sys
import threading
import warnings

from PIL import ImageFile

# They log some faults of a file; without a handler Python prints them on standard error.
for _plugin in ("PIL", "pillow_heif"):
    logging.getLogger(_plugin).addHandler(logging.NullHandler())


@functools.cache
def quieten_libtiff() -> None:
    """Keep libtiff from printing on standard error; Pillow reports the fault anyway.

    Its handlers can be reached only by its symbols, which not every system has.
    """
    with contextlib.suppress(OSError, AttributeError):
        libtiff = ctypes.CDLL(importlib.import_module("PIL._imaging").__file__)
        for handler in (libtiff.TIFFSetErrorHandler, libtiff.TIFFSetWarningHandler):
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


class _Quiet:
    """Suppress Pillow's warnings, and refuse truncated files, while any thread decodes.

    `warnings.catch_warnings` works on the whole process, so threads that enter and leave it
    separately would restore each other's filters. The first one in enters, the last one out leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()
        self._lenient = False

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
                # Other libraries of the process may have switched this on.
                self._lenient = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._lenient
                self._filters.__exit__(*sys.exc_info())


QUIET = _Quiet()
"""Context in which images are opened and decoded, by any number of threads."""
