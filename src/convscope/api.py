"""The verbs, in the words of the command line: load, train, evaluate, predict.

Each puts the stages together and does no work of its own. Keras is imported only where a model is.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope import backend as backends
from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.splits import divide, verify_split, write_split
from convscope.errors import ConfigError, DataError, RunError, UnknownNameError
from convscope.models import MODELS
from convscope.progress import Progress, console_progress
from convscope.recipe import (
    Recipe,
    RunConfig,
    SplitSettings,
    dump_config,
    read_config,
    resolve,
    resolve_resumed,
)
from convscope.recipes import RECIPES
from convscope.run import Run
from convscope.storage import write_text
from convscope.types import Dataset, ImagePrediction, InputSpec, Predictions, UnreadableImage

if TYPE_CHECKING:
    import keras

    from convscope.datasets._findings import CheckReport
    from convscope.models.sheet import ModelSheet


def load(
    data: str | Path = "cifar10",
    *,
    data_dir: Path | str | None = None,
    image_size: int | None = None,
    split: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load a dataset and divide it into training, validation and test images.

    Args:
        data: A registered name ("cifar10"), or a folder of images; one that is called like a
            dataset is given as "./cifar10".
        data_dir: A further place to look for the files of a registered dataset.
        image_size: Side in pixels to which the images of a folder are resized.
        split: Settings of `SplitSettings` that replace the dataset's own.
        progress: Told of downloads and packing; None draws on standard error.

    Raises:
        UnknownNameError: If `data` is neither a registered name nor a folder.
        DataError: If the folder cannot be used as it is.
        DownloadError: If the files are not here and cannot be fetched.
    """
    progress = progress or console_progress()
    name, folder = _name_data(data)
    entry = DATASETS.entry(name)
    settings = SplitSettings(**{**entry.info.get("split", {}), **(split or {})})
    request = DataRequest(folder, Path(data_dir) if data_dir else None, image_size, progress)
    dataset = entry.value(request)
    for note in dataset.notes:
        progress.say(f"{dataset.name}: {note}")
    return divide(dataset, **settings.model_dump())


def train(
    model: str | None = None,
    *,
    data: str | Path | None = None,
    recipe: str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    lr: float | None = None,
    precision: str | None = None,
    backend: str | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    data_dir: Path | str | None = None,
    trackers: Sequence[str] = (),
    progress: Progress | None = None,
) -> Run:
    """Train a model, judge it, and return its run.

    What is not given comes from `config`, else from the recipe. The defaults are the tutorial's:
    CIFAR-10, `cnn-sequential`, recipe `tutorial`, seed 83.

    Args:
        model: A registered model.
        data: A registered dataset, or a folder of images.
        recipe: A registered recipe.
        seed: Of initial weights and the order of images.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        image_size: Side in pixels that the network sees.
        lr: Learning rate (`optimizer.learning_rate`).
        precision: "auto", "float32" or "bfloat16".
        backend: "auto", "tensorflow", "jax" or "torch".
        config: A YAML file of settings, such as the `config.yaml` of another run.
        settings: Any other setting, by its dotted name; stronger than `config`.
        out: The run folder, made here; None makes one below `runs/`.
        resume: Go on with the run `out` after its last finished epoch; only `epochs` may change.
        data_dir: A further place to look for the files of a registered dataset.
        trackers: Of "tensorboard" and "mlflow".
        progress: Told of everything; None draws on standard error.

    Raises:
        UserError: If a name, a setting or the data is wrong; no run folder was made then.
        TrainingError: If the loss is not finite.
        StorageError: If a file cannot be written; the run can be resumed.
    """
    from convscope.training.tracking import TRACKERS

    progress = progress or console_progress()
    options = {
        "model": model,
        "recipe": recipe,
        "seed": seed,
        "epochs": epochs,
        "batch_size": batch_size,
        "image_size": image_size,
        "optimizer.learning_rate": lr,
        "precision": precision,
        "backend": backend,
    }
    given = {**(settings or {}), **{k: v for k, v in options.items() if v is not None}}
    if data is not None:
        given |= _data_settings(data)
    from_file = read_config(Path(config)) if config else {}
    for name in trackers:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)

    if resume:
        if out is None:
            raise RunError("say which run to resume: convscope train --resume RUN")
        run = Run.open(out)
        with run.training_lock():
            wanted = resolve_resumed(run_config(run), from_file, given)
            dataset = _load_for(wanted, data_dir, progress)
            if not run.split_file.exists():  # killed before it began
                _describe(run, wanted, dataset)
            for part in ("train", "val"):
                verify_split(dataset, run.split_file, part)
            _fit(run, wanted, dataset, trackers, progress)
    else:
        wanted = _resolve_new(from_file, given, progress)
        dataset = _load_for(wanted, data_dir, progress)
        # Only now: what was wrong until here leaves no folder behind.
        build_model(wanted, input_spec(dataset, wanted), len(dataset.class_names))
        name = f"{dataset.name}-{wanted.model}-{wanted.recipe}-seed{wanted.seed}"
        run = Run.create(Path(out) if out else None, name)
        progress.say(f"Run folder: {run.path}")
        with run.training_lock():
            _describe(run, wanted, dataset)
            _fit(run, wanted, dataset, trackers, progress)
    evaluate(run, dataset=dataset, by="train", progress=progress)
    run.record(status="finished")
    return run


