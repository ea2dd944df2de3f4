"""The public `train`: one run, or one for each fold."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from convscope import backend as backends
from convscope.api import train as single
from convscope.datasets.source import data_settings, labels_setting, settings_at
from convscope.errors import ConfigError, ConvscopeError, RunError, UnknownNameError
from convscope.models import is_backbone
from convscope.paths import user_path
from convscope.planning.budget import Budget
from convscope.planning.data import load_once, tell_address
from convscope.planning.plan import run_config
from convscope.planning.settle import Request, settle, weights_setting
from convscope.planning.sharing import failures_told
from convscope.planning.usual import usual_recipe, wishes_of
from convscope.progress import Progress, console_progress
from convscope.recipe import (
    PLACES,
    RANDOM_WEIGHTS,
    RunConfig,
    dotted,
    flat,
    read_config,
    require_settable,
)
from convscope.recipes import RECIPES
from convscope.registry import listed
from convscope.remote import folder_or_none, folder_path
from convscope.run import Run
from convscope.scale.devices import ONE
from convscope.scale.multihost import joined
from convscope.studies.executor import Executor
from convscope.studies.folder import require_place
from convscope.studies.folds import (
    CROSS_VALIDATION,
    CrossValidation,
    asked_before,
    cross_validate,
    find_begun,
)
from convscope.studies.search.auto import (
    ends_search,
    find_search,
    new_settings,
    resume_search,
    search,
    settings_of_search,
)
from convscope.studies.search.candidates import TRAINING
from convscope.studies.search.search import Place
from convscope.types import Dataset

AUTO = "auto"
"""In place of a recipe: search for the best."""


class _Others(TypedDict, total=False):
    """Arguments of `train` that do not decide what it returns."""

    data: str | Path | None
    labels: str | Path | None
    recipe: str | None
    seed: int | None
    epochs: int | None
    batch_size: int | None
    image_size: int | None
    fit: str | None
    lr: float | None
    minutes: float | None
    target: float | None
    precision: str | None
    backend: str | None
    weights: Path | str | None
    refit: bool | None
    config: Path | str | None
    settings: Mapping[str, Any] | None
    out: Path | str | None
    test: bool | None
    data_dir: Path | str | None
    trackers: str | Sequence[str]
    executor: Executor | None
    devices: str | None
    progress: Progress | None


@overload
def train(
    model: str | None = ...,
    *,
    folds: None = ...,
    resume: Literal[False] = ...,
    **others: Unpack[_Others],
) -> Run: ...
@overload
def train(
    model: str | None = ...,
    *,
    folds: int,
    resume: bool | Path | str = ...,
    **others: Unpack[_Others],
) -> CrossValidation: ...
@overload  # what is resumed may be either
def train(
    model: str | None = ...,
    *,
    folds: int | None = ...,
    resume: bool | Path | str = ...,
    **others: Unpack[_Others],
) -> Run | CrossValidation: ...
def train(
    model: str | None = None,
    *,
    data: str | Path | None = None,
    labels: str | Path | None = None,
    recipe: str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    fit: str | None = None,
    lr: float | None = None,
    minutes: float | None = None,
    target: float | None = None,
    precision: str | None = None,
    backend: str | None = None,
    weights: Path | str | None = None,
    refit: bool | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    folds: int | None = None,
    out: Path | str | None = None,
    resume: bool | Path | str = False,
    test: bool | None = None,
    data_dir: Path | str | None = None,
    trackers: str | Sequence[str] = (),
    executor: Executor | None = None,
    devices: str | None = None,
    progress: Progress | None = None,
) -> Run | CrossValidation:
    """Train and evaluate a model, and return its run; or train one for each fold.

    Settings not given come from `config`, or else from the recipe. The defaults are the tutorial's:
    CIFAR-10, `cnn-sequential`, recipe `tutorial`, seed 83; for a pretrained backbone, recipe
    `probe`, on a folder of images `logistic`. For a folder with neither model nor recipe named, the
    way of training is searched for, in `minutes` or else five.

    Args:
        model: Registered model.
        data: Built-in dataset, or a folder of images.
        labels: Table with the labels of the folder's images, in place of class folders: CSV, TSV,
            JSON lines, Parquet, or "labels.csv:file=COLUMN,label=COLUMN,split=COLUMN"; with
            "group=COLUMN" the images of a group, such as those of one patient, stay in one part.
        recipe: Registered recipe; "auto" searches for the best classifier on a backbone.
        seed: Seed of initial weights and the order of images.
        epochs: Passes over the training images.
        batch_size: Images per step.
        image_size: Side in pixels of the network's input.
        fit: Method for image files of another aspect ratio than the input's: "squash", "crop" to
            the centre, or "pad" with grey.
        lr: Learning rate (`optimizer.learning_rate`).
        minutes: Time limit from here on, including evaluation but not the loading of data; the
            epochs, and the network if none is named, are chosen by speeds measured here. The
            default recipe is then `fast`; for a folder of images, "auto".
        target: Instead of `minutes`: accuracy on CIFAR-10, in per cent, for which the quickest
            network and number of epochs known to reach it on average over seeds are chosen.
        precision: "auto", "float32" or "bfloat16".
        backend: "auto", "tensorflow", "jax" or "torch".
        weights: Weights of a backbone: a file, a folder with it, or "random"; None looks for
            ImageNet weights in $CONVSCOPE_WEIGHTS and Keras' cache, then downloads them.
        refit: Whether to train once more at the end, on training and validation images together;
            validation images are still evaluated by the network that did not learn them.
        config: YAML file of settings, such as the `config.yaml` of another run; of that a search
            takes over all but how the network was trained.
        settings: Any other setting by dotted name; overrides `config`.
        folds: Number of equal parts to divide the images into; for each part a network is trained
            on the others and evaluated on that part. The result is one accuracy, for which each
            image is evaluated once. Test images that a dataset already has are not used. The same
            call resumes.
        out: Run folder, created here; None creates one below `runs/`.
        resume: Run to continue after its last finished epoch, by folder or name; True continues
            `out` if it was begun, otherwise starts it. Only `epochs` may change, to more, and
            `refit` be added; `data`, `labels` and `weights` give their current places; `minutes`
            and `target` are ignored, except for the time limit of a search.
        test: Whether to open the test images; if not, `evaluate` does when all choices are made.
            None opens them, but when resuming only if the run was begun so.
        data_dir: Further folder to look for the files of a built-in dataset.
        trackers: Any of "tensorboard" and "mlflow".
        executor: Where to train the networks of `folds` or of a search, such as `on_ray`; None
            trains one after the other on this machine.
        devices: "all" divides each batch among all devices that JAX finds here and, where Slurm,
            Kubernetes or the environment started several processes, in each of them
            (docs/scaling.md); None trains on one device.
        progress: Called with all events; None draws on standard error.

    Returns:
        The run; with `folds`, the cross-validation. In other processes than the first, the run
        whose folder that one writes, as soon as the training has ended.

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
        "fit": fit,
        "optimizer.learning_rate": lr,
        "precision": precision,
        "backend": backend,
        "weights": weights_setting(weights),
        "refit": refit,
    }
    given = {**flat(settings or {}), **{k: v for k, v in options.items() if v is not None}}
    from_file = read_config(user_path(config, "--config")) if config is not None else {}
    if devices not in (None, "all"):
        raise ConfigError(f"--devices is all, not '{devices}'; omit it for one device")
    for name in (trackers := listed(trackers)):
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
    place = _place(out, resume)
    resumed = place if resume else None
    begun = None if resumed is None else find_begun(resumed)
    before = {} if resumed is None else _settings_of(resumed, begun)
    given |= _settings_of_data(data, labels, before)
    if "data_path" not in given:
        tell_address({**from_file, **before}.get("data_path"), progress)
    call = _Call(
        given,
        from_file,
        place,
        minutes=minutes,
        target=target,
        test=test,
        data_dir=data_dir,
        trackers=trackers,
        executor=executor,
        devices=devices,
        progress=progress,
    )
    named = not isinstance(resume, bool)
    if folds is not None or begun is not None:
        _require_for_folds(call)
        moved = named and given.keys() <= {"data", *PLACES}
        if begun is not None and not config and (moved or not given):
            return _resume_folds(call, begun, folds)
        if folds is None:
            raise ConfigError(
                f"{begun} is a cross-validation; to continue it, give --resume alone, or repeat "
                "the command that started it"
            )
        return _train_folds(call, folds)
    continued = resumed is not None and (named or Run(resumed).state_file.exists())
    stopped = None if resumed is None else find_search(resumed)
    if stopped is not None:
        return _resume_search(call, stopped)
    if devices is not None:
        call = _on_devices(call, continued)
    load = load_once(data_dir, progress)
    if not continued and target is None and _wants_search(call.given, from_file, minutes):
        return _search(call, load)
    return _train_one(call, resumed if continued else None, load)


