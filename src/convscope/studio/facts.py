"""Facts about runs that pages show: read from their folders, no model runs."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from convscope.errors import ConvscopeError, RunError
from convscope.run import Run
from convscope.studio.drawing import Curve
from convscope.types import Predictions


@dataclass(frozen=True)
class Row:
    """A run in the table of runs.

    Attributes:
        name: Name of its folder.
        status: Status in a word; "damaged" if it cannot be read.
        created: Time of its creation, "2026-01-31 12:00", UTC; may be empty.
        model: Model; may be empty.
        data: Name of the data; may be empty.
        val: Validation accuracy or mean average precision, a fraction; None before an evaluation.
        test: The same for test images; None while they are sealed.
    """

    name: str
    status: str
    created: str
    model: str
    data: str
    val: float | None
    test: float | None


def changed(run: Run) -> float:
    """Return the time at which a run was last trained or evaluated, in seconds since 1970."""
    newest = 0.0
    for file in (run.results_file, run.metrics_file, run.predictions_file):
        with contextlib.suppress(OSError):
            newest = max(newest, file.stat().st_mtime)
    return newest


def row_of(run: Run) -> Row:
    """Return the row of a run in the table."""
    try:
        state, status = run.state, run.status
        created = str(state.get("created", ""))[:16].replace("T", " ")
        metrics = metrics_of(run)
        model, data = _names(run)
        return Row(
            run.name, status, created, model, data, score(metrics, "val"), score(metrics, "test")
        )
    except (ConvscopeError, OSError, ValueError, TypeError, AttributeError):
        return Row(run.name, "damaged", "", "", "", None, None)


def _names(run: Run) -> tuple[str, str]:
    try:
        found = run.config_file.stat()
    except OSError:
        return "", ""
    return _names_in(run.config_file, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4096)
def _names_in(path: Path, date: int, n_bytes: int) -> tuple[str, str]:
    """Return the names of model and data in settings, which take 5 ms to read."""
    del date, n_bytes  # with others the file is another
    from convscope.recipe import read_run_config

    try:
        config = read_run_config(path)
    except ConvscopeError:
        return "", ""
    return config.model, config.data_name


def metrics_of(run: Run) -> dict[str, Any]:
    """Return the metrics of a run; empty before its evaluation.

    Raises:
        RunError: If they are damaged.
    """
    return run.metrics if run.metrics_file.exists() else {}


def score(metrics: dict[str, Any], part: str) -> float | None:
    """Return the accuracy of a part in `metrics.json`, or its mean average precision.

    None if it was not evaluated, or the entry is damaged and lacks both.
    """
    from convscope.evaluation.multi_label import score_of

    found = metrics.get(part, {})
    return score_of(found) if {"accuracy", "mean_average_precision"} & found.keys() else None


def interval(metrics: dict[str, Any], part: str) -> tuple[float, float] | None:
    """Return the ends of the 95 % interval of `score`; None if it was not evaluated.

    Nor was it by the earliest versions.
    """
    found = metrics.get(part, {})
    kind = "accuracy" if "accuracy" in found else "mean_average_precision"
    ends = found.get(f"{kind}_interval_95")
    return (float(ends[0]), float(ends[1])) if ends else None


def history(run: Run) -> list[dict[str, Any]]:
    """Return a row for each epoch; empty if there is none yet."""
    from convscope.training.results import read_results

    try:
        return read_results(run.results_file)
    except RunError:
        return []


def seconds_of_epochs(run: Run) -> list[float]:
    """Return the duration of each epoch, in seconds; empty if there is none yet."""
    try:
        return [float(row["seconds"]) for row in history(run)]
    except (KeyError, TypeError, ValueError):
        return []


def curves(runs: Sequence[Run], what: str) -> list[Curve]:
    """Return the validation curve of each run, and for a single one that of training too.

    Args:
        runs: Runs in the order of their colours.
        what: "loss" or "accuracy".
    """
    found = []
    for place, run in enumerate(runs):
        rows = history(run)
        if rows:
            x = [float(number) for number in range(1, len(rows) + 1)]
            val = [float(row[f"val_{what}"]) for row in rows]
            name = run.name if len(runs) > 1 else "validation"
            found.append(Curve(name, list(zip(x, val, strict=True)), place))
            if len(runs) == 1:
                train = [float(row[what]) for row in rows]
                found.append(Curve("training", list(zip(x, train, strict=True)), 1, dashed=True))
    return found


@dataclass(frozen=True)
class Evaluated:
    """Predictions of an evaluated run.

    Attributes:
        class_names: Names in the order of the labels.
        parts: Predictions by part, "val" and perhaps "test", at the run's temperature.
        as_trained: The same before the temperature.
        temperature: Temperature of the probabilities.
    """

    class_names: Sequence[str]
    parts: dict[str, Predictions]
    as_trained: dict[str, Predictions]
    temperature: float

    @property
    def multi_label(self) -> bool:
        """Whether an image may have any number of classes."""
        return self.parts["val"].multi_label

    def selected(self, part: str, threshold: float) -> tuple[float, float | None]:
        """Return the share of images that are answered from a confidence on, and their accuracy."""
        said = self.parts[part]
        sure = said.probs.max(axis=1) >= threshold
        right = said.right[sure]
        return float(sure.mean()), float(right.mean()) if right.size else None


def evaluated(run: Run) -> Evaluated:
    """Return the predictions of a run; the newest four are kept in memory.

    Raises:
        RunError: If the run has not been evaluated, or a file is damaged.
    """
    try:
        stamp = run.predictions_file.stat().st_mtime_ns
    except OSError:
        raise RunError(f"{run.name} has not been evaluated yet") from None
    return _evaluated(run.path, stamp)


@lru_cache(maxsize=4)
def _evaluated(path: Path, stamp: int) -> Evaluated:
    from convscope.classifier.keras_model import spec_of
    from convscope.evaluation.calibration import with_temperature
    from convscope.evaluation.predictions import read_predictions

    del stamp
    run = Run(path)
    found, about = read_predictions(run.predictions_file)
    temperature = 1.0
    # Without the saved model, probabilities are shown as they were trained.
    with contextlib.suppress(RunError):
        temperature = spec_of(run, about.get("weights", "last")).temperature
    parts = {name: with_temperature(said, temperature) for name, said in found.items()}
    return Evaluated(run.class_names, parts, found, temperature)
