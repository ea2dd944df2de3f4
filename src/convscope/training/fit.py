"""The training path: every epoch of every recipe goes through `fit`."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convscope import interrupts
from convscope.errors import TrainingError
from convscope.models.structure import as_functional
from convscope.progress import Progress, Step
from convscope.recipe import RunConfig, dump_config
from convscope.run import Run
from convscope.storage import write_text
from convscope.training.augment import hard_targets, soft_targets
from convscope.training.batches import Batches, Examples, n_batches, order_of, validation_batches
from convscope.training.budget import Pace
from convscope.training.filtering import Hardest, choose_hardest, epoch_lengths
from convscope.training.muon import separate_kernels
from convscope.training.optimizers import averaged_weights, build_optimizer
from convscope.training.passes import Marks, judge, learn
from convscope.training.results import ONLY_PHASE, write_results
from convscope.training.schedules import build_schedule, set_total_steps
from convscope.training.snapshot import (
    load_snapshot,
    read_hardest,
    read_history,
    save_snapshot,
)


@dataclass(frozen=True)
class Phase:
    """A stretch of training in which the same weights learn from the same inputs.

    Attributes:
        name: "all", or what learns in it ("head", "stage5").
        model: From inputs to probabilities.
        train: What it learns from.
        val: What best weights and early stop are chosen by.
        config: The run's settings, with this phase's epochs, optimiser and schedule.
        save_weights: Saves weights (as `model.get_weights()` gives them) as a whole model.
        shares: As for `build_optimizer`.
        compiled: The model was compiled by `compile_model` for these settings, whatever their
            epochs, and has not learnt yet.
    """

    model: keras.Model
    train: Examples
    val: Examples
    config: RunConfig
    save_weights: Callable[[list[Any], Path], None]
    name: str = ONLY_PHASE
    shares: Mapping[str, float] | None = None
    compiled: bool = False


def compile_model(
    model: keras.Model, config: RunConfig, n_images: int, shares: Mapping[str, float] | None = None
) -> None:
    """Give a model loss, optimiser and learning rates for all epochs of its settings.

    `set_epochs` lets them fall over other epochs later, at no cost.

    Args:
        model: From inputs to probabilities.
        config: The settings.
        n_images: In an epoch.
        shares: As for `build_optimizer`.
    """
    rate = build_schedule(
        config.schedule,
        config.optimizer.learning_rate,
        epochs=config.epochs,
        steps_per_epoch=n_batches(n_images, config.batch_size),
    )
    compile_at(model, config, rate, shares)
    set_epochs(model, config, n_images)


def set_epochs(
    model: keras.Model, config: RunConfig, n_images: int, hardest: Hardest | None = None
) -> None:
    """Let the learning rate of a model that is compiled fall over the epochs of its settings."""
    lengths = epoch_lengths(config.filter, config.epochs, hardest)
    steps = (n_batches(round(length * n_images), config.batch_size) for length in lengths)
    set_total_steps(model.optimizer, sum(steps))


def compile_at(
    model: keras.Model, config: RunConfig, rate: Any, shares: Mapping[str, float] | None = None
) -> None:
    """Give a model loss and optimiser at a learning rate: a number, or a schedule of Keras'."""
    loss = "categorical_crossentropy" if _softens(config) else config.loss
    separate = separate_kernels(model) if config.optimizer.name == "muon" else ()
    optimizer = build_optimizer(config.optimizer, rate, shares, separate)
    model.compile(optimizer, loss, metrics=["accuracy"])
    # TensorFlow traces a step a second time if the first made variables: 0.3 s.
    model.optimizer.build(model.trainable_variables)
    n_classes = _n_classes(model)
    labels = np.zeros((1, n_classes) if _softens(config) else 1)
    model.compute_metrics(None, labels, np.zeros((1, n_classes)))
    model.reset_metrics()


