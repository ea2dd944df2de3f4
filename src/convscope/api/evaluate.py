"""Evaluation of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.datasets.division.splits import require_any_class, require_classes, verify_split
from convscope.datasets.source import settings_at
from convscope.errors import DataError, RunError
from convscope.evaluation.opening import open_test
from convscope.models import is_backbone
from convscope.planning.data import load_of_run
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress, kept_if_writable
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.types import Dataset, Predictions
from convscope.wording import command_line

if TYPE_CHECKING:
    from convscope.classifier.classify import Classifier
    from convscope.classifier.shares import Shares


def evaluate(
    run: Run | Path | str,
    *,
    weights: str | None = None,
    test: bool = True,
    fresh: bool = False,
    batch_size: int | None = None,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    data_dir: Path | str | None = None,
    dataset: Dataset | None = None,
    by: str = "evaluate",
    look: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a run on its validation and test images.

    Predictions are made once and saved, unless the run's folder is read-only; metrics, tables and
    pictures are derived from them. Each time that a model is run on the test images, `run.json`
    logs it, and the number of evaluations of these images on this machine is reported.

    Args:
        run: Run or its folder.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        test: Whether to open the test images; if not, only validation images are used.
        fresh: Whether to predict again even if predictions of these weights are saved; those on
            test images only with `test`.
        batch_size: Images per batch; None takes as many as suit the size of the model's input: 512
            of 32 x 32 pixels, 32 of 224 x 224.
        data: Current place of the folder of images, if it moved; they are verified to be those of
            the run, even if all predictions are saved.
        labels: Current place of the table of their labels, if that moved.
        data_dir: Further folder to look for the files of a built-in dataset.
        dataset: Dataset of the run, if it is loaded already.
        by: Name of the command, for the log.
        look: Name shared by calls that count as one look at the test images, such as the folds of
            one training or the runs of one comparison; None for a separate look.
        progress: Called with all events; None draws on standard error.

    Returns:
        The contents of `metrics.json`: {"val": {"accuracy": ..., "loss": ...}, "test": {...}}; with
        any number of classes for an image {"mean_average_precision": ..., "macro_f1": ...} in place
        of the accuracy. "test" is missing if it was left sealed; "folds" is there after a refit
        with out-of-fold predictions.

    Raises:
        ConfigError: If `batch_size` is below 1.
        RunError: If there is no such run or no such weights.
        DataError: If the images are not those that the run was split into, or if each may have any
            number of classes and none of a part has one.
        StorageError: If the opening of the test images cannot be logged.
    """
    from convscope.classifier.classify import require_batch_size
    from convscope.classifier.keras_model import which_weights, write_spec
    from convscope.evaluation.predictions import save_predictions

    if batch_size is not None:
        require_batch_size(batch_size)
    progress = progress or console_progress()
    run = Run.open(run)
    config = run_config(run)
    which = which_weights(run, weights)
    about = {"weights": which, "weights_sha256": run.weights_sha256(which)}
    own = which == which_weights(run, None)

    def place(file: Path) -> Path:
        # The run's own files describe the weights that its recipe evaluates, and no others.
        return file if own else run.of_other_weights(file, which)

    kept = place(run.predictions_file)
    by_split = _saved(kept, about, len(run.class_names), fresh=fresh, test=test, progress=progress)
    wanted = ("val", "test") if test else ("val",)
    missing = [name for name in wanted if name not in by_split]
    # Another place than the run's own is looked at, even if all predictions are saved.
    verified = wanted if dataset is None and _is_elsewhere(config, data, labels) else missing
    if verified:
        if dataset is None:
            dataset = load_of_run(config, run.split_file, data, labels, data_dir, progress)
        require_classes(dataset, run.class_names)
        for name in verified:
            _require_own_images(dataset, name, run, data)
        if missing:
            by_split |= _predict_splits(
                run, which, dataset, missing, batch_size, by, look, progress
            )
    # Saved ones come in another order.
    by_split = {name: by_split[name] for name in ("val", "test") if name in by_split}

    names = run.class_names
    fitted = _fitted(run, which, by_split, names, config)
    with kept_if_writable(progress, run.path):
        if missing:
            save_predictions(by_split, names, kept, about=about)
        write_spec(
            run,
            which,
            temperature=fitted.temperature,
            reject_below=fitted.reject_below,
            val_shares=fitted.val_shares,
            thresholds=fitted.thresholds,
        )
        run.write_json(place(run.metrics_file), fitted.metrics)
        if (opened := by_split.get("test")) is not None:
            _write_confusions_of_test(opened, fitted, run, names, place)
    return fitted.metrics


