"""What a user calls `train`: one run, or one for each fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convscope.api import train as one
from convscope.api.data import load_for
from convscope.errors import ConfigError
from convscope.progress import Progress, console_progress
from convscope.recipe import read_config
from convscope.run import Run
from convscope.studies.folds import CrossValidation, asked_before, cross_validate, find_begun


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
    folds: int | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    test: bool = True,
    data_dir: Path | str | None = None,
    trackers: Sequence[str] = (),
    progress: Progress | None = None,
) -> Run | CrossValidation:
    """Train a model, judge it, and return its run; or train one for each fold.

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
        minutes: How long it may take; see `convscope.api.train.train`.
        target: In the place of `minutes`: the accuracy on CIFAR-10, in per cent.
        precision: "auto", "float32" or "bfloat16".
        backend: "auto", "tensorflow", "jax" or "torch".
        weights: A backbone's: a file, a folder that holds it, or "random"; None looks for ImageNet
            weights in $CONVSCOPE_WEIGHTS and Keras' cache, then downloads them.
        config: A YAML file of settings, such as the `config.yaml` of another run.
        settings: Any other setting, by its dotted name; stronger than `config`.
        folds: Divide the images into so many equal parts, train a network for each on the others,
            and judge it on that part: one number, for which each image was judged once. Test images
            that a dataset has of its own are left alone. The same call goes on with what was
            trained.
        out: The run folder, made here; None makes one below `runs/`.
        resume: Go on with `out` after its last finished epoch; only `epochs` may change.
        test: False leaves the test images sealed; `evaluate` opens them when all choices are made.
        data_dir: A further place to look for the files of a registered dataset.
        trackers: Of "tensorboard" and "mlflow".
        progress: Told of everything; None draws on standard error.

    Returns:
        The run; with `folds`, what all of them came to.

    Raises:
        UserError: If a name, a setting or the data is wrong; no run folder was made then.
        TrainingError: If the loss is not finite.
        StorageError: If a file cannot be written; the run can be resumed.
    """
    progress = progress or console_progress()
    place = None if out is None else Path(out)
    begun = find_begun(place) if resume and place is not None else None
    if folds is None and begun is None:
        return one.train(
            model,
            data=data,
            recipe=recipe,
            seed=seed,
            epochs=epochs,
            batch_size=batch_size,
            image_size=image_size,
            lr=lr,
            minutes=minutes,
            target=target,
            precision=precision,
            backend=backend,
            weights=weights,
            config=config,
            settings=settings,
            out=out,
            resume=resume,
            test=test,
            data_dir=data_dir,
            trackers=trackers,
            progress=progress,
        )
    for name, hinders, why in (
        ("--minutes", minutes is not None, "each fold would get other epochs"),
        ("--target", target is not None, "it is known for CIFAR-10's own parts"),
        ("--tracker", bool(trackers), "it follows one run"),
        ("--no-test", not test, "the folds are there to be judged on"),
    ):
        if hinders:
            raise ConfigError(f"--folds and {name} do not go together: {why}")
    given = one.settings_given(
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
    if folds is None:
        assert begun is not None
        if given or config:
            raise ConfigError(
                f"{begun} is a cross-validation; to go on with it give --resume alone, or repeat "
                "the command that began it"
            )
        return cross_validate(asked_before(begun), out=begun, data_dir=data_dir, progress=progress)
    from_file = read_config(Path(config)) if config else {}
    for key in ("folds", "fold", "fold_as"):
        if f"split.{key}" in given:
            raise ConfigError(f"'split.{key}' is not for --set here: --folds decides it")
    given |= {"split.folds": folds, "split.fold": 0, "split.fold_as": "test"}
    wanted = one.resolve_new(from_file, given, progress)
    dataset = load_for(wanted, data_dir, progress)
    if "batch_size" not in {**from_file, **given}:
        wanted = one.with_enough_steps(wanted, len(dataset.train))
    wanted, found = one.locate_weights(wanted, progress)
    # Before there is a folder: what is wrong until here leaves none behind.
    one.try_building(wanted, dataset, found)
    return cross_validate(wanted, dataset=dataset, out=place, data_dir=data_dir, progress=progress)
