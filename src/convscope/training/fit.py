"""The training path: every epoch of every recipe goes through `fit`."""

import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convscope import interrupts
from convscope.errors import DivergedError
from convscope.models.preprocessing import Size
from convscope.models.structure import as_functional
from convscope.progress import Advance, Progress
from convscope.recipe import RunConfig, dump_config
from convscope.run import Run
from convscope.scale.devices import ONE, Devices
from convscope.scale.multihost import from_first
from convscope.storage import write_text
from convscope.training.augment import hard_targets, soft_targets
from convscope.training.batches import Batches, Examples, n_batches, order_of, validation_batches
from convscope.training.filtering import Hardest, choose_hardest, epoch_lengths
from convscope.training.muon import separate_kernels
from convscope.training.objective import build_state, loss_of, merit, metrics_of
from convscope.training.optimizers import averaged_weights, build_optimizer
from convscope.training.pace import Pace
from convscope.training.passes import EpochMetrics, evaluate_epoch, steps_on_one_device, train_epoch
from convscope.training.progressive import (
    Done,
    n_smaller,
    relative_times,
    share_of_pixels,
    smaller_size,
)
from convscope.training.results import ONLY_PHASE, add_result, row_of, write_results
from convscope.training.schedules import build_schedule, set_total_steps
from convscope.training.snapshot import (
    load_snapshot,
    read_hardest,
    read_history,
    save_snapshot,
    shared_snapshot,
)
from convscope.training.steps import Steps
from convscope.training.weighting import class_weights
from convscope.types import ImageView, Stacked


@dataclass(frozen=True)
class Phase:
    """A stretch of training that updates the same weights from the same inputs.

    Attributes:
        name: "all", or the part that is trained ("head", "stage5").
        model: Model from inputs to probabilities.
        train: Training examples.
        val: Validation examples, for the choice of the best weights and early stopping.
        config: Settings of the run, with this phase's epochs, optimiser and schedule.
        save_weights: Function that saves weights (as from `model.get_weights()`) as a whole model.
        shares: Factors on the learning rate, as in `build_optimizer`.
        steps: Steps of the model, if it is already compiled by `compile_model` for these settings,
            whatever their epochs, and still untrained.
        devices: Devices among which each batch is divided. Of several processes the first writes
            the run folder, and the others need not see it.
        n_chosen: Number of epochs to train of those that the settings plan, since it was chosen
            before; None trains all, or stops early as the settings say.
        of_smaller: Time of a step on the smaller images of progressive resizing, relative to one at
            full size; None if it was not measured, and is estimated from the pixels.
    """

    model: keras.Model
    train: Examples
    val: Examples
    config: RunConfig
    save_weights: Callable[[list[Any], Path], None]
    name: str = ONLY_PHASE
    shares: Mapping[str, float] | None = None
    steps: Steps | None = None
    devices: Devices = ONE
    n_chosen: int | None = None
    of_smaller: float | None = None


