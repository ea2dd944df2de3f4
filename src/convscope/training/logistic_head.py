"""A head of logistic regression on frozen features: its penalty, its optimum, its predictions."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convscope.models.head import Block, set_statistics, standardised, weighed
from convscope.models.transfer import END
from convscope.progress import Progress
from convscope.recipe import AugmentSettings, RunConfig
from convscope.run import Run
from convscope.storage import atomic_path, link_or_copy, scratch_array
from convscope.training.batches import validation_batches
from convscope.training.fit import Phase, compile_at, save_last
from convscope.training.frozen import FrozenOutput
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
from convscope.training.passes import evaluate_epoch, steps_on_one_device
from convscope.training.results import HEAD, row_of, write_results
from convscope.training.snapshot import load_snapshot, save_snapshot
from convscope.training.weighting import weighting_of_logistic
from convscope.types import FloatArray, Predictions


def fit_at_once(
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
        penalty, factor = _choose(phase, output, features, views, blocks, run, progress)
        for block in blocks:
            features[:, block.last] *= factor
        statistics = weighed(statistics, blocks, factor)
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
    row = row_of(
        1, learnt, judged, learning_rate=0.0, seconds=seconds, n_images=len(labels), phase=HEAD
    )
    # In the order of `fit`: a run with weights and no snapshot could not be resumed.
    phase.save_weights(model.get_weights(), run.weights("best"))
    save_snapshot(model, [row], run.snapshot_file)
    write_results([row], run.results_file)
    log_row(row)
    link_or_copy(run.weights("best"), run.weights("last"))
    run.record(last_after=1)
    return [row]


def _choose(
    phase: Phase,
    output: FrozenOutput,
    features: FloatArray,
    views: int,
    blocks: Sequence[Block],
    run: Run,
    progress: Progress,
) -> tuple[float, float]:
    """Return the penalty and the size of the features of the last map, and record them.

    Args:
        phase: Head, and the features of training and validation images.
        output: What the features are of.
        features: Standardised features of all views.
        views: Number of views.
        blocks: Blocks of the features.
        run: Run folder, which gets the candidates and the losses of the best.
        progress: Called with each penalty that is tried, and with the best.
    """
    config, labels = phase.config, phase.train.labels
    # One view is enough for the start of fine-tuning, and up to ten times as quick.
    compared = views if config.backbone.cut == END else 1
    tried = choose_penalty(
        features[: compared * len(phase.train)],
        labels,
        int(phase.model.output_shape[-1]),
        seed=config.seed,
        together=output.together,
        views=compared,
        weighting=weighting_of_logistic(config),
        blocks=blocks,
        last_maps=LAST_MAP if config.head.last_map is None else (config.head.last_map,),
        progress=progress,
    )
    best = tried[0]
    write_candidates(tried, run)
    with atomic_path(run.held_out_file) as temporary, temporary.open("wb") as stream:
        np.save(stream, best.losses)
    held_out = {"accuracy": best.accuracy, "loss": best.loss}
    run.record(penalty=best.penalty, last_map=best.last_map, held_out=held_out)
    progress.say(
        f"Head: logistic regression with penalty {best.penalty:g}; on held-out training images "
        f"{hits_in_words(labels)} {best.accuracy:.4f}, loss {best.loss:.4f}"
    )
    return best.penalty, best.last_map


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


def predict_out_of_fold(
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
