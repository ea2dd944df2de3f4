"""Training a model and judging it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope import backend as backends
from convscope.api.data import data_settings, load_for
from convscope.api.evaluate import evaluate
from convscope.api.models import build_model, input_spec, plugins_of, run_config
from convscope.api.networks import new_network
from convscope.api.plan import Aim, Settled
from convscope.datasets import settings_of
from convscope.datasets.splits import verify_split, write_split
from convscope.errors import ConfigError, RunError, UnknownNameError
from convscope.models import is_backbone
from convscope.progress import Progress, console_progress
from convscope.recipe import (
    RANDOM_WEIGHTS,
    Recipe,
    RunConfig,
    dump_config,
    read_config,
    require_effect,
    resolve,
    resolve_resumed,
)
from convscope.recipes import RECIPES, default_recipe, require_fitting
from convscope.run import Run
from convscope.storage import write_text
from convscope.types import Dataset

if TYPE_CHECKING:
    from convscope.models.weights import FoundWeights


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
    minutes: float | None = None,
    target: float | None = None,
    precision: str | None = None,
    backend: str | None = None,
    weights: Path | str | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    test: bool = True,
    data_dir: Path | str | None = None,
    trackers: Sequence[str] = (),
    progress: Progress | None = None,
) -> Run:
    """Train a model, judge it, and return its run.

    What is not given comes from `config`, else from the recipe. The defaults are the tutorial's:
    CIFAR-10, `cnn-sequential`, recipe `tutorial`, seed 83; for a pretrained backbone, recipe
    `probe`.

    Args:
        model: A registered model.
        data: A registered dataset, or a folder of images.
        recipe: A registered recipe.
        seed: Of initial weights and the order of images.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        image_size: Side in pixels that the network sees.
        lr: Learning rate (`optimizer.learning_rate`).
        minutes: How long it may take from here on, judging included and loading the data not; the
            network, if none is named, and the epochs are chosen by speeds measured here. The
            recipe is then `fast` if none is named.
        target: In the place of `minutes`: the accuracy on CIFAR-10, in per cent, for which network
            and epochs are chosen, the quickest of those known to reach it.
        precision: "auto", "float32" or "bfloat16".
        backend: "auto", "tensorflow", "jax" or "torch".
        weights: A backbone's: a file, a folder that holds it, or "random"; None looks for ImageNet
            weights in $CONVSCOPE_WEIGHTS and Keras' cache, then downloads them.
        config: A YAML file of settings, such as the `config.yaml` of another run.
        settings: Any other setting, by its dotted name; stronger than `config`.
        out: The run folder, made here; None makes one below `runs/`.
        resume: Go on with the run `out` after its last finished epoch; only `epochs` may change,
            and `minutes` and `target`, which chose them, no longer count.
        test: False leaves the test images sealed; `evaluate` opens them when all choices are made.
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
    given = settings_given(
        model=model,
        data=data,
        recipe=recipe,
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        image_size=image_size,
        lr=lr,
        precision=precision,
        backend=backend,
        weights=weights,
        settings=settings,
    )
    from_file = read_config(Path(config)) if config else {}
    for name in trackers:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
    chosen = {**from_file, **given}
    aim = Aim.of(minutes, target, given=given, from_file=from_file)
    if aim is not None and not resume:
        given |= aim.completed(chosen)

    if resume:
        if out is None:
            raise RunError("say which run to resume: convscope train --resume RUN")
        run = Run.open(out)
        if aim is not None:
            progress.say("Network and epochs of this run are settled; it goes on with those")
        with run.training_lock():
            wanted = resolve_resumed(run_config(run), from_file, given)
            dataset = load_for(wanted, data_dir, progress)
            if not run.split_file.exists():  # killed before it began
                _describe(run, wanted, dataset)
            for part in ("train", "val"):
                verify_split(dataset, run.split_file, part)
            wanted, found = locate_weights(wanted, progress)
            _fit(run, Settled(wanted), dataset, found, trackers, progress)
    else:
        wanted = resolve_new(from_file, given, progress)
        dataset = load_for(wanted, data_dir, progress)
        if "batch_size" not in chosen:
            wanted = with_enough_steps(wanted, len(dataset.train))
        wanted, found = locate_weights(wanted, progress)
        # Before there is a folder: what is wrong until here leaves none behind.
        if aim is None:
            try_building(wanted, dataset, found)
            settled = Settled(wanted)
        else:
            settled = aim.settle(wanted, dataset, progress, model=chosen.get("model"))
            wanted = settled.config
        name = f"{dataset.name}-{wanted.model}-{wanted.recipe}-seed{wanted.seed}"
        run = Run.create(Path(out) if out else None, name)
        progress.say(f"Run folder: {run.path}")
        with run.training_lock():
            _describe(run, wanted, dataset)
            _fit(run, settled, dataset, found, trackers, progress)
    evaluate(run, test=test, dataset=dataset, by="train", progress=progress)
    run.record(status="finished", peak_memory_mb=backends.peak_memory_mb())
    return run


def settings_given(
    *,
    data: str | Path | None,
    lr: float | None,
    weights: Path | str | None,
    settings: Mapping[str, Any] | None,
    **options: str | int | float | None,
) -> dict[str, Any]:
    """Return the options of `train` that were given, by the names of their settings."""
    options |= {"optimizer.learning_rate": lr, "weights": weights_setting(weights)}
    given = {**(settings or {}), **{k: v for k, v in options.items() if v is not None}}
    return given if data is None else given | data_settings(data)