@dataclass(frozen=True)
class _Call:
    """A call of `train`, with its settings gathered; the other arguments are explained there.

    Attributes:
        given: Settings of the options and of `settings`, by dotted name.
        from_file: Settings of `config`, which are weaker.
        place: Folder of what is trained or resumed; None for a new one below `runs/`.
    """

    given: Mapping[str, Any]
    from_file: Mapping[str, Any]
    place: Path | None
    _: KW_ONLY
    minutes: float | None
    target: float | None
    test: bool | None
    data_dir: Path | str | None
    trackers: Sequence[str]
    executor: Executor | None
    devices: str | None
    progress: Progress


def _place(out: Path | str | None, resume: bool | Path | str) -> Path | None:
    """Return the folder of what is trained or resumed; None for a new one below `runs/`.

    One at an address is fetched to a local copy, which is sent back as it changes.

    Raises:
        ConfigError: If the folder is given twice.
        RunError: If a run is to be resumed and none is named.
    """
    place = folder_or_none(out, "--out")
    if not isinstance(resume, bool):
        if place is not None:
            raise ConfigError("give the run to resume once: as RUN or as --out")
        return folder_path(resume, "RUN")
    if resume and place is None:
        raise RunError("say which run to resume: convscope train --resume RUN")
    return place


def _settings_of(place: Path, begun: Path | None) -> Mapping[str, Any]:
    """Return the settings of what is resumed; none if nothing can be read.

    Whoever opens it says what is wrong.

    Args:
        place: Run or search, by folder or name, perhaps not begun yet.
        begun: Folder of a cross-validation, if it is one.
    """
    with contextlib.suppress(ConvscopeError):
        if begun is not None:
            return asked_before(begun).model_dump()
        if (stopped := find_search(place)) is not None:
            return settings_of_search(stopped)
        return run_config(Run.open(place)).model_dump()
    return {}


