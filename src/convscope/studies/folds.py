"""Cross-validation: every image is evaluated once, by a network that was not trained on it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope.api.evaluate import evaluate
from convscope.datasets.source import table_of
from convscope.errors import ConvscopeError, RunError, TrainingError
from convscope.evaluation.folds import FoldedAccuracy
from convscope.paths import short_name
from convscope.planning.data import load_for
from convscope.progress import Progress
from convscope.recipe import RunConfig, flat, resolve, setting_names
from convscope.run import ROOT, Run
from convscope.storage import require_outside, write_rows
from convscope.studies.executor import Executor, Job, LocalExecutor
from convscope.studies.folder import StudyKind, as_read_back
from convscope.types import Dataset, Predictions

CROSS_VALIDATION = StudyKind("cross-validation", "folds.json")


@dataclass(frozen=True)
class Fold:
    """A part of the images, and the run whose network was not trained on them.

    Attributes:
        number: Index of the fold, from 0.
        run: Run folder.
        n_images: Number of held-out images.
        accuracy: Accuracy on those, a fraction in [0, 1].
        val_accuracy: Accuracy on the validation images, which choices were made by; not to be
            reported.
    """

    number: int
    run: str
    n_images: int
    accuracy: float
    val_accuracy: float


@dataclass(frozen=True)
class CrossValidation:
    """Accuracy of a training configuration on images that were not trained on.

    Attributes:
        path: Folder, with a run for each fold below `folds/`.
        accuracy: Accuracy over all images, with its interval and the spread between folds.
        metrics: Metrics over all images, as `evaluate` returns them for a run's test images.
        folds: All folds.
    """

    path: Path
    accuracy: FoldedAccuracy
    metrics: Mapping[str, Any]
    folds: tuple[Fold, ...]

    @property
    def state_file(self) -> Path:
        """File of the settings, from which a stopped cross-validation resumes."""
        return CROSS_VALIDATION.state_file(self.path)

    @property
    def table_file(self) -> Path:
        """Table with a row for each fold."""
        return self.path / "folds.csv"

    @property
    def metrics_file(self) -> Path:
        """File of the accuracy with its interval, and the metrics over all images."""
        return self.path / "metrics.json"

    @property
    def predictions_file(self) -> Path:
        """Table of the predictions for each image by the network that was not trained on it."""
        return self.path / "predictions.parquet"

    @property
    def confusion_picture(self) -> Path:
        """Picture of the confusion matrix."""
        return self.path / "confusion_matrix.png"


def find_begun(path: Path) -> Path | None:
    """Return the folder of a cross-validation, by its path or its name below `runs/`; or None."""
    return next(
        (place for place in (path, ROOT / path) if CROSS_VALIDATION.state_file(place).exists()),
        None,
    )


def cross_validate(
    config: RunConfig,
    *,
    dataset: Dataset | None = None,
    out: Path | None,
    data_dir: Path | str | None,
    progress: Progress,
    executor: Executor | None = None,
) -> CrossValidation:
    """Train a network for each fold on the others, and evaluate it on that fold.

    Validation images, by which epochs and heads are chosen, are split off the others: so nothing is
    chosen by the images that a network is evaluated on. Those stay sealed until the last
    network is trained. Called again, it resumes.

    Args:
        config: Resolved settings, with `split.folds` and `split.fold_as` "test".
        dataset: Dataset of the first fold, if it is loaded already.
        out: Folder; None takes `runs/DATA-MODEL-RECIPE-seedN-foldsK`.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with all events.
        executor: Where to train; None trains one fold after the other on this machine.

    Raises:
        RunError: If the folder holds something else.
        TrainingError: If a network cannot be trained.
        FailureError: If data is not available, or a file cannot be written.
    """
    folds = config.split.folds
    assert folds is not None
    dataset = dataset or load_for(config, data_dir, progress)
    name = f"{dataset.name}-{config.model}-{config.recipe}-seed{config.seed}-folds{folds}"
    path = require_outside(out or ROOT / short_name(name, 200), config.data_path)
    settings = flat(config.model_dump())
    asked = as_read_back({"data content": dataset.provenance.get("fingerprint"), **settings})
    with CROSS_VALIDATION.locked(path):
        state = CROSS_VALIDATION.read(path) or {"asked": asked}
        CROSS_VALIDATION.require_same(path, state, asked)
        # All folds are one look at the images, however often the study was stopped in between.
        state.setdefault("look", uuid.uuid4().hex)
        CROSS_VALIDATION.write(path, state)
        progress.say(f"Folder of the folds: {path}")
        runs = [Run(path / "folds" / str(fold)) for fold in range(folds)]
        jobs = [
            Job(
                config.model_copy(update={"split": config.split.model_copy(update={"fold": fold})}),
                run.path,
                data_dir,
                f"Fold {fold + 1} of {folds}",
                asked["data content"],
            )
            for fold, run in enumerate(runs)
        ]
        train_folds(jobs, executor or LocalExecutor(), progress)
        for run in runs:
            evaluate(
                run,
                data=config.data_path,
                labels=table_of(config.model_dump()),
                data_dir=data_dir,
                by="folds",
                look=state["look"],
                progress=progress,
            )
        return _gathered(path, runs)


def train_folds(jobs: Sequence[Job], executor: Executor, progress: Progress) -> None:
    """Train a network for each fold.

    Raises:
        TrainingError: If one cannot be trained.
        StorageError: If a file cannot be written.
    """
    with progress.task("Training", len(jobs), "folds") as step:
        for job, outcome in executor.outcomes(jobs, progress):
            if outcome.failure is not None:
                raise TrainingError(f"{job.title.lower()}: {outcome.failure}")
            step(1)


def asked_before(path: Path) -> RunConfig:
    """Return the settings of a cross-validation that was begun.

    Raises:
        RunError: If its state is damaged, or of another version.
    """
    state = CROSS_VALIDATION.read(path) or {}
    try:
        asked = state["asked"]
        # A setting that there was not yet when it was begun has its default.
        known = {key: asked[key] for key in setting_names() if key in asked}
        return resolve(RunConfig(), {**known, "split.folds": int(asked["split.folds"])})
    except (KeyError, ValueError, TypeError, AttributeError, ConvscopeError):
        raise CROSS_VALIDATION.damaged(path) from None


def _gathered(path: Path, runs: list[Run]) -> CrossValidation:
    """Combine the predictions of the folds, and write the results."""
    from convscope.evaluation.folds import folded_accuracy
    from convscope.evaluation.metrics import (
        compute_metrics,
        confusion_matrix,
        interval_of,
        write_confusion,
    )
    from convscope.evaluation.predictions import read_predictions, save_predictions
    from convscope.report.figures import confusion_figure, save_figure

    parts = [read_predictions(run.predictions_file)[0]["test"] for run in runs]
    said = Predictions.joined(parts, "test")
    if len(np.unique(said.ids)) != len(said.ids):
        raise RunError(
            f"some images are in more than one fold of {path}; start again in another --out"
        )
    names = runs[0].class_names
    found = folded_accuracy(
        [int(part.right.sum()) for part in parts],
        [len(part.ids) for part in parts],
        interval_of(said),
    )
    metrics = compute_metrics(said, names) | {
        "accuracy_interval_95": [found.low, found.high],
        "accuracy_sd_between_folds": found.sd,
    }
    folds = tuple(
        Fold(
            number,
            str(run.path),
            len(part.labels),
            float(part.right.mean()),
            float(run.metrics["val"]["accuracy"]),
        )
        for number, (run, part) in enumerate(zip(runs, parts, strict=True))
    )
    done = CrossValidation(path, found, metrics, folds)
    save_predictions({"test": said}, names, done.predictions_file, about={})
    Run.write_json(done.metrics_file, {**metrics, "folds": [asdict(fold) for fold in folds]})
    matrix = confusion_matrix(said)
    write_confusion(matrix, names, path / "confusion_matrix.csv")
    title = f"{path.name}: {found.mean:.1%} accuracy on {found.n_images:,} images"
    save_figure(confusion_figure(matrix, names), done.confusion_picture, title=title)
    write_rows(done.table_file, list(asdict(folds[0])), map(asdict, folds))
    return done
