"""Training on a pretrained backbone: the frozen part runs once, the rest trains on its output."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convscope.backend import precision_policy
from convscope.models.head import (
    Block,
    build_head,
    feature_statistics,
    set_statistics,
    standardised,
    weighed,
)
from convscope.models.saving import PortableModel
from convscope.models.transfer import END, START, TransferModel, build_transfer
from convscope.models.weights import FoundWeights
from convscope.progress import Progress
from convscope.recipe import AugmentSettings, HeadSettings, RunConfig, ScheduleSettings
from convscope.run import Run
from convscope.scale.devices import ONE, Devices
from convscope.scale.multihost import from_first
from convscope.storage import atomic_path, link_or_copy, scratch_array
from convscope.training.batches import Examples, validation_batches
from convscope.training.fit import Phase, averages_swapped_in, best_row, compile_at, fit, save_last
from convscope.training.frozen import FrozenOutput, run_frozen, run_to_cut
from convscope.training.heads import choose_head
from convscope.training.logistic import (
    LAST_MAP,
    choose_penalty,
    held_out_probs,
    hits_in_words,
    labels_in_views,
    one_thread_each,
    write_candidates,
)
from convscope.training.logistic_fit import fit_logistic
from convscope.training.pace import Pace
from convscope.training.passes import evaluate_epoch, steps_on_one_device
from convscope.training.results import HEAD, write_results
from convscope.training.snapshot import load_snapshot, read_history, save_snapshot
from convscope.training.temperature import calibrated_loss
from convscope.training.weighting import weighting_of_logistic
from convscope.types import (
    Dataset,
    FloatArray,
    InputSpec,
    Predictions,
    Split,
)


def train_transfer(
    config: RunConfig,
    spec: InputSpec,
    dataset: Dataset,
    weights: FoundWeights | None,
    run: Run,
    *,
    log_row: Callable[[dict[str, Any]], None],
    progress: Progress,
    pace: Pace | None = None,
    chosen: Mapping[str, int] | None = None,
    keep_out_of_fold: Callable[[Predictions], None] | None = None,
    devices: Devices = ONE,
) -> list[dict[str, Any]]:
    """Train a head on a backbone, then the layers behind the cut, from where the run stands.

    On several devices, the layers behind the cut: the head alone is trained by the first process,
    and the others take its result.

    Args:
        config: Resolved settings; `backbone.cut` decides which part stays frozen.
        spec: Input of the backbone.
        dataset: Dataset with a validation part.
        weights: Weights of the backbone; None keeps random ones.
        run: Run folder.
        log_row: Called with each new row of results.
        progress: Called with features and epochs.
        pace: Limit that keeps the epochs behind the cut to their time, if there is one.
        chosen: For a refit, which learns from the validation images too, so that rows on these say
            nothing: epochs to train of those planned, by phase; a phase that is not there has none.
            None trains as the settings say.
        keep_out_of_fold: Function that keeps predictions for the images that a logistic head on a
            frozen backbone learns, each by a head without it; None makes none.
        devices: Devices among which each batch is divided; one of them if nothing is behind the
            cut.

    Returns:
        The history, as from `fit`.

    Raises:
        ConfigError: If the backbone cannot be built or cut like that.
        DivergedError: If the loss is not finite.
        StorageError: If something cannot be written.
    """
    n_classes = len(dataset.class_names)
    assert dataset.val is not None

    refit = chosen is not None

    def n_chosen(phase: str) -> int | None:
        return None if chosen is None else chosen.get(phase, 0)

    def build(head: HeadSettings, precision: str) -> TransferModel:
        # Seeded each time: random weights of a backbone, if any, are the same in all.
        keras.utils.set_random_seed(config.seed)
        return build_transfer(
            config.model,
            spec,
            n_classes,
            head,
            cut=config.backbone.cut,
            weights=weights,
            precision=precision,
            activation=config.activation,
        )

    frozen = build(config.head, config.backbone.precision)
    parts = dataset.parts_to_learn(refit=refit)
    if not devices.is_first:
        maps = run_to_cut(frozen, config, spec, parts, dataset.val)
        head = _head_of_first(devices)
        network = build(head, config.precision)
        phase = _behind_the_cut(network, *maps, config, _save_nothing, devices)
        return fit(phase, run, log_row=log_row, progress=progress)
    output = _run_frozen(frozen, config, spec, parts, dataset.val, progress)
    run.record(feature_seconds=output.seconds, feature_seconds_here=output.spent)
    statistics = feature_statistics(output.features.inputs(0))
    head = choose_head(
        config, output.features, output.features_val, statistics, n_classes, run, progress
    )

    if (head, config.backbone.precision) == (config.head, "float32"):
        twin = frozen
    else:
        del frozen
        twin = build(head, "float32")
    on_features = (output.features, output.features_val)

    def save_as(part: keras.Model) -> Callable[[list[Any], Path], None]:
        return PortableModel(lambda: (part, twin.whole)).save

    if twin.cut == END:
        keras.utils.set_random_seed(config.seed)
        with precision_policy(config.precision):
            shape, activation = output.features.inputs(0).shape[1:], config.activation
            alone = build_head(shape, head, n_classes, statistics, activation)
        save, n_epochs = save_as(twin.head), n_chosen(HEAD)
        phase = Phase(alone, *on_features, config, save, HEAD, n_chosen=n_epochs)
        if head.logistic:
            if keep_out_of_fold is not None and not run.snapshot_file.exists():
                keep_out_of_fold(_out_of_fold(phase, output, statistics, twin.blocks, run))
            return _fit_at_once(
                phase, output, statistics, twin.blocks, run, log_row=log_row, progress=progress
            )
        return fit(phase, run, log_row=log_row, progress=progress)

    network = build(head, config.precision)
    network.standardise(*statistics)
    history = read_history(run.snapshot_file) if run.snapshot_file.exists() else []
    if not history or history[-1]["phase"] == HEAD:
        if head.logistic:
            phase = Phase(network.head, *on_features, config, save_as(twin.head), HEAD)
            history = _fit_at_once(
                phase, output, statistics, twin.blocks, run, log_row=log_row, progress=progress
            )
        elif config.backbone.head_epochs > 0:
            alone, save, n_epochs = _head_alone(config), save_as(twin.head), n_chosen(HEAD)
            phase = Phase(network.head, *on_features, alone, save, HEAD, n_chosen=n_epochs)
            history = fit(phase, run, log_row=log_row, progress=progress)
        if history:
            link_or_copy(run.weights("last"), run.weights("frozen"))
            run.record(frozen_loss=_validation_loss(network.head, output.features_val))
    if refit and run.state.get("rolled_back"):
        return history
    _head_of_first(devices, head)
    upper = twin.upper()
    save = save_as(upper)
    if config.judge == "best" and not refit:
        save = _noting_best(save, upper, output.maps_val, run)
    phase = _behind_the_cut(network, output.maps, output.maps_val, config, save, devices)
    phase = replace(phase, n_chosen=n_chosen(phase.name))
    history = fit(phase, run, log_row=log_row, progress=progress, pace=pace)
    if not refit and "frozen_loss" in run.state:
        best_is_head = history[best_row(history, config)]["phase"] == HEAD
        none_evaluated = config.judge == "best" and best_is_head
        tuned = None if none_evaluated else _tuned_loss(phase, run)
        _keep_the_better(tuned, run, progress)
    return history


def _head_of_first(devices: Devices, head: HeadSettings | None = None) -> HeadSettings:
    """Return the head that the first process gives; the others wait here until it is trained."""
    content = b"" if head is None else head.model_dump_json().encode()
    return HeadSettings.model_validate_json(from_first(devices, content))


def _behind_the_cut(
    network: TransferModel,
    maps: Examples,
    maps_val: Examples,
    config: RunConfig,
    save: Callable[[list[Any], Path], None],
    devices: Devices,
) -> Phase:
    """Return the phase that trains the layers behind the cut."""
    decay = config.optimizer.layer_decay
    return Phase(
        network.upper(),
        maps,
        maps_val,
        config,
        save,
        "whole network" if network.cut == START else f"after {network.cut}",
        {path: decay**depth for path, depth in network.stage_of().items()},
        devices=devices,
    )


def _save_nothing(weights: list[Any], path: Path) -> None:
    """Leave the files to the first process."""


def _noting_best(
    save: Callable[[list[Any], Path], None], part: keras.Model, val: Examples, run: Run
) -> Callable[[list[Any], Path], None]:
    """Return a function that saves weights and, of the best, records the validation loss.

    Args:
        save: Function that sets the weights of `part` and saves them.
        part: Layers behind the cut, in a network of their own.
        val: Validation examples for these.
        run: Run folder.
    """

    def save_and_note(weights: list[Any], path: Path) -> None:
        save(weights, path)
        if path == run.weights("best"):
            run.record(best_loss=_validation_loss(part, val))

    return save_and_note


def _tuned_loss(phase: Phase, run: Run) -> float:
    """Return the validation loss of the epoch behind the cut that would be evaluated."""
    if phase.config.judge == "best" and "best_loss" in run.state:
        return float(run.state["best_loss"])
    # The last one; or the best is from before its loss was recorded.
    with averages_swapped_in(phase.model):
        return _validation_loss(phase.model, phase.val)


def _keep_the_better(tuned: float | None, run: Run, progress: Progress) -> None:
    """Return to the head on the frozen backbone if training layers of that did not beat it.

    Args:
        tuned: Validation loss of the epoch behind the cut that would be evaluated; None if that is
            none, since the best epoch is one of the head alone.
        run: Run folder.
        progress: Called if the frozen backbone is kept.
    """
    frozen = float(run.state["frozen_loss"])
    better = tuned is not None and tuned < frozen
    run.record(rolled_back=not better)
    if better:
        return
    # Whichever is evaluated, an epoch with layers of the backbone is not.
    for name in ("last",) if tuned is None else ("last", "best"):
        if run.weights(name).exists():
            link_or_copy(run.weights("frozen"), run.weights(name))
    reason = (
        "the best epoch is one with the frozen backbone"
        if tuned is None
        else f"validation loss {tuned:.4f}, {frozen:.4f} with the frozen backbone"
    )
    progress.say(f"Fine-tuning did not help: {reason}, which is kept")


def _validation_loss(model: keras.Model, val: Examples) -> float:
    """Return mean cross-entropy on validation images at the best temperature, in nats."""
    batches = validation_batches(val)
    probs = np.concatenate(
        [np.asarray(model.predict_on_batch(batches[i][0])) for i in range(len(batches))]
    )
    return calibrated_loss(probs, val.labels)


def _fit_at_once(
    phase: Phase,
    output: FrozenOutput,
    statistics: tuple[FloatArray, FloatArray],
    blocks: Sequence[Block],
    run: Run,
    *,
    log_row: Callable[[dict[str, Any]], None],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Bring a linear head to the optimum of logistic regression: in place of `fit`, one row.

    Args:
        phase: Head, and the features of training and validation images.
        output: What the features are of.
        statistics: Mean and variance of the features.
        blocks: Blocks of the features.
        run: Run folder.
        log_row: Called with the row of results.
        progress: Called with each penalty that is tried.
    """
    config, model = phase.config, phase.model
    plain = {"label_smoothing": 0.0, "augment": AugmentSettings(), "class_weights": "none"}
    compile_at(model, config.model_copy(update=plain), 0.0)
    if run.snapshot_file.exists():
        history = load_snapshot(model, run.snapshot_file)
        # A kill may have come before what is written after it.
        write_results(history, run.results_file)
        save_last(phase, model.get_weights(), run, len(history))
        return history
    penalty = config.head.penalty or run.state.get("penalty")
    if penalty is not None:
        statistics = weighed(statistics, blocks, _last_map(config, run))
    features, views = _standardised_views(phase, statistics)
    labels = labels_in_views(phase.train.labels, views)
    n_classes = int(model.output_shape[-1])
    if penalty is None:
        # One view is enough for the start of fine-tuning, and up to ten times as quick.
        compared = views if config.backbone.cut == END else 1
        tried = choose_penalty(
            features[: compared * len(phase.train)],
            phase.train.labels,
            n_classes,
            seed=config.seed,
            together=output.together,
            views=compared,
            weighting=weighting_of_logistic(config),
            blocks=blocks,
            last_maps=LAST_MAP if config.head.last_map is None else (config.head.last_map,),
            progress=progress,
        )
        penalty, factor = tried[0].penalty, tried[0].last_map
        for block in blocks:
            features[:, block.last] *= factor
        statistics = weighed(statistics, blocks, factor)
        write_candidates(tried, run)
        with atomic_path(run.held_out_file) as temporary, temporary.open("wb") as stream:
            np.save(stream, tried[0].losses)
        held_out = {"accuracy": tried[0].accuracy, "loss": tried[0].loss}
        run.record(penalty=penalty, last_map=factor, held_out=held_out)
        progress.say(
            f"Head: logistic regression with penalty {penalty:g}; on held-out training images "
            f"{hits_in_words(phase.train.labels)} {tried[0].accuracy:.4f}, loss "
            f"{tried[0].loss:.4f}"
        )
    start = time.monotonic()
    with progress.task("Training the head", None, "steps") as step, one_thread_each() as pool:
        head = fit_logistic(
            features,
            labels,
            n_classes,
            penalty,
            blocks=blocks,
            weighting=weighting_of_logistic(config),
            pool=pool,
            step=step,
        )
    set_statistics(model, statistics)
    model.layers[-1].set_weights(list(head))
    seconds = time.monotonic() - start
    steps = steps_on_one_device(model)
    learnt = evaluate_epoch(steps, validation_batches(phase.train))
    judged = evaluate_epoch(steps, validation_batches(phase.val))
    row = {
        "epoch": 1,
        "loss": learnt.loss,
        "accuracy": learnt.accuracy,
        "val_loss": judged.loss,
        "val_accuracy": judged.accuracy,
        "learning_rate": 0.0,
        "seconds": round(seconds, 3),
        "images_per_s": round(len(labels) / seconds, 1),
        "phase": HEAD,
    }
    # In the order of `fit`: a run with weights and no snapshot could not be resumed.
    phase.save_weights(model.get_weights(), run.weights("best"))
    save_snapshot(model, [row], run.snapshot_file)
    write_results([row], run.results_file)
    log_row(row)
    link_or_copy(run.weights("best"), run.weights("last"))
    run.record(last_after=1)
    return [row]


