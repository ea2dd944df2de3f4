"""The output of `--json`: one JSON document on standard output, and nothing else there."""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer


def print_json(content: Any) -> None:
    """Print values as JSON.

    Args:
        content: Mappings, sequences, dataclasses, numbers, text and paths; numbers that are not
            finite become null, since JSON cannot express them.
    """
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    # Characters that the terminal or file cannot hold are escaped as in JSON.
    plain = not encoding.startswith(("utf", "cp65001"))
    typer.echo(json.dumps(_plain(content), indent=2, ensure_ascii=plain, allow_nan=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, float) or hasattr(value, "dtype"):
        value = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(value, list):
            return [_plain(each) for each in value]
        return value if not isinstance(value, float) or math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Path):
        return str(value)
    return [_plain(each) for each in value]
