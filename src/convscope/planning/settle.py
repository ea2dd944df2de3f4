"""The single place where the settings of a run are decided, before there is a folder.

`settle` turns a user's request into a resolved configuration with everything that it names: names
are looked up, a dataset's own settings applied, "auto" replaced by its value here, batches of few
images shrunk, the digest of a backbone's weights recorded, network and epochs chosen for a budget.
Afterwards a configuration changes in three places alone: a run with a time limit may end up with
other epochs, which it records; a resumed run takes more epochs or a refit (`settle_resumed`); and
a search has its winner trained once more, on validation images too (`studies.search.auto`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope import backend as backends
from convscope.datasets import settings_of
from convscope.datasets.division.splits import require_any_class, require_drawn
from convscope.datasets.source import settings_at, settled_labels
from convscope.effects import require_effect
from convscope.errors import ConfigError, RunError
from convscope.models import is_backbone
from convscope.paths import is_address, user_path
from convscope.planning.budget import Budget, choose
from convscope.planning.data import load_of_run
from convscope.planning.networks import build_model, input_spec
from convscope.planning.plan import Plan
from convscope.planning.usual import recipe_for, usual_recipe, usual_settings, wishes_of
from convscope.progress import Progress
from convscope.recipe import (
    RANDOM_WEIGHTS,
    Recipe,
    RunConfig,
    flat,
    resolve,
    resolve_resumed,
)
from convscope.recipes import (
    RECIPES,
    require_fitting,
    settings_of_model,
    usual_model,
)
from convscope.training.augment import require_turnable
from convscope.types import Dataset

if TYPE_CHECKING:
    from convscope.models.weights import FoundWeights

_BEFORE_LEAST_STEPS = 3
"""Before this format, a batch size in a file is kept, whatever `least_steps` says."""


@dataclass(frozen=True)
class Request:
    """A user's request, with nothing looked up yet.

    Attributes:
        given: Options and `--set`, by dotted name.
        from_file: Settings from a file, by dotted name, which are weaker.
        budget: Time limit or wanted accuracy, for which network and epochs are chosen.
        n_devices: Number of devices among which each batch is divided.
    """

    given: Mapping[str, Any]
    from_file: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget | None = None
    n_devices: int = 1

    @property
    def chosen(self) -> dict[str, Any]:
        """All settings that the user named, by dotted name."""
        return {**self.from_file, **self.given}


def settle(
    request: Request,
    progress: Progress,
    load: Callable[[RunConfig], Dataset],
) -> Plan:
    """Return the plan of a new run.

    Args:
        request: Request of the user.
        progress: Called with downloads, measurements and their consequences.
        load: Function that loads the data of settings; see `planning.data.load_once`.

    Raises:
        UserError: If a name, a setting or the data is wrong, or the model cannot be built.
        FailureError: If weights or data cannot be obtained.
    """
    config = settle_names(request, progress)
    dataset = load(config)
    # In a file of a run they were named by nobody.
    require_drawn(dataset, request.given)
    config = settle_labels(request, config, dataset)
    for settings in (config.augment, config.tta):
        require_turnable(settings, *dataset.image_shape[:2])
    config = settle_batches(request, config, len(dataset.train), progress)
    config, weights = _locate_weights(config, progress)
    if "backbone.views" not in request.chosen:
        _tell_single_version(config, progress)
    plan = Plan(config, dataset, weights)
    if request.budget is not None:
        return choose(
            request.budget,
            plan,
            request.chosen.get("model"),
            lambda model: _with_model(plan.config, model, request),
            progress,
        )
    _try_building(plan)
    return plan


def _with_model(config: RunConfig, model: str, request: Request) -> RunConfig:
    """Return settled settings with another network, and with what the recipe has for it alone.

    What the user or the data decides is stronger.
    """
    by_name = Request({**request.given, "model": model}, request.from_file, request.budget)
    settled = flat(settle_names(by_name, Progress()).model_dump())
    own = {key: settled[key] for key in settings_of_model(config.recipe, model)}
    return resolve(config, {"model": model, **own})


def settle_resumed(
    saved: RunConfig,
    request: Request,
    progress: Progress,
    *,
    data_dir: Path | str | None = None,
    split_file: Path | None = None,
) -> Plan:
    """Return the plan by which a run is resumed: its own, with at most more epochs.

    Args:
        saved: Resolved settings of the run.
        request: Settings that the user repeats; data and weights may be elsewhere by now.
        progress: Progress, as for `settle`.
        data_dir: Further folder to look for the files of a built-in dataset.
        split_file: Its `split.csv`, see `load_of_run`; None for what was not divided yet.

    Raises:
        ConfigError: If anything else differs.
        FailureError: If weights or data cannot be obtained.
    """
    config = resolve_resumed(saved, request.from_file, request.given)
    return prepare(config, progress, data_dir, split_file)


def prepare(
    config: RunConfig,
    progress: Progress,
    data_dir: Path | str | None = None,
    split_file: Path | None = None,
) -> Plan:
    """Return the plan of resolved settings: load what they name, change nothing.

    Raises:
        DataError: If the data cannot be loaded.
        RunError: If a backbone's weights are not those that the settings name.
    """
    dataset = load_of_run(config, split_file, None, None, data_dir, progress)
    resolved, weights = _locate_weights(config, progress)
    return Plan(resolved, dataset, weights)


def settle_names(request: Request, progress: Progress) -> RunConfig:
    """Return the settings as far as they can be decided without the images.

    Raises:
        UserError: If a name or a setting is wrong.
    """
    from_file, given = request.from_file, dict(request.given)
    # Before any name in it is looked up: it may come from a newer convscope.
    resolve(Recipe(), from_file)
    if given.keys() & {"model", "weights"}:
        # The digest in the file belongs to the weights that were named there.
        from_file = {key: value for key, value in from_file.items() if key != "weights_sha256"}
    if request.budget is not None:
        given |= request.budget.defaults(request.chosen)
    chosen = {**from_file, **given}
    if not chosen.keys() & {"model", "recipe"} and (recipe := usual_recipe(chosen, progress)):
        chosen["recipe"] = recipe
    model = chosen.get("model")
    if model is None:
        model = usual_model(chosen.get("recipe"))
    model = str(model)
    backbone = is_backbone(model)
    data = str(chosen.get("data", "cifar10"))
    recipe = str(chosen.get("recipe", recipe_for(model, data, epochs="epochs" in chosen)))
    require_fitting(recipe, model, backbone=backbone)
    defaults = RECIPES.get(recipe)()
    wished = wishes_of(from_file, recipe)
    names = {"recipe": recipe, "model": model, "data": data}
    config = resolve(usual_settings(recipe, model, data), wished, names, given)
    require_effect(config, defaults, backbone=backbone)
    if defaults.augment.flip and not config.augment.flip and "augment.flip" in settings_of(data):
        progress.say(
            f"{data}: mirroring would change what an image shows, so flipping is turned off"
        )
    if config.weights is not None and not backbone:
        raise ConfigError(f"{model} starts from random weights; --weights is for backbones")
    update: dict[str, Any] = {"backend": backends.configure(config.backend)}
    if (line := backends.idle_gpu(update["backend"])) and progress.is_news(line):
        progress.say(line)
    # Absolute, as options are: a file of settings may have ~ and variables in them.
    if config.data_path is not None:
        at = config.data_path
        update |= settings_at(config.data, at if is_address(at) else Path(at))
    if config.labels is not None:
        update.setdefault("labels", settled_labels(config.labels))
    if config.weights is not None:
        update["weights"] = weights_setting(config.weights)
    if config.precision == "auto":
        from convscope.training.precision import choose_precision

        update["precision"] = choose_precision(progress)
    return config.model_copy(update=update)


def settle_labels(request: Request, config: RunConfig, dataset: Dataset) -> RunConfig:
    """Return the settings with what the data decides: whether an image has any number of classes.

    Raises:
        ConfigError: If a setting that the user named does not suit such images.
        DataError: If no validation image has any class.
    """
    asked = request.given.get("multi_label")
    if asked is not None and asked != dataset.multi_label:
        raise ConfigError(
            f"the data decides multi_label, and it is {str(dataset.multi_label).lower()} for "
            f"{dataset.name}; to read a table otherwise: --labels TABLE:multi_label=yes (or no)"
        )
    require_any_class(dataset, "val")
    if dataset.multi_label:
        for key, holds in (
            ("balance", config.balance),
            ("class_weights", config.class_weights != "none"),
        ):
            if holds:
                raise ConfigError(
                    f"{key} is for images of exactly one class, and those of {dataset.name} may "
                    f"have several; omit it (thresholds are chosen for each class instead)"
                )
    fields = RunConfig.model_fields
    loss = "binary_crossentropy" if dataset.multi_label else fields["loss"].default
    if request.given.get("loss", loss) != loss:
        raise ConfigError(f"the data decides the loss, and it is {loss} for {dataset.name}")
    return config.model_copy(update={"multi_label": dataset.multi_label, "loss": loss})


def settle_batches(
    request: Request, config: RunConfig, n_images: int, progress: Progress
) -> RunConfig:
    """Return the settings with batches small enough for the least number of steps per epoch.

    Settings that went through this before stay as they are.

    Args:
        request: Request of the user.
        config: Settings from `settle_names`.
        n_images: Number of training images.
        progress: Called if a batch size that the user named is not kept.
    """
    if config.least_steps == 1:
        return config
    file = request.from_file
    if "batch_size" in file and file.get("format", RunConfig().format) < _BEFORE_LEAST_STEPS:
        return config
    from convscope.training.batches import n_batches

    steps = max(config.least_steps, n_batches(n_images, config.batch_size))
    batch_size = math.ceil(n_images / steps / request.n_devices) * request.n_devices
    if "batch_size" in request.given and batch_size != config.batch_size:
        progress.say(
            f"Batch size {batch_size} instead of {config.batch_size}, for {steps} batches of about "
            "equal size per epoch; --set least_steps=1 keeps yours"
        )
    return config.model_copy(update={"batch_size": batch_size})


def weights_setting(weights: Path | str | None) -> str | None:
    """Return the setting that `--weights` stands for: an absolute path, "random" or None."""
    if weights is None or str(weights) == RANDOM_WEIGHTS:
        return None if weights is None else RANDOM_WEIGHTS
    # Absolute, so that the run can be resumed from another folder.
    return str(user_path(weights, "--weights").absolute())


def _locate_weights(
    config: RunConfig, progress: Progress
) -> "tuple[RunConfig, FoundWeights | None]":
    """Return the configuration with the digest of the backbone's weights, and their file."""
    if not is_backbone(config.model) or config.weights == RANDOM_WEIGHTS:
        return config, None
    from convscope.models.backbones import BACKBONES
    from convscope.models.weights import find_weights, is_published

    backbone = BACKBONES.get(config.model)
    found = find_weights(backbone, config.weights, progress)
    for part, file in zip(backbone.parts or (backbone,), found.files, strict=True):
        # Others may be as good, but their results are not comparable.
        other = part.weights.digest is not None and not is_published(part, file)
        note = ", not the file that Keras publishes" if other else ""
        line = f"Weights: {file.path} ({file.origin}{note})"
        if progress.is_news(line):
            progress.say(line)
    if config.weights_sha256 not in (None, found.sha256):
        raise RunError(
            f"{found.path} does not hold the weights that the run's configuration names; "
            "give those with --weights, or start a new run without weights_sha256"
        )
    return config.model_copy(update={"weights_sha256": found.sha256}), found


