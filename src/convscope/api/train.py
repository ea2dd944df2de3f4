"""Training of exactly one run, by a plan."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope import backend as backends
from convscope.api.evaluate import evaluate
from convscope.datasets import holds_files
from convscope.datasets.division.splits import require_any_class, verify_split, write_split
from convscope.errors import RunError
from convscope.images.decode import DECODER_VERSION
from convscope.machine import peak_memory_mb
from convscope.models import is_backbone
from convscope.paths import short_name
from convscope.planning.networks import input_spec, new_network, plugins_of
from convscope.planning.plan import Plan, run_config
from convscope.planning.settle import Request, settle_resumed
from convscope.planning.sharing import failures_told, receive_plan, require_trainable, send_plan
from convscope.progress import Progress
from convscope.recipe import RunConfig, dump_config
from convscope.remote import shown
from convscope.run import ROOT, Run
from convscope.scale.devices import ONE, Devices
from convscope.scale.multihost import leave, losses_explained
from convscope.storage import require_outside, write_text
from convscope.types import Dataset, Split
from convscope.wording import command_line

if TYPE_CHECKING:
    from convscope.training.pace import Pace


def train(
    plan: Plan,
    *,
    progress: Progress,
    out: Path | None = None,
    test: bool = True,
    trackers: Sequence[str] = (),
    devices: Devices = ONE,
) -> Run:
    """Train and evaluate a new run, and return it.

    Args:
        plan: Plan from `settle`.
        progress: Called with all events.
        out: Run folder, created here; None creates one below `runs/`.
        test: Whether to open the test images at the end.
        trackers: Any of "tensorboard" and "mlflow".
        devices: Devices among which each batch is divided; this process is the first.

    Raises:
        ConfigError: If the settings cannot be trained on these devices.
        RunError: If `out` is taken.
        DataError: If it lies in the folder of images, or if each image may have any number of
            classes and no test image, which are to be opened, has one.
        DivergedError: If the loss is not finite.
        StorageError: If a file cannot be written; the run can be resumed.
    """
    config = plan.config
    with ExitStack() as locked:
        with failures_told(devices):
            require_trainable(config, devices)
            if test:
                require_any_class(plan.dataset, "test")
            name = f"{plan.dataset.name}-{config.model}-{config.recipe}-seed{config.seed}"
            place = ROOT / short_name(name, 200) if out is None else out
            require_outside(place, config.data_path)
            run = Run.create(out, name)
            progress.say(f"Run folder: {shown(run.path)}")
            locked.enter_context(run.training_lock())
            describe(run, config, plan.dataset)
            run.record(test=test)
        trackers = _fit(run, plan, trackers, progress, devices)
    return _judge(run, plan, trackers, progress, test=test)


def resume(
    run: Run,
    request: Request,
    *,
    progress: Progress,
    test: bool | None = None,
    data_dir: Path | str | None = None,
    trackers: Sequence[str] = (),
    devices: Devices = ONE,
    pace: "Pace | None" = None,
) -> Run:
    """Resume a run after its last finished epoch, evaluate it, and return it.

    Args:
        run: Run to resume.
        request: Settings that are repeated; only `epochs` may change, and only to more; the data
            and a backbone's weights may be elsewhere by now.
        progress: Called with all events.
        test: Whether to open the test images at the end; None: as the run was begun.
        data_dir: Further folder to look for the files of a built-in dataset.
        trackers: Any of "tensorboard" and "mlflow".
        devices: Devices among which each batch is divided; this process is the first.
        pace: Limit that keeps what is left of the training to its time, if there is one.

    Raises:
        ConfigError: If another setting differs, or these devices cannot train the run.
        RunError: If the snapshot to resume from is missing; nothing is changed then.
        DataError: If the images are not those of the run.
        DivergedError: If the loss is not finite.
        StorageError: If a file cannot be written; the run can be resumed again.
    """
    with ExitStack() as locked:
        with failures_told(devices):
            locked.enter_context(run.training_lock())
            _require_snapshot(run)
            require_trainable(run_config(run), devices)
            plan = settle_resumed(
                *(run_config(run), request, progress),
                data_dir=data_dir,
                split_file=run.split_file if run.split_file.exists() else None,
            )
            plan = dataclasses.replace(plan, pace=pace)
            if not run.split_file.exists():  # killed before it began
                describe(run, plan.config, plan.dataset)
            for part in ("train", "val"):
                verify_split(plan.dataset, run.split_file, part)
            test = run.state.get("test", True) if test is None else test
            run.record(test=test)
        trackers = _fit(run, plan, trackers, progress, devices)
    return _judge(run, plan, trackers, progress, test=test)


def follow(devices: Devices, data_dir: Path | str | None = None) -> Run:
    """Train as another process than the first, with its settings, on this one's copy of the data.

    Args:
        devices: Devices of the training.
        data_dir: Further folder to look for the files of a built-in dataset.

    Returns:
        The run that process 0 writes and, after this, evaluates.

    Raises:
        TrainingError: If process 0 could not begin, if it or another one is gone, or if the loss
            is not finite.
        DataError: If the images here are not those of process 0.
    """
    with losses_explained(devices, "start all again"):
        plan, run = receive_plan(devices, data_dir)
    with losses_explained(devices, _resumption(run)):
        _learn(run, plan, lambda row: None, Progress(), devices)
    leave()
    return run


def _require_snapshot(run: Run) -> None:
    """Reject a run that would start again and overwrite its results."""
    from convscope.training.results import read_results

    if run.snapshot_file.exists():
        return
    epochs = len(read_results(run.results_file)) if run.results_file.exists() else 0
    if epochs or run.weights("last").exists():
        finished = f"{epochs} epoch{'s' if epochs != 1 else ''}"
        raise RunError(
            f"{run.path} has finished {finished}, but {run.snapshot_file.relative_to(run.path)}, "
            "from which it would resume, is missing; its models are kept, so train again: "
            f"{command_line('train', '--config', run.config_file)}"
        )


_trained_here: set[Path] = set()
"""Runs that this process trained."""


def _judge(run: Run, plan: Plan, trackers: Sequence[str], progress: Progress, *, test: bool) -> Run:
    from convscope.training.tracking import send_scores

    evaluate(run, test=test, dataset=plan.dataset, by="train", progress=progress)
    # A process knows its peak memory only: after another run, that of this one is unknown.
    _trained_here.add(run.path.resolve())
    alone = len(_trained_here) == 1
    run.record(status="finished", peak_memory_mb=peak_memory_mb() if alone else None)
    # At last: a server may be away, and who does not wait for it has a finished run.
    send_scores(trackers, plan.config, run, progress)
    return run


def describe(run: Run, config: RunConfig, dataset: Dataset) -> None:
    """Write down, before training, what the run starts from."""
    from convscope.datasets.samples import sample_images
    from convscope.report.figures import samples_figure, save_figure
    from convscope.training.preview import COLUMNS, augmented_samples

    spec = dataclasses.asdict(input_spec(dataset, config))
    with ExitStack() as undone:
        if not run.state_file.exists():
            # Alone it would be taken for a user's file, and the folder for one in use.
            undone.callback(run.config_file.unlink, missing_ok=True)
        write_text(run.config_file, dump_config(config))
        # From here on it is a run; files that a kill prevents, --resume writes.
        run.record(
            status="created",
            input=spec,
            image_shape=dataset.image_shape,
            white=dataset.white,
            # Others were decoded before, by their own program.
            decoder_version=DECODER_VERSION if holds_files(config.data) else None,
            provenance=dataset.provenance,
        )
        undone.pop_all()
    run.write_json(run.classes_file, list(dataset.class_names))
    environment = backends.environment(config.backend, plugins_of(config))
    run.write_json(run.environment_file, environment)
    shown = sample_images(dataset)
    save_figure(samples_figure(*shown), run.samples_picture)
    mixed = not is_backbone(config.model) and bool(config.augment.mixup or config.augment.cutmix)
    if config.augment.varies or mixed:
        # Keras is imported for RandAugment, and as this run needs it.
        backends.configure(config.backend)
        versions, captions = augmented_samples(*shown, config.augment, config.seed, mixed=mixed)
        save_figure(samples_figure(versions, captions, columns=COLUMNS), run.augmented_picture)
    write_split(dataset, run.split_file)


def _fit(
    run: Run,
    plan: Plan,
    trackers: Sequence[str],
    progress: Progress,
    devices: Devices,
) -> list[str]:
    """Train; return which trackers took all of it."""
    from convscope.report.curves import curves_figure
    from convscope.report.figures import save_figure
    from convscope.training.fit import chosen_epochs
    from convscope.training.refit import refit
    from convscope.training.tracking import tracking

    config = plan.config
    backends.configure(config.backend)
    write_text(run.config_file, dump_config(config))
    with run.recording_status(), tracking(trackers, config, run, progress) as log_row:
        if devices.total > 1:
            size = config.batch_size
            progress.say(
                f"Training on {devices}: steps of {size} images, {size // devices.total} on each "
                "device"
            )
        if devices != ONE or "trained_on" in run.state:  # of an earlier part of the training
            run.record(trained_on={"devices": devices.total, "processes": devices.n_processes})
        if plan.weights is not None:
            run.record(weights=plan.weights.facts)
        with losses_explained(devices, _resumption(run)):
            send_plan(plan, run, devices)
            history = _learn(run, plan, log_row, progress, devices)
        leave()
        shaded = run.smaller_images
        curves = curves_figure(history, multi_label=config.multi_label, smaller=shaded)
        save_figure(curves, run.curves_picture, title=run.name)
        if config.refit:
            # What a search or a time limit decided is kept: settings as they ended up.
            fixed = dataclasses.replace(plan, config=run_config(run), measured=None, pace=None)
            chosen = chosen_epochs(history, fixed.config)
            refit(
                run,
                lambda again: _learn(again, fixed, lambda row: None, progress, devices, chosen),
                progress,
            )
    return log_row.answering


def _resumption(run: Run) -> str:
    command = command_line("train", "--resume", run.path, "--devices", "all")
    return f"continue after the last finished epoch, with any number of processes: {command}"


def _learn(
    run: Run,
    plan: Plan,
    log_row: Callable[[dict[str, Any]], None],
    progress: Progress,
    devices: Devices,
    chosen: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Train; once more, on validation images too, if the epochs of each phase were chosen."""
    refit = chosen is not None
    config, dataset = plan.config, plan.dataset
    spec, n_classes = input_spec(dataset, config), len(dataset.class_names)
    if is_backbone(config.model):
        from convscope.evaluation.predictions import save_out_of_fold
        from convscope.training.transfer import train_transfer

        return train_transfer(
            config,
            spec,
            dataset,
            plan.weights,
            run,
            log_row=log_row,
            progress=progress,
            pace=plan.pace,
            chosen=chosen,
            keep_out_of_fold=partial(save_out_of_fold, run, dataset.class_names) if refit else None,
            devices=devices,
        )
    from convscope.models.saving import PortableModel
    from convscope.training.augment import augmented
    from convscope.training.batches import Examples
    from convscope.training.fit import Phase, fit
    from convscope.training.results import ONLY_PHASE

    measured = plan.measured
    network = new_network(config, dataset) if measured is None else measured.model
    save_weights = PortableModel.of(
        config.model, spec, n_classes, multi_label=config.multi_label
    ).save
    whole = Split.joined(dataset.parts_to_learn(refit=refit))
    train = augmented(whole, config.augment, config.seed)
    val = Examples.of(dataset.validation)
    phase = Phase(
        network,
        train,
        val,
        config,
        save_weights,
        steps=measured,
        devices=devices,
        n_chosen=None if chosen is None else chosen[ONLY_PHASE],
        of_smaller=plan.of_smaller,
    )
    return fit(phase, run, log_row=log_row, progress=progress, pace=plan.pace)
