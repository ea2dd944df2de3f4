"""Results of measurements of this machine, kept in the cache: a JSON file for each kind."""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from convscope.errors import StorageError
from convscope.storage import cache_dir, read_object, write_text

KINDS = {
    "precision": "which precision is faster on this machine",
    "engines": "which engine is fastest on this machine, by model",
}
"""What each kind of measurement says."""

_Value = TypeVar("_Value")


def file_of(kind: str) -> Path:
    """Return the file of a kind of measurement, of `KINDS`."""
    return cache_dir() / f"{kind}.json"


def read_results(kind: str, value: Callable[[Any], _Value]) -> dict[str, _Value]:
    """Return the results that are kept, by what was measured; none if the file is damaged.

    Args:
        kind: Kind of measurement, of `KINDS`.
        value: Function from what is in the file to a result; `ValueError` or `TypeError` for
            damage.
    """
    try:
        return {key: value(each) for key, each in read_object(file_of(kind)).items()}
    except (ValueError, TypeError):
        return {}


def keep_results(kind: str, results: Mapping[str, Any]) -> None:
    """Write results; where that fails it is measured again next time, which costs seconds."""
    with contextlib.suppress(StorageError, OSError):
        write_text(file_of(kind), json.dumps(results, indent=2) + "\n")