def training_batches(
    config: RunConfig,
    train: Examples,
    n_classes: int,
    epoch: int,
    hardest: Hardest | None = None,
) -> Batches:
    """Return the batches of one epoch, counted from 0."""
    return Batches(
        train.inputs(epoch),
        train.labels,
        config.batch_size,
        order_of(config, train.labels, epoch, None if hardest is None else hardest.places),
        soft_targets(config.augment, config.label_smoothing, n_classes, config.seed, epoch),
    )


def fit(
    phase: Phase,
    run: Run,
    *,
    log_row: Callable[[dict[str, Any]], None],
    progress: Progress,
    pace: Pace | None = None,
) -> list[dict[str, Any]]:
    """Train a model, from where its run stands, to the end of the phase's last epoch.

    After each epoch the run folder holds, in this order: `weights/best.keras` if validation
    accuracy rose, the snapshot, `results.csv`. The snapshot is what a later call goes on from. A
    process killed between two of these repeats the epoch, to the same bits.

    Args:
        phase: What is trained, on what and how.
        run: Where everything goes; it may stand in the phase before this one.
        log_row: Told of each new row of results.
        progress: Told of each epoch.
        pace: Of a run that has to be over in time: if epochs take longer than planned there are
            fewer of them, if they are quicker more, which goes into the run's `config.yaml`.

    Returns:
        The history: a row (`results.COLUMNS`) for each epoch, those before a resume and those of
        earlier phases included.

    Raises:
        TrainingError: If the loss is not finite; the snapshot of the epoch before is kept.
        StorageError: If something cannot be written; the snapshot before is kept.
    """
    model, config, train = phase.model, phase.config, phase.train
    n_classes = _n_classes(model)
    if not phase.compiled:
        compile_model(model, config, len(train), phase.shares)
    history: list[dict[str, Any]] = []
    hardest: Hardest | None = None
    if run.snapshot_file.exists():
        history = read_history(run.snapshot_file)
        if history and history[-1]["phase"] == phase.name:
            load_snapshot(model, run.snapshot_file)
            hardest = read_hardest(run.snapshot_file, len(train))
            progress.say(f"Going on after epoch {len(history)}")
        # A kill may have come between the snapshot and the table.
        write_results(history, run.results_file)
    set_epochs(model, config, len(train), hardest)  # a snapshot may be of a run of fewer
    own = [row for row in history if row["phase"] == phase.name]
    earlier = len(history) - len(own)

    finish = hard_targets(n_classes) if _softens(config) else None
    validation = validation_batches(phase.val, finish)
    began, first = time.monotonic(), len(own)
    while len(own) < config.epochs and not _stopped_early(own, config.early_stop_patience):
        epoch = len(own)
        lengths = epoch_lengths(config.filter, config.epochs, hardest)
        if hardest is None and lengths[epoch] < 1:
            hardest = choose_hardest(model, train, config.filter.share, epoch, progress)
            # That begins later than planned if in the meantime there are fewer epochs.
            set_epochs(model, config, len(train), hardest)
        label = f"epoch {earlier + epoch + 1}/{earlier + config.epochs}"
        if phase.name != ONLY_PHASE:
            label += f" ({phase.name})"
        batches = training_batches(config, train, n_classes, epoch, hardest)
        with progress.task(label, batches.n_images, "images") as step:
            watch = _Watch(step, earlier + epoch)
            start = time.monotonic()
            learnt = learn(model, batches, watch)
            seconds = time.monotonic() - start
            with _averaged(model):
                judged = judge(model, validation)
                weights = model.get_weights()
            row: dict[str, Any] = {
                "epoch": earlier + epoch + 1,
                "loss": learnt.loss,
                "accuracy": learnt.accuracy,
                "val_loss": judged.loss,
                "val_accuracy": judged.accuracy,
                "learning_rate": float(model.optimizer.learning_rate),
                "seconds": round(seconds, 3),
                "images_per_s": round(batches.n_images / seconds, 1),
                "phase": phase.name,
            }
            _require_finite(row["loss"], earlier + epoch)
            # The loss of a batch is from before its step: that the last step spoilt the weights
            # shows here first, and such weights must not be kept as a good state.
            _require_finite(row["val_loss"], earlier + epoch, what="validation loss")
            each = (time.monotonic() - began) / sum(lengths[first : epoch + 1])
            left = each * sum(lengths[epoch + 1 :])
            step(0, f"{_sum_up(row)}  {_clock(left)} left")

        best = max((past["val_accuracy"] for past in history), default=-1.0)
        if row["val_accuracy"] > best:
            phase.save_weights(weights, run.weights("best"))
        own.append(row)
        history.append(row)
        save_snapshot(model, history, run.snapshot_file, hardest)
        write_results(history, run.results_file)
        log_row(row)
        fitting = config.epochs
        if pace is not None:
            lengths_of = functools.partial(epoch_lengths, config.filter, hardest=hardest)
            fitting = pace.fitting(len(own), config.epochs, lengths_of)
        if fitting != config.epochs:
            progress.say(f"To keep to the time: {fitting} epochs in place of {config.epochs}")
            config = config.model_copy(update={"epochs": fitting})
            write_text(run.config_file, dump_config(config))
            changes = [*run.state.get("epochs_changed", []), {"after": len(own), "to": fitting}]
            run.record(epochs_changed=changes)
            set_epochs(model, config, len(train), hardest)

    if _stopped_early(own, config.early_stop_patience):
        progress.say(
            f"Stopped after epoch {len(history)}: validation loss has not fallen for "
            f"{config.early_stop_patience} epochs"
        )
    with _averaged(model):
        phase.save_weights(model.get_weights(), run.weights("last"))
    return history


