"""The training path: every epoch of every recipe goes through `fit`."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from convscope.errors import TrainingError
from convscope.progress import Progress, Step
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.training.batches import Batches, epoch_order
from convscope.training.optimizers import build_optimizer
from convscope.training.results import write_results
from convscope.training.snapshot import load_snapshot, save_snapshot
from convscope.types import Split

_EVAL_BATCH = 512
"""Nothing is learnt in validation, so its batch is as large as is fast."""


def fit(
    model: keras.Model,
    train: Split,
    val: Split,
    config: RunConfig,
    run: Run,
    *,
    save_weights: Callable[[list[Any], Path], None],
    log_row: Callable[[dict[str, Any]], None],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Train a model, from where its run stands, to the end of its last epoch.

    After each epoch the run folder holds, in this order: `weights/best.keras` if validation
    accuracy rose, the snapshot, `results.csv`. The snapshot is what a later call goes on from. A
    process killed between two of these repeats the epoch, to the same bits.

    Args:
        model: Fresh from its builder, not compiled.
        train: What it learns from.
        val: What best weights and early stop are chosen by.
        config: Resolved settings.
        run: Where everything goes.
        save_weights: Saves weights (as `model.get_weights()` gives them) as a whole model.
        log_row: Told of each new row of results.
        progress: Told of each epoch.

    Returns:
        The history: a row (`results.COLUMNS`) for each epoch, those before a resume included.

    Raises:
        TrainingError: If the loss is not finite; the snapshot of the epoch before is kept.
        StorageError: If something cannot be written; the snapshot before is kept.
    """
    model.compile(build_optimizer(config.optimizer), config.loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    history: list[dict[str, Any]] = []
    if run.snapshot_file.exists():
        history = load_snapshot(model, run.snapshot_file)
        progress.say(f"Going on after epoch {len(history)} of {config.epochs}")
        # A kill may have come between the snapshot and the table.
        write_results(history, run.results_file)

    validation = Batches(val, _EVAL_BATCH)
    began = time.monotonic()
    epochs = range(len(history), config.epochs)
    for epoch in epochs:
        if _stopped_early(history, config.early_stop_patience):
            break
        order = epoch_order(len(train), config.seed, epoch)
        label = f"epoch {epoch + 1}/{config.epochs}"
        with progress.task(label, len(train), "images") as step:
            watch = _Watch(step, config, epoch, len(train))
            start = time.monotonic()
            logs = model.fit(
                Batches(train, config.batch_size, order),
                epochs=1,
                shuffle=False,
                verbose=0,
                callbacks=[watch],
            ).history
            seconds = time.monotonic() - start
            judged = model.evaluate(validation, verbose=0, return_dict=True)
            row = {
                "epoch": epoch + 1,
                "loss": float(logs["loss"][-1]),
                "accuracy": float(logs["accuracy"][-1]),
                "val_loss": float(judged["loss"]),
                "val_accuracy": float(judged["accuracy"]),
                "learning_rate": float(model.optimizer.learning_rate),
                "seconds": round(seconds, 3),
                "images_per_s": round(len(train) / seconds, 1),
            }
            _require_finite(row["loss"], epoch)
            # The loss of a batch is from before its step: that the last step spoilt the weights
            # shows here first, and such weights must not be kept as a good state.
            _require_finite(row["val_loss"], epoch, what="validation loss")
            done = epoch + 1 - epochs.start
            left = (time.monotonic() - began) / done * (config.epochs - epoch - 1)
            step(0, f"{_sum_up(row)}  {_clock(left)} left")

        best = max((past["val_accuracy"] for past in history), default=-1.0)
        if row["val_accuracy"] > best:
            save_weights(model.get_weights(), run.weights("best"))
        history.append(row)
        save_snapshot(model, history, run.snapshot_file)
        write_results(history, run.results_file)
        log_row(row)

    if _stopped_early(history, config.early_stop_patience):
        progress.say(
            f"Stopped after epoch {len(history)}: validation loss has not fallen for "
            f"{config.early_stop_patience} epochs"
        )
    save_weights(model.get_weights(), run.weights("last"))
    return history


class _Watch(keras.callbacks.Callback):
    """Draws progress batch by batch and stops at a loss that is not finite."""

    def __init__(self, step: Step, config: RunConfig, epoch: int, n_images: int) -> None:
        super().__init__()
        self._step = step
        self._batch_size = config.batch_size
        self._epoch = epoch
        self._left = n_images

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        _require_finite(logs["loss"], self._epoch, batch)
        n = min(self._batch_size, self._left)
        self._left -= n
        self._step(n, f"loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.3f}")


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
