"""Choosing a head: several are tried for a few epochs; the best on validation images wins.

Once features are cached, a try costs seconds.
"""

import time
from typing import Any

import keras
import numpy as np

from convscope.models.head import build_head
from convscope.progress import Progress
from convscope.recipe import HeadSettings, RunConfig
from convscope.run import Run
from convscope.storage import write_rows
from convscope.training.batches import Batches, Examples, n_batches, order_of, validation_batches
from convscope.training.objective import build_state, loss_of, merit, metrics_of
from convscope.training.optimizers import build_optimizer
from convscope.training.passes import evaluate_epoch, steps_on_one_device, train_epoch
from convscope.training.schedules import build_schedule
from convscope.types import FloatArray

CANDIDATES: tuple[dict[str, Any], ...] = (
    {"hidden": (), "dropout": 0.3},
    {"hidden": (512,), "dropout": 0.5},
    {"hidden": (1024,), "dropout": 0.5},
)
"""Candidates: a linear head, and two with a hidden layer."""

_EPOCHS = 4
_COLUMNS = ("hidden", "dropout", "val_accuracy", "val_loss", "seconds")


def choose_head(
    config: RunConfig,
    train: Examples,
    val: Examples,
    statistics: tuple[FloatArray, FloatArray],
    n_classes: int,
    run: Run,
    progress: Progress,
) -> HeadSettings:
    """Return the settings of the head: as configured, or the winner if a search is set.

    The candidates go to `heads.csv` in the run, the choice into `run.json`, where a resumed run
    finds it.

    Args:
        config: Settings of the run.
        train: Features of the training images.
        val: Features of the validation images, the only ones that the choice looks at.
        statistics: Mean and variance of the features.
        n_classes: Number of classes.
        run: Run folder, where the choice is kept.
        progress: Called with each try.
    """
    if not config.head.search:
        return config.head
    chosen = run.state.get("head")
    if chosen is not None:
        return HeadSettings.model_validate(chosen)
    rows: list[dict[str, Any]] = []
    with progress.task("Choosing a head", len(CANDIDATES), "heads") as step:
        for candidate in CANDIDATES:
            start = time.monotonic()
            settings = config.head.model_copy(update=candidate)
            accuracy, loss = _try(settings, config, train, val, statistics, n_classes)
            rows.append(
                {
                    "hidden": "-".join(map(str, settings.hidden)) or "linear",
                    "dropout": settings.dropout,
                    "val_accuracy": round(accuracy, 5),
                    "val_loss": round(loss, 5),
                    "seconds": round(time.monotonic() - start, 2),
                }
            )
            step(1, f"{rows[-1]['hidden']}: val accuracy {accuracy:.4f}")
    best = int(np.argmax([merit(row, config) for row in rows]))
    progress.say(
        f"Head: {rows[best]['hidden']}, the best of {len(rows)} on the validation images after "
        f"{_EPOCHS} epochs"
    )
    write_rows(run.heads_file, _COLUMNS, rows)
    settings = config.head.model_copy(update={**CANDIDATES[best], "search": False})
    run.record(head=settings.model_dump())
    return settings


def _try(
    settings: HeadSettings,
    config: RunConfig,
    train: Examples,
    val: Examples,
    statistics: tuple[FloatArray, FloatArray],
    n_classes: int,
) -> tuple[float, float]:
    keras.utils.set_random_seed(config.seed)
    shape, activation = train.inputs(0).shape[1:], config.activation
    head = build_head(shape, settings, n_classes, statistics, activation)
    schedule = build_schedule(
        config.schedule,
        config.optimizer.learning_rate,
        epochs=_EPOCHS,
        steps_per_epoch=n_batches(len(train), config.batch_size),
    )
    optimizer = build_optimizer(config.optimizer, schedule)
    head.compile(optimizer, loss_of(config, soft=False), metrics=metrics_of(config))
    build_state(head, n_classes, flags=config.multi_label)
    steps = steps_on_one_device(head)
    for epoch in range(_EPOCHS):
        order = order_of(config, train.labels, epoch)
        batches = Batches(train.inputs(epoch), train.labels, config.batch_size, order)
        train_epoch(steps, batches)
    judged = evaluate_epoch(steps, validation_batches(val))
    return judged.accuracy, judged.loss