def _n_classes(model: keras.Model) -> int:
    # Not `model.output`, which a Sequential model has not.
    return int(as_functional(model).outputs[0].shape[-1])


def _softens(config: RunConfig) -> bool:
    return soft_targets(config.augment, config.label_smoothing, 2, config.seed, 0) is not None


@contextmanager
def _averaged(model: keras.Model) -> Iterator[None]:
    """Give the model the moving averages of its weights for a while, if it keeps them."""
    averages = averaged_weights(model)
    if averages is None:
        yield
        return
    own = model.get_weights()
    model.set_weights(averages)
    try:
        yield
    finally:
        model.set_weights(own)


class _Watch:
    """Draws progress batch by batch and stops at a loss that is not finite, or at Ctrl-C."""

    def __init__(self, step: Step, epoch: int) -> None:
        self._step = step
        self._epoch = epoch
        self._batches = 0

    def __call__(self, n_images: int, loss: float, marks: Marks) -> None:
        interrupts.check()
        _require_finite(loss, self._epoch, self._batches)
        self._batches += 1
        self._step(n_images, f"loss {marks.loss:.3f}  accuracy {marks.accuracy:.3f}")


def _require_finite(
    loss: float, epoch: int, batch: int | None = None, *, what: str = "loss"
) -> None:
    if math.isfinite(loss):
        return
    where = f"epoch {epoch + 1}" + ("" if batch is None else f", batch {batch + 1}")
    kept = f"the state after epoch {epoch} is kept" if epoch else "nothing was learnt yet"
    raise TrainingError(
        f"the {what} is {loss} in {where}: training diverged ({kept}); "
        "start a new run with a lower --lr"
    )


def _stopped_early(history: list[dict[str, Any]], patience: int | None) -> bool:
    if patience is None or len(history) <= patience:
        return False
    losses = [float(row["val_loss"]) for row in history]
    return min(losses[-patience:]) >= min(losses[:-patience])


def _sum_up(row: dict[str, Any]) -> str:
    return (
        f"loss {row['loss']:.3f}  accuracy {row['accuracy']:.3f}  "
        f"val loss {row['val_loss']:.3f}  val accuracy {row['val_accuracy']:.3f}"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
