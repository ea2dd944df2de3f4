"""What a user calls `train`: one run, or one for each fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convscope.api import train as single
from convscope.api.budget import Budget
from convscope.api.data import data_settings, load_once
from convscope.api.settle import Request, settle, weights_setting
from convscope.errors import ConfigError, RunError, UnknownNameError
from convscope.paths import path_or_none, user_path
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
    resume: bool | Path | str = False,
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
        seed: Seed of initial weights and the order of images.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        image_size: Side in pixels that the network sees.
        lr: Learning rate (`optimizer.learning_rate`).
        minutes: Time that it may take from here on, judging included and loading the data not; the
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
        folds: Divide the images into so many equal parts, train a network for each on the others,
            and judge it on that part: one number, for which each image was judged once. Test images
            that a dataset has of its own are left alone. The same call goes on with what was
            trained.
        out: The run folder, made here; None makes one below `runs/`.
        resume: A run to go on with after its last finished epoch, by its folder or name; True is
            what `out` holds if it was begun, else a new one. Only `epochs` may change, to more;
            `data` and `weights` say where those are now; `minutes` and `target` no longer count.
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
        "weights": weights_setting(weights),
    }
    given = {**(settings or {}), **{k: v for k, v in options.items() if v is not None}}
    if data is not None:
        given |= data_settings(data)
    from_file = read_config(user_path(config, "--config")) if config is not None else {}
    for name in trackers:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
    place = path_or_none(out, "--out")
    named = not isinstance(resume, bool)
    if not isinstance(resume, bool):
        if place is not None:
            raise ConfigError("give the run to resume once: as RUN or as --out")
        place = user_path(resume, "RUN")
    elif resume and place is None:
        raise RunError("say which run to resume: convscope train --resume RUN")
    begun = find_begun(place) if resume and place is not None else None
    if folds is not None or begun is not None:
        for option, hinders, why in (
            ("--minutes", minutes is not None, "each fold would get other epochs"),
            ("--target", target is not None, "it is known for CIFAR-10's own parts"),
            ("--tracker", bool(trackers), "it follows one run"),
            ("--no-test", not test, "the folds are there to be judged on"),
        ):
            if hinders:
                raise ConfigError(f"--folds and {option} do not go together: {why}")
        if begun is not None and not given and not config:
            asked = asked_before(begun)
            if folds not in (None, asked.split.folds):
                raise ConfigError(f"{begun} has {asked.split.folds} folds, not {folds}")
            return cross_validate(asked, out=begun, data_dir=data_dir, progress=progress)
        if folds is None:
            raise ConfigError(
                f"{begun} is a cross-validation; to go on with it give --resume alone, or repeat "
                "the command that began it"
            )
        return _train_folds(folds, given, from_file, place, data_dir, progress)
    budget = Budget.of(minutes, target, given=given, from_file=from_file)
    request = Request(given, from_file, budget)
    # A script that is started again after a reboot need not know whether it got this far.
    if resume and place is not None and (named or Run(place).state_file.exists()):
        if budget is not None:
            progress.say("Ignoring --minutes/--target: a resumed run keeps its network and epochs")
        return single.resume(
            Run.open(place),
            request,
            progress=progress,
            test=test,
            data_dir=data_dir,
            trackers=trackers,
        )
    plan = settle(request, progress, load_once(data_dir, progress))
    return single.train(plan, progress=progress, out=place, test=test, trackers=trackers)


def _train_folds(
    folds: int,
    given: Mapping[str, Any],
    from_file: Mapping[str, Any],
    out: Path | None,
    data_dir: Path | str | None,
    progress: Progress,
) -> CrossValidation:
    for key in ("folds", "fold", "fold_as"):
        if f"split.{key}" in given:
            raise ConfigError(f"'split.{key}' is not for --set here: --folds decides it")
    of_folds = {"split.folds": folds, "split.fold": 0, "split.fold_as": "test"}
    request = Request({**given, **of_folds}, from_file)
    # Before there is a folder: what is wrong until here leaves none behind.
    plan = settle(request, progress, load_once(data_dir, progress))
    return cross_validate(
        plan.config, dataset=plan.dataset, out=out, data_dir=data_dir, progress=progress
    )