def resolve_new(
    from_file: Mapping[str, Any], given: Mapping[str, Any], progress: Progress
) -> RunConfig:
    """Return the settings of a new run, every "auto" replaced by what it comes to here."""
    from convscope.training.precision import choose_precision

    # Before any name in it is looked up: it may come from a newer convscope.
    resolve(Recipe(), from_file)
    if given.keys() & {"model", "weights"}:
        # The digest in the file is that of the weights that were named there.
        from_file = {key: value for key, value in from_file.items() if key != "weights_sha256"}
    chosen = {**from_file, **given}
    usual = RunConfig.model_fields["model"].default
    if "recipe" in chosen:
        usual = RECIPES.entry(str(chosen["recipe"])).info.get("model", usual)
    model = str(chosen.get("model", usual))
    backbone = is_backbone(model)
    recipe = str(chosen.get("recipe", default_recipe(backbone=backbone)))
    require_fitting(recipe, model, backbone=backbone)
    data = str(chosen.get("data", "cifar10"))
    of_data = settings_of(data)
    defaults = RECIPES.get(recipe)()
    config = resolve(defaults, {"recipe": recipe, "model": model}, of_data, from_file, given)
    require_effect(config, defaults, backbone=backbone)
    if defaults.augment.flip and not config.augment.flip and "augment.flip" in of_data:
        progress.say(f"{data}: a mirrored image means something else, so none is flipped")
    if config.weights is not None and not backbone:
        raise ConfigError(f"{model} starts from random weights; --weights is for backbones")
    update = {"backend": backends.configure(config.backend)}
    if config.precision == "auto":
        update["precision"] = choose_precision(progress)
    return config.model_copy(update=update)


def with_enough_steps(config: RunConfig, n_images: int) -> RunConfig:
    """Return the settings with smaller batches, where an epoch would have too few steps."""
    if config.least_steps == 1:
        return config
    from convscope.training.batches import n_batches

    steps = max(config.least_steps, n_batches(n_images, config.batch_size))
    return config.model_copy(update={"batch_size": math.ceil(n_images / steps)})


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
    environment = backends.environment(config.backend, plugins_of(config))
    run.write_json(run.environment_file, environment)
    draw_samples(*sample_images(dataset), run.samples_picture)
    write_split(dataset, run.split_file)


def _fit(
    run: Run,
    settled: Settled,
    dataset: Dataset,
    weights: "FoundWeights | None",
    trackers: Sequence[str],
    progress: Progress,
) -> None:
    from convscope.report.figures import draw_curves
    from convscope.training.tracking import tracking

    assert dataset.val is not None
    config = settled.config
    backends.configure(config.backend)
    spec, n_classes = input_spec(dataset, config), len(dataset.class_names)
    write_text(run.config_file, dump_config(config))
    with run.recording_status(), tracking(trackers, config, run) as log_row:
        if is_backbone(config.model):
            from convscope.training.transfer import train_transfer

            if weights is not None:
                run.record(weights={**dataclasses.asdict(weights), "path": str(weights.path)})
            history = train_transfer(
                config, spec, dataset, weights, run, log_row=log_row, progress=progress
            )
        else:
            from convscope.models.saving import PortableModel
            from convscope.training.augment import augmented
            from convscope.training.batches import Examples
            from convscope.training.fit import Phase, fit

            network = settled.network or new_network(config, dataset)
            save_weights = PortableModel.of(config.model, spec, n_classes).save
            train = augmented(dataset.train, config.augment, config.seed)
            val = Examples.of(dataset.val)
            compiled = settled.network is not None
            phase = Phase(network, train, val, config, save_weights, compiled=compiled)
            history = fit(phase, run, log_row=log_row, progress=progress, pace=settled.pace)
    draw_curves(history, run.curves_picture, title=run.name)


def weights_setting(weights: Path | str | None) -> str | None:
    """Return what `--weights` stands for in the settings: an absolute path, "random" or None."""
    if weights is None or str(weights) == RANDOM_WEIGHTS:
        return None if weights is None else RANDOM_WEIGHTS
    # Absolute: the run can be resumed from another folder.
    return str(Path(weights).expanduser().absolute())


def locate_weights(
    config: RunConfig, progress: Progress
) -> "tuple[RunConfig, FoundWeights | None]":
    """Return the configuration with the digest of the backbone's weights, and where they are."""
    if not is_backbone(config.model) or config.weights == RANDOM_WEIGHTS:
        return config, None
    from convscope.models.backbones import BACKBONES
    from convscope.models.weights import find_weights, is_published

    backbone = BACKBONES.get(config.model)
    found = find_weights(backbone, config.weights, progress)
    # Others may be as good, but their results are not comparable.
    other = backbone.weights.digest is not None and not is_published(backbone, found)
    note = ", not the file that Keras publishes" if other else ""
    progress.say(f"Weights: {found.path} ({found.origin}{note})")
    if config.weights_sha256 not in (None, found.sha256):
        raise RunError(
            f"{found.path} does not hold the weights that the run's configuration names; "
            "say where those are with --weights, or start a new run without weights_sha256"
        )
    return config.model_copy(update={"weights_sha256": found.sha256}), found


def try_building(config: RunConfig, dataset: Dataset, weights: "FoundWeights | None") -> None:
    """Raise what building the model would raise, or loading its weights."""
    spec, n_classes = input_spec(dataset, config), len(dataset.class_names)
    if not is_backbone(config.model):
        from convscope.training.start import patch_layer

        network = build_model(config, spec, n_classes)
        if config.start.whiten:
            patch_layer(network)
        return
    from convscope.models.transfer import build_transfer

    cut = config.backbone.cut
    transfer = build_transfer(config.model, spec, n_classes, config.head, cut=cut, weights=weights)
    transfer.upper()  # refuses a place where the backbone cannot be cut