def _settings_of_data(
    data: str | Path | None, labels: str | Path | None, before: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the settings of the data that is named.

    Args:
        data: As for `train`.
        labels: As for `train`.
        before: Settings of what is resumed, whose data may have moved; none of something new.
    """
    if data is not None and "data" in before:
        return settings_at(before["data"], data, labels)
    if data is not None:
        return data_settings(data, labels)
    return {} if labels is None else {"labels": labels_setting(None, labels)}


def _require_for_folds(call: _Call) -> None:
    """Reject what cannot be combined with folds.

    Raises:
        ConfigError: If it is asked for.
    """
    _require_none_of(
        "--folds",
        ("--minutes", call.minutes is not None, "folds would get different numbers of epochs"),
        ("--target", call.target is not None, "it is known only for CIFAR-10's own split"),
        ("--tracker", bool(call.trackers), "it tracks a single run"),
        ("--no-test", call.test is False, "each fold is a test set"),
        ("--devices", call.devices is not None, "it divides one training; use --ray for several"),
    )


def _require_none_of(option: str, *others: tuple[str, bool, str]) -> None:
    """Reject an option together with another.

    Args:
        option: Option that is given.
        others: Of each other one its name, whether it is given, and why it hinders.

    Raises:
        ConfigError: If one of them is given.
    """
    for other, given, why in others:
        if given:
            raise ConfigError(f"{option} and {other} cannot be combined: {why}")


def _resume_folds(call: _Call, begun: Path, folds: int | None) -> CrossValidation:
    """Continue a cross-validation as it was begun, perhaps with data in another place."""
    asked = asked_before(begun).model_copy(update=call.given)
    if folds not in (None, asked.split.folds):
        raise ConfigError(f"{begun} has {asked.split.folds} folds, not {folds}")
    return cross_validate(
        asked,
        out=begun,
        data_dir=call.data_dir,
        progress=call.progress,
        executor=call.executor,
    )


def _train_folds(call: _Call, folds: int) -> CrossValidation:
    of_folds = {"split.folds": folds, "split.fold": 0, "split.fold_as": "test"}
    require_settable(call.given, dict.fromkeys(of_folds, "--folds decides it"))
    request = Request({**call.given, **of_folds}, call.from_file)
    CROSS_VALIDATION.require_place(call.place, request.chosen.get("data_path"))
    # Before there is a folder: an error up to here leaves none behind.
    plan = settle(request, call.progress, load_once(call.data_dir, call.progress))
    if plan.config.multi_label:
        raise ConfigError(
            "--folds gives an accuracy over all images, and these may have several classes; train "
            "without it: the mAP on the test images comes with its interval"
        )
    return cross_validate(
        plan.config,
        dataset=plan.dataset,
        out=call.place,
        data_dir=call.data_dir,
        progress=call.progress,
        executor=call.executor,
    )


def _resume_search(call: _Call, stopped: Path) -> Run:
    for option, hinders in (
        ("--tracker", bool(call.trackers)),
        ("--devices", call.devices is not None),
    ):
        if hinders:
            raise ConfigError(f"{option} is for a single network, not for a search; omit it")
    load = load_once(call.data_dir, call.progress)
    return resume_search(
        stopped,
        request=_wishes_of_search(call),
        minutes=call.minutes,
        test=call.test,
        load=load,
        progress=call.progress,
        place=Place(call.executor, call.data_dir),
    )


def _search(call: _Call, load: Callable[[RunConfig], Dataset]) -> Run:
    if call.trackers:
        raise ConfigError("--tracker tracks a single run, not a search; name a --recipe")
    return search(
        _wishes_of_search(call),
        minutes=call.minutes,
        out=call.place,
        test=call.test is not False,
        load=load,
        progress=call.progress,
        place=Place(call.executor, call.data_dir),
    )


def _wishes_of_search(call: _Call) -> Request:
    """Return what a user wants of a search, which finds the recipe by itself."""
    from_file = call.from_file
    recipe = from_file.get("recipe", AUTO)
    if recipe != AUTO:
        from_file, left_out = _wishes_beside_training(from_file, str(recipe))
        if others := [key for key in left_out if key not in call.given]:
            call.progress.say(
                "The search decides how to train; left out of the file of --config: "
                f"{', '.join(others)}"
            )
    named = {key: value for key, value in call.given.items() if key != "recipe"}
    return Request(named, {key: value for key, value in from_file.items() if key != "recipe"})


def _wishes_beside_training(
    from_file: Mapping[str, Any], recipe: str
) -> tuple[dict[str, Any], list[str]]:
    """Return what the file of a run asks of a search, and the names of what it decides itself.

    Args:
        from_file: Settings of the file, with a recipe.
        recipe: Its recipe; settings that repeat it are no wishes.
    """
    settings = dotted(from_file)
    wishes = {key: settings[key] for key in ("data",) if key in settings}
    left_out = []
    model = settings.get("model")
    if model not in (None, RECIPES.entry(recipe).info.get("model")):
        if is_backbone(str(model)):
            wishes["model"] = model
        else:
            left_out.append("model")
    for key, value in wishes_of(from_file, recipe).items():
        if key not in TRAINING and key.partition(".")[0] not in TRAINING:
            wishes[key] = value
        elif key != "weights_sha256":
            left_out.append(key)
    return wishes, left_out


def _on_devices(call: _Call, continued: bool) -> _Call:
    """Return a call for several devices with their backend, which is in use from here on.

    Before processes join each other, what cannot be trained so is rejected.

    Raises:
        ConfigError: If a new run is not of one network with known settings, or if another backend
            than JAX is asked for.
    """
    if not continued:
        on_one = "speeds are measured on one device; give --epochs"
        _require_none_of(
            "--devices",
            ("--minutes", call.minutes is not None, on_one),
            ("--target", call.target is not None, on_one),
            (
                "a search",
                _wants_search(call.given, call.from_file, call.minutes),
                "it trains heads on a backbone; name --model and --recipe",
            ),
        )
    backend = call.given.get("backend", call.from_file.get("backend", "auto"))
    if backend not in ("auto", "jax"):
        raise ConfigError(f"--devices all trains with backend jax, not {backend}")
    return replace(call, given={**call.given, "backend": backends.configure("jax")})


def _wants_search(
    given: Mapping[str, Any], from_file: Mapping[str, Any], minutes: float | None
) -> bool:
    """Return whether the way of training is to be searched for.

    It is for a folder of images with no recipe named, if a pretrained network is at hand: with no
    model named either, or with a backbone and a time.
    """
    chosen = {**from_file, **given}
    if "recipe" in chosen:
        return bool(chosen["recipe"] == AUTO)
    if chosen.get("data") != "folder" or chosen.get("weights") == RANDOM_WEIGHTS:
        return False
    model = chosen.get("model")
    if model is not None:
        return minutes is not None and is_backbone(str(model))
    return usual_recipe(chosen, Progress()) is not None


def _train_one(call: _Call, resumed: Path | None, load: Callable[[RunConfig], Dataset]) -> Run:
    """Train a single network: a new run, or one that is resumed."""
    # The command of a search is the same after its end.
    searched = resumed is not None and ends_search(resumed)
    if call.executor is not None and not searched:
        raise ConfigError(
            "--ray and --threads are for several training runs: give --folds, search on a folder "
            "of photos with --minutes, or use 'compare'"
        )
    given, from_file, progress = call.given, call.from_file, call.progress
    budget = None
    if resumed is None:
        budget = Budget.of(call.minutes, call.target, given=given, from_file=from_file)
    recipe = {**from_file, **given}.get("recipe", AUTO if searched else None)
    with joined() if call.devices is not None else nullcontext(ONE) as team:
        if not team.is_first:
            progress.say(f"Process {team.index} of {team.n_processes}; process 0 reports")
            return single.follow(team, call.data_dir)
        request = Request(given, from_file, budget, team.total)
        common: dict[str, Any] = {
            "progress": progress,
            "trackers": call.trackers,
            "devices": team,
        }
        # A script that is started again after a reboot need not know how far it got.
        if resumed is not None:
            if call.minutes is not None or call.target is not None:
                progress.say(
                    "Ignoring --minutes/--target: a resumed run keeps its network and epochs"
                )
            with failures_told(team):
                run = Run.open(resumed)
                if recipe == AUTO:  # the search has found one
                    request = new_settings(run, _wishes_of_search(call))
            return single.resume(run, request, test=call.test, data_dir=call.data_dir, **common)
        with failures_told(team):
            require_place(call.place, request.chosen.get("data_path"), Run.require_free)
            plan = settle(request, progress, load)
        return single.train(plan, out=call.place, test=call.test is not False, **common)