def _tell_single_version(config: RunConfig, progress: Progress) -> None:
    """Say if augmentation makes one version of each image, which is the same in all epochs."""
    backbone = config.backbone
    has_frozen_part = is_backbone(config.model) and backbone.cut != "start"
    if not (has_frozen_part and config.augment.varies and backbone.views == 1):
        return
    line = (
        "Note: with backbone.views 1 the frozen part sees one changed version of each image, such "
        "as mirrored or not, and every epoch learns that one; --set backbone.views=2 makes two"
    )
    if progress.is_news(line):
        progress.say(line)


_built: set[str] = set()
"""Backbones with heads that could be built: a search settles the same one for many runs."""


def _try_building(plan: Plan) -> None:
    """Raise the error that building the model, or loading its weights, would raise."""
    config = plan.config
    spec, n_classes = input_spec(plan.dataset, config), len(plan.dataset.class_names)
    if not is_backbone(config.model):
        from convscope.training.progressive import smaller_size
        from convscope.training.start import patch_layer

        model = build_model(config, spec, n_classes)
        if config.start.whiten:
            patch_layer(model)
        smaller_size(config.progressive, model)
        return
    from convscope.models.transfer import build_transfer

    cut, activation = config.backbone.cut, config.activation
    network = (config.model, spec, n_classes, config.head, cut, plan.weights, activation)
    if repr(network) in _built:
        return
    transfer = build_transfer(
        config.model,
        spec,
        n_classes,
        config.head,
        cut=cut,
        weights=plan.weights,
        activation=activation,
    )
    transfer.upper()  # raises if the backbone cannot be cut there
    _built.add(repr(network))
