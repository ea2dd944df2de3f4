"""Writing an exported model: converted, opened in its own engine, compared, and only then kept."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from convscope.classifier.classify import Classifier
from convscope.classifier.exported import with_spec
from convscope.classifier.spec import STEPS, ClassifierSpec
from convscope.errors import FailureError, RunError
from convscope.export import Format, Int8
from convscope.export.graph import build_function
from convscope.export.parity import (
    MOST_ACCURACY_LOST,
    MOST_DECISIONS_CHANGED,
    MOST_IMAGES,
    Parity,
    compare_models,
    files_of,
    require_parity,
)
from convscope.export.thresholds import outputs_of, with_own_thresholds
from convscope.progress import Progress
from convscope.storage import atomic_path, size_on_disk, storage_errors, write_text
from convscope.types import Dataset, evenly_spread

if TYPE_CHECKING:
    import keras

_MEGABYTE = 1e6


def write_float32(
    classifier: Classifier,
    form: Format,
    path: Path,
    dataset: Dataset,
    folder: Path | None,
    progress: Progress,
) -> Parity:
    """Write a trained classifier in a format, if it gives the same answers there.

    Args:
        classifier: Classifier of a run, on TensorFlow.
        form: Format to write.
        path: File or folder to write; beside a file, its spec is written as "<name>.json".
        dataset: Data of the run; only its validation images are used.
        folder: Folder of the image files, if the data is one.
        progress: Called with the comparison.

    Returns:
        Comparison with the trained model.

    Raises:
        FailureError: If it cannot be converted, or gives other answers; then nothing was written.
        RunError: If the format is a folder and there is one already.
        StorageError: If it cannot be written.
    """
    network = cast("keras.Model", classifier.network)
    known = classifier.familiarity
    function = build_function(network, classifier.spec, any_size=form.any_size, familiarity=known)
    spec = _exported_spec(classifier, any_size=form.any_size)
    part = dataset.validation
    with _new_folder(path) if form.is_folder else atomic_path(path) as temporary:
        form.write(function, spec, temporary)
        parity = compare_models(
            classifier,
            form.open(temporary),
            part,
            files_of(part, folder),
            size_mb=size_on_disk(temporary) / _MEGABYTE,
            progress=progress,
        )
        require_parity(parity)
    if not form.is_folder:
        write_text(spec_beside(path), spec.to_json())
    return parity


def write_int8(
    classifier: Classifier,
    form: Format,
    path: Path,
    dataset: Dataset,
    folder: Path | None,
    progress: Progress,
    *,
    accepted: float,
    learnt: bool,
) -> Parity:
    """Write a trained classifier as a file whose arithmetic is in 8-bit integers.

    It is calibrated on training images. The same file in float32 has to answer as the trained
    classifier, and is what it is compared with. It is kept only if it loses at most half a point of
    accuracy on validation images, and is as fast and as small beside the one in float32 as the
    format's `Int8` asks; where an image may have any number of classes, it may also decide
    otherwise for one class in ten images at most. Its thresholds are chosen again, by its own
    answers there.

    Args:
        classifier: As for `write_float32`.
        form: Format to write, with `Format.int8`.
        path: As for `write_float32`.
        dataset: Data of the run; its training and validation images are used.
        folder: As for `write_float32`.
        progress: Called with the comparison.
        accepted: Share of validation images that `--reject` is to accept.
        learnt: Whether the network has learnt the validation images.

    Returns:
        Comparison of the float32 file, which answers as the trained model, and the int8 file.

    Raises:
        FailureError: If it is not worth it, the float32 file gives other answers, or it cannot
            be converted; then nothing was written.
        StorageError: If it cannot be written.
    """
    assert form.int8 is not None
    network = cast("keras.Model", classifier.network)
    known = classifier.familiarity
    function = build_function(network, classifier.spec, any_size=form.any_size, familiarity=known)
    spec = _exported_spec(classifier, any_size=form.any_size)
    part = dataset.validation
    rows = evenly_spread(len(part), MOST_IMAGES)
    whole, small = form.int8.quantize(function, dataset.train.images, progress)
    with atomic_path(path) as temporary, tempfile.TemporaryDirectory() as work:
        float32 = Path(work) / f"float32{form.suffix}"
        float32.write_bytes(with_spec(whole, spec))
        sources, float32_mb = files_of(part, folder), size_on_disk(float32) / _MEGABYTE
        both = (classifier, form.open(float32), part, sources)
        require_parity(compare_models(*both, size_mb=float32_mb, progress=progress, timed=False))
        temporary.write_bytes(with_spec(small, spec))
        outputs = outputs_of(form.open(temporary), part.images, rows, progress)
        spec = with_own_thresholds(
            spec, outputs, part.labels[rows], accepted=accepted, learnt=learnt
        )
        temporary.write_bytes(with_spec(small, spec))
        parity = compare_models(
            form.open(float32),
            form.open(temporary),
            part,
            sources,
            size_mb=size_on_disk(temporary) / _MEGABYTE,
            progress=progress,
            said=outputs["probs"],
        )
        parity = dataclasses.replace(parity, float32_mb=float32_mb)
        _require_worth(parity, len(spec.class_names), form.int8)
    write_text(spec_beside(path), spec.to_json())
    return parity


def spec_beside(path: Path) -> Path:
    """Return the path of the spec beside an exported file."""
    return path.with_name(f"{path.name}.json")


def require_new(folder: Path) -> None:
    """Refuse a folder to write that exists already.

    Raises:
        RunError: If it does.
    """
    if folder.exists():
        raise RunError(f"{folder} exists already; remove it, or choose another folder with --out")


def _exported_spec(classifier: Classifier, *, any_size: bool) -> ClassifierSpec:
    steps = STEPS if any_size else tuple(step for step in STEPS if step != "resizing")
    known = classifier.familiarity
    farthest = 0.0 if known is None else known.farthest
    return dataclasses.replace(classifier.spec, in_graph=steps, reject_above=farthest)


def _require_worth(parity: Parity, n_classes: int, wanted: Int8) -> None:
    before, after = parity.accuracy
    if before - after > MOST_ACCURACY_LOST:
        raise FailureError(
            f"int8 takes {parity.measure} on {parity.n_images} validation images from "
            f"{before:.4f} to {after:.4f}, more than half a point; nothing was written, export "
            "without --int8"
        )
    changed = (1 - parity.agreement) * n_classes
    if parity.measure == "mAP" and changed > MOST_DECISIONS_CHANGED:
        raise FailureError(
            f"int8 decides otherwise for {changed:.2f} classes of an image, on average of "
            f"{parity.n_images} validation images, and {MOST_DECISIONS_CHANGED} are allowed; "
            "nothing was written, export without --int8"
        )
    gains = {batch: parity.speedup(batch) for batch in parity.latency_ms}
    if max(gains.values()) < wanted.least_speedup:
        measured = ", ".join(f"{gain:.2f} times at batch {batch}" for batch, gain in gains.items())
        raise FailureError(
            f"int8 is less than {wanted.least_speedup:g} times as fast as float32 on this machine "
            f"({measured}); nothing was written, export without --int8"
        )
    if parity.size_mb > wanted.largest_share * parity.float32_mb:
        raise FailureError(
            f"int8 takes {parity.size_mb:.2f} MB, float32 {parity.float32_mb:.2f} MB, and at most "
            f"{wanted.largest_share:.0%} of that is allowed: little of this network becomes int8; "
            "nothing was written, export without --int8"
        )


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Yield a path for a new folder, which takes its place at a clean exit only."""
    require_new(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".part", dir=path.parent))
    try:
        with storage_errors(path):
            yield work / path.name
            os.chmod(work / path.name, 0o755)
            # Fails, as it should, if another process has made one in the meantime.
            (work / path.name).rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