def _last_map(config: RunConfig, run: Run) -> float:
    """Return the size of the features of the last map that was chosen with the penalty, or set."""
    return float(run.state.get("last_map") or config.head.last_map or 1.0)


def _standardised_views(
    phase: Phase, statistics: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, int]:
    """Return the features of all views, one view after another, and the number of views."""
    views = phase.config.backbone.views if phase.config.augment.varies else 1
    n_images = len(phase.train)
    features = scratch_array((views * n_images, len(statistics[0])))
    for view in range(views):
        part = features[view * n_images : (view + 1) * n_images]
        standardised(phase.train.inputs(view), statistics, out=part)
    return features, views


def _out_of_fold(
    phase: Phase,
    output: FrozenOutput,
    statistics: tuple[FloatArray, FloatArray],
    blocks: Sequence[Block],
    run: Run,
) -> Predictions:
    """Return predictions for the images that a head learns, each by a head without it."""
    config = phase.config
    statistics = weighed(statistics, blocks, _last_map(config, run))
    features, views = _standardised_views(phase, statistics)
    rows, probs = held_out_probs(
        features,
        phase.train.labels,
        int(phase.model.output_shape[-1]),
        config.head.penalty or run.state["penalty"],
        seed=config.seed,
        together=output.together,
        views=views,
        blocks=blocks,
        weighting=weighting_of_logistic(config),
    )
    images = output.images
    groups = None if images.groups is None else images.groups[rows]
    return Predictions(probs, images.labels[rows], images.ids[rows], "out_of_fold", groups)


def _run_frozen(
    frozen: TransferModel,
    config: RunConfig,
    spec: InputSpec,
    train: Sequence[Split],
    val: Split,
    progress: Progress,
) -> FrozenOutput:
    rows, columns, _ = frozen.map_shape
    if (rows, columns) == (1, 1):
        name, sensible = frozen.backbone.name, max(96, frozen.backbone.sensible_size)
        progress.say(
            f"Note: at {spec.height}x{spec.width} pixels the last feature map of {name} is a "
            "single pixel, too little to tell objects apart; "
            f"--image-size {sensible} or more is better"
        )
    return run_frozen(frozen, config, spec, train, val, progress)


def _head_alone(config: RunConfig) -> RunConfig:
    optimizer = config.optimizer.model_copy(
        update={"learning_rate": config.backbone.head_learning_rate, "ema": None}
    )
    return config.model_copy(
        update={
            "epochs": config.backbone.head_epochs,
            "optimizer": optimizer,
            "schedule": ScheduleSettings(name="cosine"),
            "early_stop_patience": None,
        }
    )