def compile_model(
    model: keras.Model, config: RunConfig, n_images: int, shares: Mapping[str, float] | None = None
) -> None:
    """Compile a model with loss, optimiser and a learning rate for all epochs of its settings.

    `set_epochs` stretches the schedule over other epochs later, at no cost.

    Args:
        model: Model from inputs to probabilities.
        config: Settings of the run.
        n_images: Number of images per epoch.
        shares: Factors on the learning rate, as in `build_optimizer`.
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
    """Stretch the schedule of a compiled model over the epochs of its settings."""
    lengths = epoch_lengths(config.filter, config.epochs, hardest)
    steps = (n_batches(round(length * n_images), config.batch_size) for length in lengths)
    set_total_steps(model.optimizer, sum(steps))


def compile_at(
    model: keras.Model, config: RunConfig, rate: Any, shares: Mapping[str, float] | None = None
) -> None:
    """Compile a model with loss and optimiser at a learning rate: a number or a Keras schedule."""
    flags = config.multi_label or _softens(config)
    loss = loss_of(config, soft=flags)
    separate = separate_kernels(model) if config.optimizer.name == "muon" else ()
    optimizer = build_optimizer(config.optimizer, rate, shares, separate)
    model.compile(optimizer, loss, metrics=metrics_of(config))
    build_state(model, _n_classes(model), flags=flags)


def training_batches(
    config: RunConfig,
    train: Examples,
    n_classes: int,
    epoch: int,
    hardest: Hardest | None = None,
    devices: Devices = ONE,
) -> Batches:
    """Return the batches of one epoch, counted from 0."""
    changes = config.augment
    weights = class_weights(config.class_weights, train.labels, n_classes)
    among = None if hardest is None else hardest.places
    order = order_of(config, train.labels, epoch, among, train.images)
    if isinstance(train.images, ImageView | Stacked):
        train.images.expect(order)
    return Batches(
        train.inputs(epoch),
        train.labels,
        config.batch_size,
        order,
        soft_targets(
            config.augment, config.label_smoothing, n_classes, config.seed, epoch, weights
        ),
        devices,
        mixed=bool(changes.mixup or changes.cutmix or changes.randaugment),
    )


def fit(
    phase: Phase,
    run: Run,
    *,
    log_row: Callable[[dict[str, Any]], None],
    progress: Progress,
    pace: Pace | None = None,
) -> list[dict[str, Any]]:
    """Train a model from where its run stands to the end of the phase's last epoch.

    After each epoch the run folder holds, in this order: `weights/best.keras` if validation
    accuracy rose (with any number of classes: if validation loss fell), the snapshot,
    `results.csv`. A later call resumes from the snapshot. A process killed between two of these
    repeats the epoch, to the same bits.

    Args:
        phase: Model, data and settings of the training.
        run: Run folder; it may still be in the phase before this one.
        log_row: Called with each new row of results.
        progress: Called with each epoch.
        pace: Limit for a run with a deadline: slower epochs than planned make it train fewer of
            them, quicker epochs more, which is recorded in the run's `config.yaml`.

    Returns:
        The history: a row (`results.COLUMNS`) for each epoch, including those before a resume and
        those of earlier phases.

    Raises:
        DivergedError: If the loss is not finite; the snapshot of the epoch before is kept.
        StorageError: If something cannot be written; the snapshot before is kept.
    """
    model, config, train, devices = phase.model, phase.config, phase.train, phase.devices
    n_classes = _n_classes(model)
    if phase.steps is None:
        compile_model(model, config, len(train), phase.shares)
    history, hardest = _take_up(phase, run, progress)
    set_epochs(model, config, len(train), hardest)  # the snapshot may have fewer epochs
    own = [row for row in history if row["phase"] == phase.name]
    earlier = len(history) - len(own)
    passes = _Passes.of(phase)
    smaller = smaller_size(config.progressive, model)
    n_done_smaller = 0 if smaller is None else _done_smaller(run, len(own), devices)
    of_smaller = phase.of_smaller
    if of_smaller is None:
        of_smaller = share_of_pixels(model, smaller)
    began, first = time.monotonic(), len(own)
    patience = config.early_stop_patience if phase.n_chosen is None else None
    most = math.inf if phase.n_chosen is None else phase.n_chosen
    while len(own) < min(config.epochs, most) and not _stopped_early(own, patience):
        epoch = len(own)
        lengths = epoch_lengths(config.filter, config.epochs, hardest)
        if hardest is None and lengths[epoch] < 1:
            hardest = choose_hardest(model, train, config.filter.share, epoch, progress)
            hardest = _as_first_chose(hardest, devices, len(train))
            # With fewer epochs in the meantime, filtering begins later than planned.
            set_epochs(model, config, len(train), hardest)
        done = Done(epoch, n_done_smaller)
        size = smaller if epoch < n_smaller(config.progressive, config.epochs, done) else None
        number = earlier + epoch + 1
        label = _label(number, earlier + config.epochs, phase.name, size)
        batches = training_batches(config, train, n_classes, epoch, hardest, devices)
        with progress.task(label, batches.n_images, "images") as step:
            row, weights = passes.epoch(number, batches, size, step)
            n_done_smaller += size is not None
            done = Done(epoch + 1, n_done_smaller)
            times = relative_times(config, config.epochs, of_smaller, hardest, done)
            each = (time.monotonic() - began) / sum(times[first : epoch + 1])
            left = each * sum(times[epoch + 1 :])
            step(0, f"{_sum_up(row)}  {_clock(left)} left")

        best = max((merit(past, config) for past in history), default=-math.inf)
        own.append(row)
        history.append(row)
        if devices.is_first:
            if merit(row, config) > best:
                phase.save_weights(weights, run.weights("best"))
            if size is not None:
                run.record(smaller_images={"size": size, "epochs": n_done_smaller})
            save_snapshot(model, history, run.snapshot_file, hardest)
            add_result(history, run.results_file)
            log_row(row)
        fitting = config.epochs
        if pace is not None:
            times_of = functools.partial(
                relative_times, config, of_smaller=of_smaller, hardest=hardest, done=done
            )
            fitting = pace.fitting(len(own), config.epochs, times_of)
        if fitting != config.epochs:
            progress.say(f"To stay within the time: {fitting} epochs instead of {config.epochs}")
            config = config.model_copy(update={"epochs": fitting})
            _record_epochs(config, run, after=len(own))
            set_epochs(model, config, len(train), hardest)

    if _stopped_early(own, patience):
        progress.say(
            f"Stopped after epoch {len(history)}: validation loss has not fallen for "
            f"{patience} epochs"
        )
    if devices.is_first:
        with averages_swapped_in(model):
            save_last(phase, model.get_weights(), run, len(history))
    return history


def save_last(phase: Phase, weights: list[Any], run: Run, n_epochs: int) -> None:
    """Save the weights after the last epoch, unless the run has them.

    The same weights in another file would have another digest, to which no predictions belong and
    no refit: all of that would be made again, and the test images opened once more.

    Args:
        phase: Phase that ends.
        weights: Its weights, as from `model.get_weights()`.
        run: Run folder.
        n_epochs: Number of epochs of the run so far.
    """
    path = run.weights("last")
    known = run.state.get("last_after") if run.state_file.exists() else None
    if known != n_epochs or not path.exists():
        phase.save_weights(weights, path)
        run.record(last_after=n_epochs)


def _take_up(
    phase: Phase, run: Run, progress: Progress
) -> tuple[list[dict[str, Any]], Hardest | None]:
    """Bring a compiled model to where its run stands, and return the history until there.

    With it come the images that filtering has chosen, if it has by then. The table of results is
    written again.
    """
    model, devices = phase.model, phase.devices
    snapshot = shared_snapshot(model, run.snapshot_file, devices, phase.name)
    if snapshot is None:
        return [], None
    history = read_history(snapshot)
    begun = not history or history[-1]["phase"] == phase.name
    if begun or isinstance(snapshot, bytes):
        load_snapshot(model, snapshot)
    hardest = read_hardest(snapshot, len(phase.train)) if begun else None
    if history and begun:
        progress.say(f"Resuming after epoch {len(history)}")
    # A kill may have come between the snapshot and the table.
    if history and devices.is_first:
        write_results(history, run.results_file)
    return history, hardest


@dataclass(frozen=True)
class _Passes:
    """What every epoch of a phase runs.

    Attributes:
        phase: Phase.
        steps: Steps of its model.
        validation: Batches of the validation examples.
    """

    phase: Phase
    steps: Steps
    validation: Batches

    @classmethod
    def of(cls, phase: Phase) -> "_Passes":
        softens = _softens(phase.config) and not phase.config.multi_label
        finish = hard_targets(_n_classes(phase.model)) if softens else None
        validation = validation_batches(phase.val, finish, phase.devices)
        return cls(phase, _steps(phase), validation)

    def epoch(
        self, number: int, batches: Batches, size: Size | None, step: Advance
    ) -> tuple[dict[str, Any], list[Any]]:
        """Train for an epoch, and return its row of results and the weights that were evaluated.

        Args:
            number: Number of the epoch in the run, from 1.
            batches: Batches to train on.
            size: Size of smaller images; None for the model's own.
            step: Called with each batch.

        Raises:
            DivergedError: If a loss is not finite.
        """
        model, before = self.phase.model, number - 1
        watch = _Watch(step, before)
        start = time.monotonic()
        learnt = train_epoch(self.steps, batches, watch, size)
        seconds = time.monotonic() - start
        with averages_swapped_in(model):
            judged = evaluate_epoch(self.steps, self.validation)
            weights = model.get_weights()
        row = row_of(
            number,
            learnt,
            judged,
            learning_rate=float(model.optimizer.learning_rate),
            seconds=seconds,
            n_images=batches.n_images,
            phase=self.phase.name,
        )
        _require_finite(row["loss"], before)
        # The loss of a batch is from before its step: weights that the last step broke show here
        # first, and must not be kept as a good state.
        _require_finite(row["val_loss"], before, what="validation loss")
        return row, weights


def _label(number: int, of: int, phase: str, size: Size | None) -> str:
    label = f"epoch {number}/{of}"
    if phase != ONLY_PHASE:
        label += f" ({phase})"
    if size is not None:
        label += f" at {size[0]}x{size[1]} pixels"
    return label


def _record_epochs(config: RunConfig, run: Run, *, after: int) -> None:
    """Write down that a run has other epochs from now on, `after` those that are finished."""
    write_text(run.config_file, dump_config(config))
    changes = [*run.state.get("epochs_changed", []), {"after": after, "to": config.epochs}]
    run.record(epochs_changed=changes)


def _done_smaller(run: Run, n_done: int, devices: Devices) -> int:
    """Return how many of the epochs so far trained on smaller images, as process 0 knows."""
    kept = run.smaller_images if devices.is_first else None
    recorded = 0 if kept is None else kept.n_epochs
    # A kill may have come between the record and the snapshot.
    return min(int(from_first(devices, str(recorded).encode())), n_done)


def _steps(phase: Phase) -> Steps:
    if phase.devices.total == 1:
        return phase.steps or steps_on_one_device(phase.model)
    from convscope.training.parallel import ManyDevices

    return ManyDevices(phase.model, phase.devices)


def _as_first_chose(hardest: Hardest, devices: Devices, n_images: int) -> Hardest:
    """Return the images that process 0 chose: another processor may round losses differently."""
    chosen = from_first(devices, hardest.as_array().astype(np.int64).tobytes())
    return Hardest.from_array(np.frombuffer(chosen, np.int64), n_images)


def _n_classes(model: keras.Model) -> int:
    # Not `model.output`, which a Sequential model does not have.
    return int(as_functional(model).outputs[0].shape[-1])


def _softens(config: RunConfig) -> bool:
    weighted = config.class_weights != "none"
    soft = soft_targets(config.augment, config.label_smoothing, 2, config.seed, 0)
    return weighted or soft is not None


@contextmanager
def averages_swapped_in(model: keras.Model) -> Iterator[None]:
    """Swap in the moving averages of the model's weights for a while, if it keeps them."""
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
    """Draws progress batch by batch and stops at a non-finite loss or at Ctrl-C."""

    def __init__(self, step: Advance, epoch: int) -> None:
        self._step = step
        self._epoch = epoch
        self._batches = 0

    def __call__(self, n_images: int, loss: float, metrics: EpochMetrics) -> None:
        interrupts.check()
        _require_finite(loss, self._epoch, self._batches)
        self._batches += 1
        self._step(n_images, f"loss {metrics.loss:.3f}  accuracy {metrics.accuracy:.3f}")


def _require_finite(
    loss: float, epoch: int, batch: int | None = None, *, what: str = "loss"
) -> None:
    if math.isfinite(loss):
        return
    where = f"epoch {epoch + 1}" + ("" if batch is None else f", batch {batch + 1}")
    kept = f"the state after epoch {epoch} is kept" if epoch else "nothing was trained yet"
    raise DivergedError(
        f"the {what} is {loss} in {where}: training diverged ({kept}); "
        "start a new run with a lower --lr"
    )


def chosen_epochs(history: list[dict[str, Any]], config: RunConfig) -> dict[str, int]:
    """Return how many epochs of each phase made the weights that are evaluated, by its name.

    Args:
        history: All rows of a finished training.
        config: Its settings.
    """
    if config.judge == "best":
        history = history[: best_row(history, config) + 1]
    return dict(Counter(row["phase"] for row in history))


def best_row(history: list[dict[str, Any]], config: RunConfig) -> int:
    """Return the index of the row of the weights `best`: the first of equals, as in `fit`."""
    return max(range(len(history)), key=lambda row: (merit(history[row], config), -row))


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