def evaluate(
    run: Run | Path | str,
    *,
    weights: str | None = None,
    fresh: bool = False,
    batch_size: int = 256,
    data: Path | str | None = None,
    data_dir: Path | str | None = None,
    dataset: Dataset | None = None,
    by: str = "evaluate",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a run on its validation and test images.

    Predictions are made once and saved; metrics, tables and pictures are derived from them. Each
    time that a model is run on the test images, the run's `run.json` says so.

    Args:
        run: The run or its folder.
        weights: "best" or "last"; None is what the recipe says.
        fresh: Predict anew even if predictions of these weights are saved.
        batch_size: Images at a time.
        data: Where the folder of images is now, if it moved.
        data_dir: A further place to look for the files of a registered dataset.
        dataset: The run's dataset, if it is loaded already.
        by: Who asks, for the log.
        progress: Told of everything; None draws on standard error.

    Returns:
        The content of `metrics.json`: {"val": {"accuracy": ..., "loss": ...}, "test": {...}}.

    Raises:
        RunError: If there is no such run or no such weights.
        DataError: If the images are not those that the run was split into.
    """
    from convscope.evaluation.metrics import confusion_matrix, judge, write_confusion
    from convscope.evaluation.predictions import read_predictions
    from convscope.report.figures import draw_confusion

    progress = progress or console_progress()
    run = Run.open(run)
    config = run_config(run)
    which = _which_weights(run, weights)
    about = {"weights": which, "weights_sha256": run.weights_sha256(which)}
    kept = run.predictions_file
    saved, saved_about = read_predictions(kept) if kept.exists() and not fresh else ({}, {})
    if saved_about.items() >= about.items():
        by_split = saved
    else:
        if dataset is None:
            if data is not None:
                config = config.model_copy(update=_data_settings(data))
            elif config.data_path and not Path(config.data_path).is_dir():
                raise DataError(
                    f"the images of the run are no longer in {config.data_path}; "
                    "say where that folder is now with --data"
                )
            dataset = _load_for(config, data_dir, progress)
        by_split = _predict_splits(run, which, dataset, batch_size, by, about, progress)

    names = run.class_names
    metrics: dict[str, Any] = {"weights": which}
    metrics |= {name: judge(by_split[name], names) for name in ("val", "test")}
    run.write_json(run.metrics_file, metrics)
    matrix = confusion_matrix(by_split["test"])
    write_confusion(matrix, names, run.confusion_table)
    title = f"{run.name}: {metrics['test']['accuracy']:.1%} of the test images right"
    draw_confusion(matrix, names, run.confusion_picture, title=title)
    return metrics


def predict(
    run: Run | Path | str,
    images: Iterable[Path | str],
    *,
    weights: str | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Iterator[ImagePrediction | UnreadableImage]:
    """Classify image files, in batches, as they are read.

    Args:
        run: The run or its folder.
        images: Files, folders (searched for images) and glob patterns.
        weights: "best" or "last"; None is what the recipe says.
        batch_size: Images at a time.
        progress: Told of each batch; None draws on standard error.

    Returns:
        An iterator that gives, for each file in order, its prediction or why it could not be read.

    Raises:
        RunError: If there is no such run or no such weights.
        DataError: If a path does not exist, or nothing matches.
    """
    from convscope.datasets.decode import find_images
    from convscope.evaluation.predictions import load_model, predict_files

    progress = progress or console_progress()
    run = Run.open(run)
    files = find_images(images)
    which = _which_weights(run, weights)
    backends.configure(run_config(run).backend)
    network = load_model(run.weights(which))
    state = run.state
    # Files become what the run's images were, and the model does the rest, as in training.
    spec = InputSpec(*state.get("image_shape", InputSpec(**state["input"]).shape))
    return predict_files(
        network, files, spec, run.class_names, batch_size=batch_size, progress=progress
    )


def check(
    data: str | Path, *, data_dir: Path | str | None = None, progress: Progress | None = None
) -> "CheckReport":
    """Look for what spoils training: broken files, odd modes, duplicates, leaks between parts.

    Args:
        data: A folder of images (its files are looked at), or a registered name (its pixels are).
        data_dir: A further place to look for the files of a registered dataset.
        progress: Told of each image; None draws on standard error.

    Raises:
        UnknownNameError: If `data` is neither a registered name nor a folder.
        DataError: If the folder is missing or has no folders of classes.
    """
    from convscope.datasets.check import check_dataset, check_folder

    progress = progress or console_progress()
    _, folder = _name_data(data)
    if folder is not None:
        return check_folder(folder, progress=progress)
    return check_dataset(load(data, data_dir=data_dir, progress=progress), progress=progress)


def describe(
    model: str,
    *,
    image_size: int = 32,
    channels: int = 3,
    n_classes: int = 10,
    picture: Path | str | None = None,
) -> "ModelSheet":
    """Return a model's layers, the arithmetic of their sizes, and what they cost.

    Args:
        model: A registered model.
        image_size: Side in pixels that the network sees.
        channels: 1 for grey, 3 for RGB.
        n_classes: At least 2.
        picture: Where to draw the architecture; None draws nothing.

    Raises:
        UnknownNameError: If there is no such model.
        ConfigError: If the model cannot be built for that size.
    """
    from convscope.models.diagram import draw_architecture
    from convscope.models.sheet import model_sheet

    MODELS.entry(model)
    if channels not in (1, 3):
        raise ConfigError(f"an image has 1 channel (grey) or 3 (RGB), not {channels}")
    backends.configure()
    network = MODELS.get(model)(InputSpec(image_size, image_size, channels), n_classes)
    if picture is not None:
        draw_architecture(network, Path(picture), title=model)
    return model_sheet(network)


def run_config(run: Run) -> RunConfig:
    """Return the resolved settings of a run."""
    return resolve(Recipe(), read_config(run.config_file))


def input_spec(dataset: Dataset, config: RunConfig) -> InputSpec:
    """Return what the network sees: the data's own size unless `image_size` says otherwise."""
    height, width, channels = dataset.image_shape
    size = config.image_size
    return InputSpec(size or height, size or width, channels)


def build_model(config: RunConfig, spec: InputSpec, n_classes: int) -> "keras.Model":
    """Return the untrained model of a configuration: the same weights for the same seed."""
    import keras

    builder = MODELS.get(config.model)
    keras.utils.set_random_seed(config.seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if config.precision == "bfloat16" else "float32")
    try:
        return builder(spec, n_classes)
    finally:
        keras.config.set_dtype_policy(before)


def _resolve_new(
    from_file: Mapping[str, Any], given: Mapping[str, Any], progress: Progress
) -> RunConfig:
    """Return the settings of a new run, every "auto" replaced by what it comes to here."""
    from convscope.training.precision import choose_precision

    # Before any name in it is looked up: it may come from a newer convscope.
    resolve(Recipe(), from_file)
    chosen = {**from_file, **given}
    recipe = RECIPES.get(str(chosen.get("recipe", "tutorial")))()
    data = DATASETS.entry(str(chosen.get("data", "cifar10")))
    config = resolve(recipe, {"split": data.info.get("split", {})}, from_file, given)
    MODELS.entry(config.model)
    update = {"backend": backends.configure(config.backend)}
    if config.precision == "auto":
        update["precision"] = choose_precision(progress)
    return config.model_copy(update=update)


def _load_for(config: RunConfig, data_dir: Path | str | None, progress: Progress) -> Dataset:
    return load(
        config.data_path or config.data,
        data_dir=data_dir,
        image_size=config.image_size,
        split=config.split.model_dump(),
        progress=progress,
    )


def _name_data(data: str | Path) -> tuple[str, Path | None]:
    """Tell a registered name from a folder: ("cifar10", None) or ("folder", its path)."""
    text = str(data)
    if isinstance(data, str) and text != "folder" and text in DATASETS.names():
        # Whatever lies in the current folder: `--data digits --out digits` must stay what it was.
        return text, None
    if isinstance(data, Path) or "/" in text or "\\" in text or Path(text).is_dir():
        return "folder", Path(text).expanduser().resolve()
    if text == "folder":
        raise UnknownNameError("dataset", text, (), "; give the folder itself: --data PATH")
    DATASETS.entry(text)
    return text, None


def _data_settings(data: str | Path) -> dict[str, Any]:
    name, folder = _name_data(data)
    return {"data": name, "data_path": str(folder) if folder else None}


def _describe(run: Run, config: RunConfig, dataset: Dataset) -> None:
    """Write down, before training, what it starts from."""
    from convscope.datasets.samples import sample_images
    from convscope.report.figures import draw_samples

    write_text(run.config_file, dump_config(config))
    spec = dataclasses.asdict(input_spec(dataset, config))
    # From here on it is a run; what a kill keeps from being written, --resume writes.
    run.record(
        status="created",
        input=spec,
        image_shape=dataset.image_shape,
        provenance=dataset.provenance,
    )
    run.write_json(run.classes_file, list(dataset.class_names))
    run.write_json(run.environment_file, backends.environment(config.backend))
    draw_samples(*sample_images(dataset), run.samples_picture)
    write_split(dataset, run.split_file)


def _fit(
    run: Run, config: RunConfig, dataset: Dataset, trackers: Sequence[str], progress: Progress
) -> None:
    from convscope.models.saving import PortableModel
    from convscope.report.figures import draw_curves
    from convscope.training.fit import fit
    from convscope.training.tracking import tracking

    assert dataset.val is not None
    backends.configure(config.backend)
    spec, n_classes = input_spec(dataset, config), len(dataset.class_names)
    network = build_model(config, spec, n_classes)
    write_text(run.config_file, dump_config(config))
    with run.recording_status(), tracking(trackers, config, run) as log_row:
        history = fit(
            network,
            dataset.train,
            dataset.val,
            config,
            run,
            save_weights=PortableModel(config.model, spec, n_classes).save,
            log_row=log_row,
            progress=progress,
        )
    draw_curves(history, run.curves_picture, title=run.name)


def _which_weights(run: Run, weights: str | None) -> str:
    which = weights or run_config(run).judge
    if which not in ("best", "last"):
        raise UnknownNameError("weights", which, ("best", "last"))
    return which


def _predict_splits(
    run: Run,
    which: str,
    dataset: Dataset,
    batch_size: int,
    by: str,
    about: dict[str, str],
    progress: Progress,
) -> dict[str, Predictions]:
    """Run a model on the validation and test images, the opening logged, and save what it says."""
    from convscope.evaluation.predictions import load_model, predict_split, save_predictions

    assert dataset.val is not None
    assert dataset.test is not None
    for part in ("val", "test"):
        verify_split(dataset, run.split_file, part)
    backends.configure(run_config(run).backend)
    network = load_model(run.weights(which))
    opened = dataset.test.open(lambda n: run.record_test_opening(by=by, weights=which, n_images=n))
    predictions = {
        name: predict_split(network, part, name, batch_size=batch_size, progress=progress)
        for name, part in (("val", dataset.val), ("test", opened))
    }
    save_predictions(predictions, run.class_names, run.predictions_file, about=about)
    return predictions