def figures_of(
    said: Predictions,
    names: list[str],
    temperature: float,
    thresholds: Sequence[float] | None,
) -> dict[str, Any]:
    """Return all metrics of predictions, as `metrics.json` has them of a part.

    Args:
        said: Predictions as the network made them.
        names: Class names in the order of the columns.
        temperature: Divisor of the logits.
        thresholds: Threshold of each class, where an image may have any number of classes.
    """
    from convscope.evaluation import multi_label
    from convscope.evaluation.calibration import calibration_figures, with_temperature
    from convscope.evaluation.metrics import compute_metrics

    if thresholds is None:
        found = compute_metrics(said, names)
    else:
        final = with_temperature(said, temperature).probs
        found = multi_label.compute_metrics(said, final, names, thresholds)
    return found | calibration_figures(said, temperature)


def write_confusions(
    said: Predictions,
    names: list[str],
    temperature: float,
    thresholds: Sequence[float] | None,
    table: Path,
    picture: Path,
    *,
    title: str,
) -> None:
    """Write which classes are taken for which, or wrongly named, as a table and as a picture.

    Args:
        said: Predictions, as for `figures_of`, and so the next three.
        names: Class names.
        temperature: Temperature.
        thresholds: Thresholds.
        table: CSV file.
        picture: Picture file.
        title: Title of the picture.

    Raises:
        StorageError: If a file cannot be written.
    """
    from convscope.classifier.decisions import decided
    from convscope.evaluation import multi_label
    from convscope.evaluation.calibration import with_temperature
    from convscope.evaluation.metrics import confusion_matrix, write_confusion
    from convscope.report.figures import confusion_figure, mistakes_figure, save_figure

    if thresholds is None:
        matrix = confusion_matrix(said)
        write_confusion(matrix, names, table)
        figure = confusion_figure(matrix, names)
    else:
        final = with_temperature(said, temperature).probs
        matrix = multi_label.wrongly_named(said.labels, decided(final, thresholds))
        multi_label.write_wrongly_named(matrix, names, table)
        figure = mistakes_figure(matrix, said.labels.sum(axis=0), names)
    save_figure(figure, picture, title=title)


def _is_elsewhere(config: RunConfig, data: Path | str | None, labels: Path | str | None) -> bool:
    """Return whether images are said to be in another place than in the settings of their run.

    Raises:
        ConfigError: If there is nothing in that place.
    """
    if data is None:
        return labels is not None
    place = {"labels": config.labels, **settings_at(config.data, data, labels)}
    return any(value != getattr(config, key) for key, value in place.items())


def _saved(
    file: Path,
    about: Mapping[str, str],
    n_classes: int,
    *,
    fresh: bool,
    test: bool,
    progress: Progress,
) -> dict[str, Predictions]:
    """Return the saved predictions of the weights `about` that are not to be made again.

    Those on test images are kept if these stay closed, as to get them back would open them again.
    """
    from convscope.evaluation.predictions import read_predictions

    if not file.exists() or (fresh and test):
        return {}
    saved: dict[str, Predictions] | None = None
    kept: dict[str, Predictions] = {}
    try:
        saved, saved_about = read_predictions(file)
        kept = saved if saved_about.items() >= about.items() else {}
    except RunError:
        if not fresh:
            raise
    if fresh:
        kept = {
            name: said
            for name, said in kept.items()
            if name == "test" and said.probs.shape[1] == n_classes
        }
    if not test and "test" not in kept and (saved is None or "test" in saved):
        progress.say(
            f"Note: results on test images are left out, as {file.name} is damaged or of other "
            "weights; evaluate without --no-test makes them again, which opens these images"
        )
    return kept


def _require_own_images(dataset: Dataset, name: str, run: Run, data: Path | str | None) -> None:
    """Reject a part of a dataset, loaded from the place `data`, that is not the run's.

    Raises:
        DataError: If its images are others, or have no class at all.
    """
    require_any_class(dataset, name)
    try:
        verify_split(dataset, run.split_file, name)
    except DataError as error:
        if data is None:
            raise
        on = command_line("evaluate", run.called, "--on", data)
        raise DataError(f"{error}; as other images: {on}") from None


