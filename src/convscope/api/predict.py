"""Classification of image files with a run or an exported model."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from convscope.classifier import classify
from convscope.classifier.bulk.answers import Answers, AnswersFile
from convscope.classifier.bulk.model import BulkModel, ExportOptions, open_exported, open_run
from convscope.classifier.bulk.sorting import SortedCopies
from convscope.classifier.bulk.sources import STDIN, files_read, is_stream, iter_images_of
from convscope.classifier.exported import is_exported, require_no_weights
from convscope.errors import ConfigError
from convscope.images.find import find_images, folder_searched, one_or_more
from convscope.paths import path_or_none
from convscope.progress import Progress, console_progress
from convscope.run import Run
from convscope.storage import require_other, require_outside
from convscope.types import ImagePrediction, UnreadableImage


def predict(
    run: Run | Path | str,
    images: Path | str | Iterable[Path | str],
    *,
    weights: str | None = None,
    batch_size: int | None = None,
    reject: bool = False,
    engine: str | None = None,
    out: Path | str | None = None,
    sort_into: Path | str | None = None,
    unsure_below: float = 0.0,
    workers: int | None = None,
    threads: int | None = None,
    ray: str | None = None,
    memory_gb: float | None = None,
    progress: Progress | None = None,
) -> Iterator[ImagePrediction | UnreadableImage]:
    """Classify image files, in batches, as they are read; memory does not grow with their number.

    Paths of files, folders and patterns are collected first, and a file that is named twice is
    answered once; lists and archives are read as they come. An iterator of images in memory, or of
    paths as they come, is for `Classifier.predict`.

    Probabilities are at the temperature that `evaluate` fitted on validation images, so that they
    are calibrated; the answers do not depend on it. Where an image may have any number of classes,
    the answer is all classes that reach the thresholds of that evaluation, which may be none.

    Args:
        run: Run, its folder, or an exported ONNX file, for which no framework is needed.
        images: Files, folders (searched for images), glob patterns, lists of files (.txt, .csv,
            .jsonl, .parquet), archives (.zip, .tar, .tar.gz and the like), and "-" for a list on
            standard input, whose images are answered as they come.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        batch_size: Images per batch; None takes as many as suit the size of the model's input: 512
            of 32 x 32 pixels, 32 of 224 x 224.
        reject: Whether images that look like no class are `rejected`, by the threshold that
            `evaluate` chose on validation images.
        engine: Engine of an exported file: "onnxruntime" (None), "openvino", or "auto" for the
            fastest one here, which is measured once.
        out: File to write while the iterator is consumed: .csv, .jsonl or .parquet, a row per
            image. After a kill the same call goes on where it was, with any workers, and yields
            only the images that were left.
        sort_into: New folder for copies of the images, made while the iterator is consumed:
            `sorted/CLASS/`, which training takes as it is, `unsure/CLASS/` and, with `reject`,
            `none/`. After a kill the same call goes on.
        unsure_below: Probability of the answer below which an image is in `unsure/`, in [0, 1].
        workers: Number of processes that classify with an exported file; None does it in this one.
            A script that uses them begins its work below `if __name__ == "__main__":`, as for
            `multiprocessing`. With `ray` the largest number of workers; None takes all that fit.
        threads: Processor cores of each worker (None: 1); without workers, of the engine (None:
            all).
        ray: Address of a Ray cluster that classifies, "HOST:PORT" or "auto", with an exported
            file. Its nodes get the model, and the images of archives, from here; they read other
            images themselves, under the same paths.
        memory_gb: Memory to reserve for each worker on the cluster, in gigabytes.
        progress: Called with each batch; None draws on standard error.

    Returns:
        An iterator over the files in order, with a prediction or the reason of a failure for each.

    Raises:
        RunError: If there is no such run or no such weights.
        DataError: If a path does not exist, nothing matches, or `out` is one of the lists.
        ConfigError: If there is no cluster at that address, or settings do not go together.
    """
    if batch_size is not None:
        classify.require_batch_size(batch_size)
    progress = progress or console_progress()
    sources = [str(image) for image in one_or_more(images)]
    if (place := path_or_none(out, "--out")) is not None:
        Run.require_spare(require_other(place, files_read(sources)))
    unsure_below = float(unsure_below)
    copies = _place_of_copies(sort_into, unsure_below, sources)
    if memory_gb is not None and ray is None:
        raise ConfigError("--memory reserves a share of a cluster; give --ray too")
    options = ExportOptions(engine, workers, threads, ray, memory_gb)
    opened = None
    if isinstance(run, Path | str) and is_exported(run):
        require_no_weights(run, weights)
    else:
        opened = Run.open(run)
        options.require_none_for(opened)
    # Before the model is loaded, which may take seconds.
    total: int | None = None
    files = iter_images_of(sources)
    if not any(map(is_stream, sources)):
        found = find_images(sources)
        total, files = len(found), iter(found)
    if opened is None:
        model = open_exported(str(run), options, reject=reject, progress=progress)
    else:
        model = open_run(opened, weights, reject=reject, progress=progress)
    spec = model.spec
    if note := classify.decoder_note(spec):
        progress.say(note)
    if copies is not None and spec.multi_label:
        raise ConfigError(
            "--sort-into has a folder for each class, and these images may have several; --out "
            "writes a table, which --labels of train takes"
        )
    if batch_size is None:
        batch_size = classify.batch_size_for(max(spec.height, spec.width))
    answers = None
    if place is not None:
        answers = _answers_file(place, sources, model, reject=reject, copies=copies)
        if answers.n_done:
            progress.say(f"{answers.n_done:,} images were done before; going on after them")
            total = total if total is None else total - answers.n_done
        files = answers.left(files)
    results = model.predict(
        files,
        total,
        batch_size=batch_size,
        reject=reject,
        live=STDIN in sources,
        progress=progress,
    )
    if copies is not None:
        # Before an image is recorded as done.
        job = {"model": model.identity, "reject": reject}
        sorting = SortedCopies(
            copies, spec.class_names, job, unsure_below=unsure_below, progress=progress
        )
        results = sorting.copying(results)
    if answers is None:
        return results
    return Answers(answers.write(results), answers.n_unreadable)


def _place_of_copies(
    sort_into: Path | str | None, unsure_below: float, sources: Sequence[str]
) -> Path | None:
    """Return the folder for copies of the images, if they are wanted.

    Raises:
        ConfigError: If `unsure_below` is no probability, or is given without a folder.
        RunError: If another result of a run is kept there.
        DataError: If it is inside a folder of the images.
    """
    if unsure_below and sort_into is None:
        raise ConfigError("--unsure-below needs --sort-into")
    if not 0 <= unsure_below <= 1:
        raise ConfigError(f"--unsure-below is a probability from 0 to 1, not {unsure_below:g}")
    copies = path_or_none(sort_into, "--sort-into")
    if copies is not None:
        Run.require_spare(copies)
        for source in sources:
            if not is_stream(source):
                require_outside(copies, folder_searched(source), "--sort-into")
    return copies


def _answers_file(
    place: Path, sources: Sequence[str], model: BulkModel, *, reject: bool, copies: Path | None
) -> AnswersFile:
    """Open the file of answers, which is continued if it is of the same images and model."""
    given = [name if is_stream(name) else str(Path(name).absolute()) for name in sources]
    job = {"model": model.identity, "images": given, "reject": reject}
    if copies is not None:
        # The images that were done before would have no copies.
        job["sort_into"] = str(copies.absolute())
    return AnswersFile(place, model.spec.class_names, job, multi_label=model.spec.multi_label)
