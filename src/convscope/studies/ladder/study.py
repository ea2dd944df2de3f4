"""The ladder: from the tutorial's transfer learning to a good one, one change at a time."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convscope.api.costs import sheet_of, train_seconds
from convscope.api.evaluate import evaluate
from convscope.backend import forget_networks
from convscope.datasets import settings_of
from convscope.datasets.division.splits import require_drawn
from convscope.datasets.source import data_settings, table_of, words_of
from convscope.errors import ConfigError, RunError, TrainingError
from convscope.evaluation.grouping import n_effective
from convscope.evaluation.predictions import read_predictions
from convscope.models import is_backbone
from convscope.models.backbones import BACKBONES, Backbone
from convscope.paths import short_name
from convscope.planning.data import load_once
from convscope.planning.settle import Request, settle, weights_setting
from convscope.progress import Progress, console_progress
from convscope.recipe import (
    RANDOM_WEIGHTS,
    Recipe,
    differences_in_kind,
    flat,
    require_settable,
    resolve,
)
from convscope.remote import folder_or_none
from convscope.run import ROOT, Run
from convscope.studies.comparison.arms import NOT_TO_SET
from convscope.studies.executor import Executor, Job, LocalExecutor, Outcome
from convscope.studies.folder import as_read_back, look_of
from convscope.studies.ladder.plan import plan_ladder
from convscope.studies.ladder.rungs import LADDER, Ladder, Rung, write_table
from convscope.types import Dataset
from convscope.wording import command_line

SIZES = (64, 96, 160)
"""Sides in pixels of the rungs that enlarge the images."""


def ladder(
    model: str,
    *,
    data: str | Path = "cifar10",
    labels: str | Path | None = None,
    seed: int = 83,
    sizes: Sequence[int] = SIZES,
    until: str | None = None,
    epochs: int | None = None,
    weights: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    after_rung: Callable[[Ladder], None] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Ladder:
    """Train a backbone as the tutorial did, then fix one problem at a time; each rung is a run.

    The test images stay sealed until the last rung is trained; then each rung is evaluated on them
    once. Called again after a kill, it resumes. A rung that cannot be trained is recorded with the
    reason, and the others continue.

    Args:
        model: Registered backbone.
        data: Built-in dataset, or a folder of images.
        labels: Table with the labels of the folder's images, as for `load`.
        seed: Seed of each rung.
        sizes: Image sides in pixels to go through; those of the first rung are left out.
        until: Name of the last rung to train ("64 px"); None takes all.
        epochs: Epochs of each rung; None takes the recipe's.
        weights: File of weights, a folder with it, or "random"; None looks for ImageNet's.
        settings: Other settings of every rung by dotted name; they override the rung's own.
        out: Folder of the ladder; None takes `runs/ladder-DATA-MODEL-seedN`.
        data_dir: Further folder to look for the files of a built-in dataset.
        after_rung: Function called after each rung with the ladder so far.
        executor: Where to train; None trains one rung after the other in this process.
        progress: Called with all events; None draws on standard error.

    Raises:
        UserError: If a name, a setting or the data is wrong, or the folder holds another ladder.
        TrainingError: If no rung could be trained.
        FailureError: If weights or data are not available, or a file cannot be written.
    """
    progress = progress or console_progress()
    settings = flat(settings or {})
    _require_backbone_and_settings(model, settings)
    weights = weights_setting(weights)
    of_weights = {} if weights is None else {"weights": weights}
    every = {} if epochs is None else {"epochs": epochs}
    backbone = BACKBONES.get(model)
    place = data_settings(data, labels)
    steps = plan_ladder(
        backbone,
        seed=seed,
        sizes=sizes,
        until=until,
        of_data=settings_of(place["data"]),
        settings={**every, **settings},
    )

    folder = folder_or_none(out, "--out")
    LADDER.require_place(folder, place["data_path"])
    # Errors in data or weights hold for every rung: found before there is a folder.
    load = load_once(data_dir, progress)
    dataset = load(steps[0].config.model_copy(update=place))
    require_drawn(dataset, settings)
    _require_single_label(dataset, model, place)
    path = folder or ROOT / short_name(f"ladder-{dataset.name}-{model}-seed{seed}", 200)
    about = f"{model} on {dataset.name}, seed {seed}"
    climb = Ladder(path, about, len(dataset.validation.labels), tuple(step.rung for step in steps))
    content = dataset.provenance.get("fingerprint")
    del dataset
    weights_sha256 = _digest_of(weights, backbone, progress)
    asked = {
        "model": model,
        **place,
        "seed": seed,
        "sizes": sorted({*sizes}),
        "epochs": epochs,
        "weights": weights,
        "weights_sha256": weights_sha256,
        "settings": settings,
        # Rungs on other images cannot be compared.
        "content": content,
        # Recipes change with versions of convscope, and a ladder must not mix two of them.
        "rungs": {step.rung.name: step.config.model_dump() for step in steps},
    }
    asked = as_read_back(asked)
    with LADDER.locked(path):
        climb = _take_up(climb, asked)
        jobs: dict[Path, tuple[Job, Rung]] = {}
        for rung, step in zip(climb.rungs, steps, strict=True):
            if rung.failure or (rung.val_accuracy is not None and (path / rung.run).is_dir()):
                continue
            try:
                own = {"model": model, "recipe": step.recipe, "seed": seed, **step.settings}
                request = Request({**place, **of_weights, **own})
                resolved = settle(request, Progress(), load).config
            except ConfigError as error:
                progress.say(f"Rung {rung.number} failed: {error}")
                climb = _with_rung(climb, dataclasses.replace(rung, failure=str(error)))
                continue
            title = f"Rung {rung.number} of {len(steps)}: {rung.name} ({rung.change})"
            job = Job(resolved, path / rung.run, data_dir, title, content)
            jobs[job.folder] = (job, rung)
        executor = executor or LocalExecutor(own_process=False)
        for job, outcome in executor.outcomes([job for job, _ in jobs.values()], progress):
            rung = jobs[job.folder][1]
            climb = _with_rung(climb, _after_training(rung, outcome, progress))
            _write(climb, asked)
            forget_networks()
            if after_rung is not None:
                after_rung(climb)
        trained = _require_trained(climb, asked)
        climb = _evaluate_on_test(climb, trained, place, data_dir, progress)
        _write(climb, asked)
    return climb


def _require_backbone_and_settings(model: str, settings: Mapping[str, Any]) -> None:
    """Reject a model, or settings, of which no ladder can be made.

    Raises:
        ConfigError: If it is no backbone, or if a setting is the ladder's own.
    """
    if not is_backbone(model):
        raise ConfigError(
            f"{model} is trained from scratch; a ladder needs a pretrained backbone: "
            f"{', '.join(BACKBONES.names())}"
        )
    of_rungs = dict.fromkeys(("image_size", "weights_sha256"), "each rung has its own")
    require_settable(settings, {**NOT_TO_SET, **of_rungs})


def _require_single_label(dataset: Dataset, model: str, place: Mapping[str, Any]) -> None:
    """Reject images that may have several classes.

    Raises:
        ConfigError: If they may; it names the command that compares recipes on them.
    """
    if dataset.multi_label:
        recipes = f"{model}:probe,{model}:finetune"
        instead = command_line("compare", *words_of(place), "--models", recipes)
        raise ConfigError(
            f"a ladder is climbed by accuracy, and images of {dataset.name} may have several "
            f"classes; compare recipes instead: {instead}"
        )


def _digest_of(weights: str | None, backbone: Backbone, progress: Progress) -> str | None:
    """Return the SHA-256 of the weights that every rung begins with; None of random ones.

    They are downloaded if they are not here.
    """
    if weights == RANDOM_WEIGHTS:
        return None
    from convscope.models.weights import find_weights

    return find_weights(backbone, weights, progress).sha256


def _take_up(climb: Ladder, asked: dict[str, Any]) -> Ladder:
    """Return the ladder as it was left; write down its plan if it is new."""
    state = LADDER.read(climb.path)
    if state is None:
        _write_state(climb, asked)
        return climb
    try:
        known = {entry["name"]: Rung(**entry) for entry in state["rungs"]}
        before = dict(state["asked"]["rungs"])
    except (TypeError, KeyError, ValueError):
        raise LADDER.damaged(climb.path) from None
    settings = {key: value for key, value in asked.items() if key != "rungs"}
    LADDER.require_same(climb.path, state, settings)
    try:
        _require_same_rungs(climb.path, before, asked["rungs"])
    except (TypeError, AttributeError):
        raise LADDER.damaged(climb.path) from None
    if all(rung.val_accuracy is None for rung in known.values()):
        # If every rung failed, no rung caused it; it may be fixed by now.
        return climb
    return dataclasses.replace(
        climb, rungs=tuple(known.get(rung.name, rung) for rung in climb.rungs)
    )


def _require_same_rungs(
    path: Path, before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> None:
    """Reject a ladder with other rungs, by their names and settings."""
    if before.keys() != now.keys():
        lasts = [str([None, *rungs][-1]) for rungs in (before, now)]
        which = (
            f"of the rungs {', '.join(before)}, by another version of convscope; use that one"
            if lasts[0] == lasts[1]
            else f"up to the rung '{lasts[0]}', not '{lasts[1]}'; repeat its --until to continue it"
        )
        raise RunError(f"{path} holds a ladder {which}, or choose another --out")
    for name in now:
        # Without the key of a setting that there was not when it was begun.
        then_and_now = (resolve(Recipe(), rungs[name]) for rungs in (before, now))
        if differences_in_kind(*then_and_now):
            raise RunError(
                f"{path} was begun with a different version of the recipe of rung '{name}'; "
                "choose another --out"
            )


def _after_training(rung: Rung, outcome: Outcome, progress: Progress) -> Rung:
    """Return the rung with what became of its training, except the gain."""
    if outcome.failure is None:
        return _measure(rung, outcome.run)
    progress.say(f"Rung {rung.number} failed: {outcome.failure}")
    # A process or a node that was lost is no fault of the rung: it is tried again.
    return dataclasses.replace(rung, failure=outcome.failure if outcome.permanent else None)


def _measure(rung: Rung, run: Run) -> Rung:
    """Return the rung with the results of its run, except the gain."""
    said = read_predictions(run.predictions_file)[0]["val"]
    return dataclasses.replace(
        rung,
        val_accuracy=run.metrics["val"]["accuracy"],
        n_effective=None if said.groups is None else n_effective(said.right, said.groups),
        feature_seconds=run.state["feature_seconds"],
        train_seconds=train_seconds(run),
        multiply_adds=sheet_of(run).n_multiply_adds,
    )


def _with_rung(climb: Ladder, changed: Rung) -> Ladder:
    """Return the ladder with one rung replaced and all gains computed again."""
    rungs: list[Rung] = []
    below: float | None = None
    for rung in climb.rungs:
        new = changed if rung.number == changed.number else rung
        gain = None
        if new.val_accuracy is not None:
            gain = None if below is None else round(new.val_accuracy - below, 6)
            below = new.val_accuracy
        rungs.append(dataclasses.replace(new, gain=gain))
    return dataclasses.replace(climb, rungs=tuple(rungs))


def _require_trained(climb: Ladder, asked: dict[str, Any]) -> list[Rung]:
    """Return the rungs that were trained, if each of the others has a failure for good.

    Where one is to be tried again, the page and the tables are written as far as they go.

    Raises:
        TrainingError: If none was trained, or if one is to be tried again.
    """
    trained = [rung for rung in climb.rungs if rung.val_accuracy is not None]
    if not trained:
        reason = climb.rungs[0].failure or "see above"
        raise TrainingError(f"no rung could be trained: {reason}")
    missing = [rung for rung in climb.rungs if rung not in trained and not rung.failure]
    if missing:
        _write(climb, asked)
        raise TrainingError(
            f"rung {missing[0].number} ({missing[0].name}) could not be trained this time, so "
            "the test images stay sealed; repeat the command to try it again"
        )
    return trained


def _evaluate_on_test(
    climb: Ladder,
    trained: Sequence[Rung],
    place: Mapping[str, Any],
    data_dir: Path | str | None,
    progress: Progress,
) -> Ladder:
    """Return the ladder with the accuracy of trained rungs on test images: one look at these."""
    look = look_of(climb.path, Run.open(climb.path / trained[0].run))
    for rung in trained:
        run = Run.open(climb.path / rung.run)
        metrics = run.metrics
        if "test" not in metrics:
            metrics = evaluate(
                run,
                by="ladder",
                look=look,
                data=place["data_path"],
                labels=table_of(place),
                data_dir=data_dir,
                progress=progress,
            )
        judged = dataclasses.replace(rung, test_accuracy=metrics["test"]["accuracy"])
        climb = _with_rung(climb, judged)
    return climb


def _write(climb: Ladder, asked: dict[str, Any]) -> None:
    from convscope.report.markdown import write_markdown
    from convscope.report.page import write_page
    from convscope.studies.ladder.page import draw_ladder, ladder_page

    # First the file that a stopped ladder resumes from; the others follow from it.
    _write_state(climb, asked)
    write_table(climb.rungs, climb.table_file)
    draw_ladder(climb.rungs, climb.n_val, climb.picture, about=climb.about)
    page = ladder_page(climb)
    write_page(page, climb.page)
    write_markdown(page, climb.card_file)


def _write_state(climb: Ladder, asked: dict[str, Any]) -> None:
    rungs = [dataclasses.asdict(rung) for rung in climb.rungs]
    state = {"about": climb.about, "n_val": climb.n_val, "conclusion": climb.conclusion}
    LADDER.write(climb.path, {**state, "rungs": rungs, "asked": asked})