def _predict_splits(
    run: Run,
    which: str,
    dataset: Dataset,
    names: Sequence[str],
    batch_size: int | None,
    by: str,
    look: str | None,
    progress: Progress,
) -> dict[str, Predictions]:
    """Run a model on the parts called `names`; the opening of the test images is logged."""
    from convscope.classifier.classify import batch_size_for
    from convscope.classifier.keras_model import open_classifier, weights_for
    from convscope.evaluation.embedding import Embedder
    from convscope.evaluation.predictions import predict_split
    from convscope.evaluation.rejection import judge_familiarity

    if batch_size is None:
        size = run.state["input"]
        batch_size = batch_size_for(max(size["height"], size["width"]))
    config = run_config(run)
    # Features in the cache are those of the images as they are.
    frozen = is_backbone(config.model) and config.backbone.cut == "end"
    by_features = frozen and not config.tta.several
    predictions = {}
    opened: dict[str, Embedder | Classifier] = {}
    for name in names:
        own = weights_for(run, which, name)
        if own not in opened:
            opened[own] = Embedder(run, own) if by_features else open_classifier(run, own)
        classifier = opened[own]
        if name == "test":
            part = open_test(dataset, run, by=by, weights=which, look=look, progress=progress)
        else:
            part = dataset.validation
        if isinstance(classifier, Embedder):
            predictions[name] = classifier.predict_split(
                part, name, batch_size=batch_size, progress=progress
            )
            judge_familiarity(
                run, which, classifier, config.accepted, dataset, part, name, progress
            )
        else:
            predictions[name] = predict_split(
                classifier.averaged, part, name, batch_size=batch_size, progress=progress
            )
    return predictions


@dataclass(frozen=True)
class _Fitted:
    """Metrics of predictions, and what was fitted to those for validation images.

    Attributes:
        metrics: Contents of `metrics.json`.
        temperature: Divisor of the logits.
        thresholds: Threshold of each class, where an image may have any number of classes.
        reject_below: Least energy of an image of a class; 0 if there is none.
        val_shares: Shares of the answers for validation images.
    """

    metrics: dict[str, Any]
    temperature: float
    thresholds: list[float] | None
    reject_below: float
    val_shares: "Shares"


def _fitted(
    run: Run,
    which: str,
    by_split: Mapping[str, Predictions],
    names: list[str],
    config: RunConfig,
) -> _Fitted:
    """Fit to validation images what the answers need, and return it with all metrics."""
    from convscope.classifier.shares import shares_of
    from convscope.evaluation import multi_label
    from convscope.evaluation.calibration import fit_temperature, with_temperature
    from convscope.evaluation.predictions import unseen_predictions
    from convscope.evaluation.rejection import rejection_of

    several = config.multi_label
    metrics: dict[str, Any] = {"weights": which}
    unseen = unseen_predictions(run, which, by_split["val"])
    temperature = round(fit_temperature(unseen.probs, unseen.labels), 4)
    at_it = {
        name: with_temperature(said, temperature).probs
        for name, said in {**by_split, "val": unseen}.items()
    }
    told = rejection_of(run, which, at_it, config.accepted, multi_label=several)
    if told is not None:
        metrics["rejection"] = told
    thresholds = multi_label.choose_thresholds(at_it["val"], unseen.labels) if several else None
    # What to expect, from more images than there are validation images.
    folds = {} if unseen is by_split["val"] else {"folds": unseen}
    for name, said in {**by_split, **folds}.items():
        metrics[name] = figures_of(said, names, temperature, thresholds)
    return _Fitted(
        metrics,
        temperature,
        thresholds,
        reject_below=0.0 if told is None else told["least_energy"],
        val_shares=shares_of(at_it["val"], thresholds or ()),
    )


def _write_confusions_of_test(
    said: Predictions,
    fitted: _Fitted,
    run: Run,
    names: list[str],
    place: Callable[[Path], Path],
) -> None:
    """Write which classes of the test images are taken for which.

    Args:
        said: Predictions for the test images.
        fitted: Metrics, and what was fitted to validation images.
        run: Run.
        names: Names of the classes.
        place: Function from a file of the run to that of the weights that are evaluated.
    """
    metrics, several = fitted.metrics["test"], fitted.thresholds is not None
    score = (
        f"mAP {metrics['mean_average_precision']:.3f} on test images"
        if several
        else f"{metrics['accuracy']:.1%} test accuracy"
    )
    write_confusions(
        said,
        names,
        fitted.temperature,
        fitted.thresholds,
        place(run.mistakes_table if several else run.confusion_table),
        place(run.mistakes_picture if several else run.confusion_picture),
        title=f"{run.name}: {score}",
    )
