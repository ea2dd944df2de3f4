"""Kinds of values in a run's JSON files, which may come from strangers."""

from collections.abc import Callable, Mapping
from typing import Any


def plain(value: object) -> object:
    """Return a number or an array of NumPy as Python's own, for `json.dumps(default=plain)`.

    Raises:
        TypeError: If it is neither.
    """
    if hasattr(value, "tolist"):  # without NumPy, which takes its time to import
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


Kind = Callable[[object], bool]
"""Function that says whether a value is of a kind."""


def is_text(value: object) -> bool:
    """Return whether a value is a text."""
    return isinstance(value, str)


def is_yes_or_no(value: object) -> bool:
    """Return whether a value is true or false."""
    return isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Return whether a value is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_score(value: object) -> bool:
    """Return whether a value is a number, or null for what no image could tell."""
    return value is None or is_number(value)


def list_of(kind: Kind, length: int | None = None) -> Kind:
    """Return the kind of the lists of a length (None: any) whose items are of a kind."""
    return lambda value: (
        isinstance(value, list) and length in (None, len(value)) and all(map(kind, value))
    )


def dict_of(kind: Kind) -> Kind:
    """Return the kind of the objects whose values are of a kind."""
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def shaped(kinds: Mapping[str, Kind], *, needed: bool = False) -> Kind:
    """Return the kind of the objects whose entries are of kinds; others may be there too.

    Args:
        kinds: Kind of each entry.
        needed: Whether all entries must be there.
    """
    return lambda value: (
        isinstance(value, dict)
        and not (needed and kinds.keys() - value.keys())
        and misfit(value, kinds) is None
    )


def misfit(content: Mapping[str, Any], kinds: Mapping[str, Kind]) -> str | None:
    """Return the name of the first entry that is not of its kind; None if there is none."""
    return next(
        (name for name, kind in kinds.items() if name in content and not kind(content[name])), None
    )


_SIZE = dict.fromkeys(("height", "width", "channels"), is_count)

STATE: Mapping[str, Kind] = {
    "created": is_text,
    "status": is_text,
    "test": is_yes_or_no,
    "input": shaped({**_SIZE, "scaling": is_text}, needed=True),
    "image_shape": list_of(is_count, 3),
    "decoder_version": is_count,
    "provenance": dict_of(is_text),
    "failure": shaped({"kind": is_text, "reason": is_text}, needed=True),
    "test_openings": list_of(shaped({"at": is_text, "by": is_text, "images": is_text})),
    "epochs_changed": list_of(dict_of(is_number)),
    "feature_seconds": is_number,
    "feature_seconds_here": is_number,
    "last_after": is_count,
    "frozen_loss": is_number,
    "best_loss": is_number,
    "penalty": is_number,
    "last_map": is_number,
    "peak_memory_mb": is_number,
    "head": dict_of(lambda _: True),
    "mlflow_run": is_text,
    "searched": shaped(dict.fromkeys(("given", "from_file"), dict_of(lambda _: True)), needed=True),
}
"""Kinds of the entries of `run.json` on which something rests."""

_PART = shaped(
    {
        **dict.fromkeys(("accuracy", "mean_average_precision", "loss"), is_number),
        "loss_at_temperature": is_number,
        "n_images": is_count,
        "n_groups": is_count,
        **dict.fromkeys(("balanced_accuracy", "macro_f1", "micro_f1"), is_score),
        **dict.fromkeys(("hamming_loss", "exact_match"), is_score),
        **dict.fromkeys(("calibration_error", "calibration_error_at_temperature"), is_score),
        "accuracy_interval_95": list_of(is_number, 2),
        "mean_average_precision_interval_95": list_of(is_number, 2),
        "top_k_accuracy": dict_of(is_number),
        "missing_classes": list_of(is_text),
        "per_class": dict_of(dict_of(is_score)),
    }
)

METRICS: Mapping[str, Kind] = {
    "weights": is_text,
    "val": _PART,
    "test": _PART,
    "rejection": shaped({"by": is_text, "rejected": dict_of(is_number)}),
}
"""Kinds of the entries of `metrics.json`."""
