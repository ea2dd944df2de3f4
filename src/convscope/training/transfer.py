"""Training on a pretrained backbone: the frozen part runs once, the rest trains on its output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convscope.backend import precision_policy
from convscope.models.head import build_head, feature_statistics
from convscope.models.saving import PortableModel
from convscope.models.transfer import END, START, TransferModel, build_transfer
from convscope.models.weights import FoundWeights
from convscope.progress import Progress
from convscope.recipe import HeadSettings, RunConfig, ScheduleSettings
from convscope.run import Run
from convscope.scale.devices import ONE, Devices
from convscope.scale.multihost import from_first
from convscope.storage import link_or_copy
from convscope.training.batches import Examples, validation_batches
from convscope.training.fit import Phase, averages_swapped_in, best_row, fit
from convscope.training.frozen import FrozenOutput, run_frozen, run_to_cut
from convscope.training.heads import choose_head
from convscope.training.logistic_head import fit_at_once, predict_out_of_fold
from convscope.training.pace import Pace
from convscope.training.results import HEAD
from convscope.training.snapshot import read_history
from convscope.training.temperature import calibrated_loss
from convscope.types import Dataset, FloatArray, InputSpec, Predictions, Split


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
    parts = dataset.parts_to_learn(refit=chosen is not None)
    if not devices.is_first:
        maps = run_to_cut(frozen, config, spec, parts, dataset.validation)
        head = _head_of_first(devices)
        network = build(head, config.precision)
        phase = _behind_the_cut(network, *maps, config, _save_nothing, devices)
        return fit(phase, run, log_row=log_row, progress=progress)
    output = _run_frozen(frozen, config, spec, parts, dataset.validation, progress)
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
    training = _Training(config, output, statistics, head, twin, run, chosen, log_row, progress)
    if twin.cut == END:
        keras.utils.set_random_seed(config.seed)
        with precision_policy(config.precision):
            shape, activation = output.features.inputs(0).shape[1:], config.activation
            alone = build_head(shape, head, n_classes, statistics, activation)
        return training.train_head(alone, keep_out_of_fold)

    network = build(head, config.precision)
    network.standardise(*statistics)
    history = read_history(run.snapshot_file) if run.snapshot_file.exists() else []
    if not history or history[-1]["phase"] == HEAD:
        history = training.train_head_before_the_rest(network, history)
    if chosen is not None and run.state.get("rolled_back"):
        return history
    _head_of_first(devices, head)
    return training.train_behind_the_cut(network, devices, pace)


@dataclass(frozen=True)
class _Training:
    """What the phases of a training on a backbone share in the first process.

    Attributes:
        config: Settings of the run.
        output: Outputs of the frozen part.
        statistics: Mean and variance of the features.
        head: Settings of the head.
        twin: Network in float32 that is saved, with the weights that a phase trains.
        run: Run folder.
        chosen: Epochs of each phase in a refit, as for `train_transfer`; None otherwise.
        log_row: Called with each new row of results.
        progress: Called with penalties and epochs.
    """

    config: RunConfig
    output: FrozenOutput
    statistics: tuple[FloatArray, FloatArray]
    head: HeadSettings
    twin: TransferModel
    run: Run
    chosen: Mapping[str, int] | None
    log_row: Callable[[dict[str, Any]], None]
    progress: Progress

    def train_head(
        self, model: keras.Model, keep_out_of_fold: Callable[[Predictions], None] | None
    ) -> list[dict[str, Any]]:
        """Train a head on a backbone that stays frozen, and return the history."""
        phase = self._head_phase(model, self.config)
        if not self.head.logistic:
            return fit(phase, self.run, log_row=self.log_row, progress=self.progress)
        # The folds answer for each image as it is: no measure where answers are means over views.
        once = not self.config.tta.several
        if keep_out_of_fold is not None and once and not self.run.snapshot_file.exists():
            keep_out_of_fold(
                predict_out_of_fold(phase, self.output, self.statistics, self.twin.blocks, self.run)
            )
        return self._fit_at_once(phase)

    def train_head_before_the_rest(
        self, network: TransferModel, history: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Train the head of a network whose other layers follow, and return the history.

        The result is kept, in case that these do not help. Without head epochs nothing is trained.

        Args:
            network: Network.
            history: History until here.
        """
        run = self.run
        if self.head.logistic:
            history = self._fit_at_once(self._head_phase(network.head, self.config))
        elif self.config.backbone.head_epochs > 0:
            phase = self._head_phase(network.head, _head_alone(self.config))
            history = fit(phase, run, log_row=self.log_row, progress=self.progress)
        if history:
            link_or_copy(run.weights("last"), run.weights("frozen"))
            run.record(frozen_loss=_validation_loss(network.head, self.output.features_val))
        return history

    def train_behind_the_cut(
        self, network: TransferModel, devices: Devices, pace: Pace | None
    ) -> list[dict[str, Any]]:
        """Train the layers behind the cut, and return the history.

        Unless that is a refit, the head on the frozen backbone is returned to if it was better.
        """
        config, run, refit = self.config, self.run, self.chosen is not None
        upper = self.twin.upper()
        save = self._saving(upper)
        if config.judge == "best" and not refit:
            save = _noting_best(save, upper, self.output.maps_val, run)
        maps = self.output.maps, self.output.maps_val
        phase = _behind_the_cut(network, *maps, config, save, devices)
        phase = replace(phase, n_chosen=self._n_chosen(phase.name))
        history = fit(phase, run, log_row=self.log_row, progress=self.progress, pace=pace)
        if not refit and "frozen_loss" in run.state:
            best_is_head = history[best_row(history, config)]["phase"] == HEAD
            none_evaluated = config.judge == "best" and best_is_head
            tuned = None if none_evaluated else _tuned_loss(phase, run)
            _keep_the_better(tuned, run, self.progress)
        return history

    def _head_phase(self, model: keras.Model, config: RunConfig) -> Phase:
        return Phase(
            model,
            self.output.features,
            self.output.features_val,
            config,
            self._saving(self.twin.head),
            HEAD,
            n_chosen=self._n_chosen(HEAD),
        )

    def _fit_at_once(self, phase: Phase) -> list[dict[str, Any]]:
        return fit_at_once(
            phase,
            self.output,
            self.statistics,
            self.twin.blocks,
            self.run,
            log_row=self.log_row,
            progress=self.progress,
        )

    def _saving(self, part: keras.Model) -> Callable[[list[Any], Path], None]:
        """Return the function that saves weights of a part of the twin as the whole model."""
        return PortableModel(lambda: (part, self.twin.whole)).save

    def _n_chosen(self, phase: str) -> int | None:
        return None if self.chosen is None else self.chosen.get(phase, 0)


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
