"""Evaluation of a run or an exported file on labelled images that are not its run's own."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convscope.api.evaluate import figures_of, write_confusions
from convscope.classifier.classify import batch_size_for, decoder_note, require_batch_size
from convscope.classifier.exported import Classifier, is_exported, require_no_weights
from convscope.classifier.spec import ClassifierSpec
from convscope.datasets.division.splits import groups_by_name, read_split
from convscope.datasets.labelled_images import LabelledImages, open_labelled
from convscope.datasets.source import data_settings, require_apart
from convscope.errors import DataError, RunError
from convscope.evaluation.grouping import accuracies_unlike
from convscope.evaluation.opening import log_others
from convscope.evaluation.other_images import Evaluation, answers_to
from convscope.evaluation.predictions import read_predictions, save_predictions
from convscope.paths import numbered, path_or_none, short_name
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress, kept_if_writable
from convscope.run import Run
from convscope.storage import read_object, storage_errors
from convscope.types import Predictions
from convscope.wording import printable

if TYPE_CHECKING:
    from convscope.classifier import classify

FOLDER = Path("evaluations")
"""Folder of the results of exported files, below the current directory."""


def evaluate_on(
    model: Run | Path | str,
    data: Path | str,
    *,
    labels: Path | str | None = None,
    weights: str | None = None,
    batch_size: int | None = None,
    data_dir: Path | str | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> "Evaluation":
    """Evaluate a run or an exported file on other labelled images, such as new photos.

    The images of all parts of the data are one set. They are decoded as `predict` does, and the
    temperature and the thresholds are the model's own. Training and validation images of the run,
    known by their pixels, are left out. The machine counts the evaluations of these images.

    Args:
        model: Run or its folder, or an exported ONNX file.
        data: Folder of class folders, archive of one, list of images and labels, place of shards,
            or built-in dataset. Its classes are those of the model, by name, or some of them.
        labels: Table of the labels of the folder.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        batch_size: Images per batch; None takes as many as suit the size of the model's input.
        data_dir: Further folder to look for the files of a built-in dataset.
        out: Folder for the results; None takes one named after the data in the run's folder
            `evaluations/`; of an exported file in `evaluations/` of the current directory. The
            same images replace their own results there.
        progress: Called with all events; None draws on standard error.

    Raises:
        RunError: If there is no such run or no such weights, or `out` holds something else.
        DataError: If the images cannot be used as they are, have a class that the model does not
            know, or are all training or validation images of the run.
    """
    progress = progress or console_progress()
    if batch_size is not None:
        require_batch_size(batch_size)
    if isinstance(model, Path | str) and is_exported(model):
        judged = _exported(model, weights)
    else:
        judged = _of_run(Run.open(model), weights)
    spec, run = judged.spec, judged.run
    place, chosen = data_settings(data, labels), path_or_none(out, "--out")
    about = judged.about | {
        "data": place["data_path"] or place["data"],
        "labels": place.get("labels"),
    }
    require_apart(chosen or judged.results, place["data_path"], place.get("labels"))
    if chosen is not None:
        _require_spare(chosen)
    with open_labelled(place, data_dir, progress) as given:
        labels_of_all = given.labels_for(spec.class_names, multi_label=spec.multi_label)
        groups = _groups_of(given, judged.group_pattern, progress)
        for note in filter(None, (decoder_note(spec), judged.note)):
            progress.say(note)
        found = answers_to(
            judged.open(),
            given,
            judged.part_of,
            batch_size=batch_size or batch_size_for(max(spec.height, spec.width)),
            progress=progress,
        )
        given.say_left_out(found.faults, progress)
    rows = found.rows
    if not len(rows):
        raise DataError(
            f"all images of {given.name} are training or validation images of the run; name images "
            "that it has not seen"
        )
    in_groups = None if groups is None else groups[rows]
    said = Predictions(found.probs, labels_of_all[rows], given.ids[rows], "new", in_groups)
    if said.multi_label and not said.labels.any():
        raise DataError(f"no image of {given.name} has any class, so there would be no mAP")
    _log_look(judged, given.source_hashes[rows].tolist(), found.n_of_test, progress)
    names, thresholds, own = list(spec.class_names), spec.thresholds or None, judged.own_test
    metrics = figures_of(said, names, spec.temperature, thresholds)
    # A mean average precision is no share of images; and the two sets must not overlap.
    comparable = not spec.multi_label and not found.n_of_test
    done = Evaluation(
        path=chosen or _folder_for(judged.results, given.name, about),
        class_names=spec.class_names,
        metrics=metrics,
        n_learnt=None if run is None else found.n_learnt,
        n_of_test=None if run is None else found.n_of_test,
        test=None if own is None else figures_of(own, names, spec.temperature, thresholds),
        p_as_test=accuracies_unlike(said, own) if own is not None and comparable else None,
    )
    with kept_if_writable(progress, done.path):
        _write(done, said, judged, about, of=given.name)
    return done


@dataclass(frozen=True)
class _Judged:
    """A model to evaluate, and what is known of the images that it learnt.

    Attributes:
        path: Folder of the run, or exported file.
        spec: Spec.
        open: Function that returns the classifier.
        about: Facts by which the model is told from others that are evaluated on the same images.
        results: Folder above those of the results.
        run: Run; None for an exported file.
        part_of: Part of each image of the run, by the hash of its pixels.
        group_pattern: Setting `split.group` of the run.
        own_test: Saved predictions of the weights for the run's test images.
        note: Line to be told before the evaluation, or "".
    """

    path: Path
    spec: ClassifierSpec
    open: "Callable[[], classify.Classifier]"
    about: dict[str, Any]
    results: Path
    run: Run | None = None
    part_of: Mapping[str, str] = field(default_factory=dict)
    group_pattern: str | None = None
    own_test: Predictions | None = None
    note: str = ""


def _exported(model: Path | str, weights: str | None) -> _Judged:
    require_no_weights(model, weights)
    classifier = Classifier(model)
    about = {"file": str(classifier.path.resolve())}
    return _Judged(classifier.path, classifier.spec, lambda: classifier, about, FOLDER)


def _of_run(run: Run, weights: str | None) -> _Judged:
    from convscope.classifier.keras_model import (
        open_classifier,
        spec_of,
        unevaluated_note,
        which_weights,
    )

    which = which_weights(run, weights)
    sha256 = run.weights_sha256(which)
    kept, own_test = run.predictions_file, None
    if which != which_weights(run, None):
        kept = run.of_other_weights(kept, which)
    if kept.exists():
        saved, about = read_predictions(kept)
        own_test = saved.get("test") if about.get("weights_sha256") == sha256 else None
    rows = read_split(run.split_file)
    parts = {row["sha256_16"]: row["split"] for row in rows}
    # A copy of a test image that was learnt counts as learnt.
    parts |= {row["sha256_16"]: row["split"] for row in rows if row["split"] != "test"}
    return _Judged(
        path=run.path,
        spec=spec_of(run, which),
        open=lambda: open_classifier(run, which),
        about={"weights": which, "weights_sha256": sha256},
        results=run.evaluations_dir,
        run=run,
        part_of=parts,
        group_pattern=run_config(run).split.group,
        own_test=own_test,
        note=unevaluated_note(run, which),
    )


def _groups_of(
    given: LabelledImages, pattern: str | None, progress: Progress
) -> npt.NDArray[np.str_] | None:
    """Return the groups of images: those of a table, or by their names as those of the run."""
    if given.groups is not None or pattern is None:
        return given.groups
    groups = np.array(groups_by_name(given.ids, pattern))
    if (groups != "").any():
        return groups
    progress.say(
        f"Note: the run has groups by split.group '{printable(pattern)}', which no name of an "
        "image here matches, so each image counts for itself"
    )
    return None


def _log_look(
    judged: _Judged, source_hashes: list[str], n_of_test: int, progress: Progress
) -> None:
    """Log the evaluation on the machine and, of test images of the run, in the run too."""
    run = judged.run
    if run is not None and n_of_test:
        # A run that cannot be written to fails here, before a look is counted that nobody has.
        run.record()
    log_others(source_hashes, judged.path, by="evaluate", progress=progress)
    if run is not None and n_of_test:
        which = str(judged.about["weights"])
        run.record_test_opening(by="evaluate", weights=which, n_images=n_of_test)


def _folder_for(above: Path, name: str, about: Mapping[str, Any]) -> Path:
    """Return the folder of the results for some images: one with earlier ones, or a new one."""
    for folder in numbered(above / short_name(name, 200)):
        if not os.path.lexists(folder):
            return folder
        before = _facts_of(folder)
        # Newly trained weights of the name replace the results of earlier ones.
        if all(before.get(key) == about[key] for key in about if key != "weights_sha256"):
            return folder
    raise AssertionError


def _require_spare(place: Path) -> None:
    """Refuse a place for results that holds something else.

    Raises:
        RunError: If it does.
    """
    Run.require_spare(Run(place).metrics_file)
    if not os.path.lexists(place) or "data" in _facts_of(place):
        return
    with storage_errors(place):
        if not place.is_dir() or any(place.iterdir()):
            raise RunError(
                f"{place} exists, but is not the folder of an evaluation; choose another --out"
            )


def _facts_of(folder: Path) -> dict[str, Any]:
    """Return the content of `metrics.json` in a folder; nothing if there is no such file."""
    return read_object(Run(folder).metrics_file)


def _write(
    done: Evaluation, said: Predictions, judged: _Judged, about: Mapping[str, Any], *, of: str
) -> None:
    """Write predictions, metrics, and which classes are taken for which.

    Args:
        done: Evaluation.
        said: Predictions for the images.
        judged: Model.
        about: Facts about the model and the images.
        of: Name of the images.
    """
    files, spec, metrics = Run(done.path), judged.spec, done.metrics
    # By them the folder is known as that of these images, even after a kill.
    Run.write_json(files.metrics_file, about)
    facts = {key: str(value) for key, value in about.items() if value is not None}
    names = list(spec.class_names)
    save_predictions({"new": said}, names, files.predictions_file, about=facts)
    name = judged.path.stem if judged.run is None else judged.run.name
    score = (
        f"mAP {metrics['mean_average_precision']:.3f}"
        if spec.multi_label
        else f"{metrics['accuracy']:.1%} accuracy"
    )
    write_confusions(
        said,
        names,
        spec.temperature,
        spec.thresholds or None,
        files.mistakes_table if spec.multi_label else files.confusion_table,
        files.mistakes_picture if spec.multi_label else files.confusion_picture,
        title=f"{name} on {printable(of)}: {score}",
    )
    Run.write_json(files.metrics_file, {**about, **done.content})
