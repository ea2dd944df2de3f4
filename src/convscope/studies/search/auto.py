"""The best classifier of one's own photos in a given time: a search among a few candidates.

Each candidate is a whole run on the same images, from the quickest to the most promising that still
fits. All are compared on the validation images; the best is trained once more on everything but the
test images, and becomes the run. A first model stands after seconds, so the search may stop at any
time; stopped, it resumes with the candidates that are left.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from convscope.api import train as single
from convscope.datasets.division.splits import require_any_class
from convscope.errors import ConfigError, DataError, RunError
from convscope.evaluation.tried import Tried, write_tried
from convscope.locks import LOCK, STATE_LOCK
from convscope.planning.plan import Plan, run_config
from convscope.planning.settle import Request, settle
from convscope.progress import Progress
from convscope.recipe import PLACES, RANDOM_WEIGHTS, RunConfig, dump_config, flat
from convscope.remote import shown
from convscope.run import ROOT, Run
from convscope.storage import storage_errors, write_text
from convscope.studies.folder import StudyKind, as_read_back, require_place
from convscope.studies.search.candidates import (
    FOLDS,
    FROZEN,
    HELD_OUT,
    as_they_are,
    folder_of,
    tries_scratch,
    with_settings,
)
from convscope.studies.search.clock import TimedLoading, relative_cost, seconds_per_image
from convscope.studies.search.search import Place, Search
from convscope.types import Dataset
from convscope.workplace import HEARTBEAT

SEARCH = StudyKind("search", "search.json")

MINUTES = 5.0
"""Time limit if none is given."""

HERE = Place()
"""Place of a search in this process alone."""

_SHARE, _SHARE_OF_SMALL = 0.4, 0.25
"""Share of the time that the frozen backbone may take for all images; otherwise they are made
smaller. A network from random weights needs more of it."""

_SIZES = (192, 160, 128, 96)
"""Smaller sides in pixels, for many images in little time."""

_SLOW, _SLOW_S = "efficientnet_lite0", 0.01
"""Backbone, and its seconds for an image at 224 pixels on a slow machine; where that and the cost
of another relative to it leave enough time, nothing needs to be measured."""


def find_search(path: Path) -> Path | None:
    """Return the folder of an unfinished search, by its path or its name below `runs/`; or None."""
    return next((place for place in (path, ROOT / path) if Run(place).search_file.exists()), None)


def ends_search(path: Path) -> bool:
    """Return whether a run, by its path or its name below `runs/`, is what a search ended with."""
    return any(Run(place).tried_file.exists() for place in (path, ROOT / path))


def settings_of_search(path: Path) -> dict[str, Any]:
    """Return the settings with which a search began; none if they are damaged."""
    state = SEARCH.read(path) or {}
    with contextlib.suppress(KeyError, TypeError):  # is said where it is resumed
        return Request(state["given"], state["from_file"]).chosen
    return {}


def search(
    request: Request,
    *,
    minutes: float | None,
    out: Path | None,
    test: bool,
    load: Callable[[RunConfig], Dataset],
    progress: Progress,
    place: Place = HERE,
) -> Run:
    """Search for the best classifier, and return its run.

    Args:
        request: Settings of the user, which hold for every candidate; `model` names the backbone.
        minutes: Time limit, without loading the data; None takes `MINUTES`.
        out: Run folder, created here; None creates one below `runs/`.
        test: Whether to open the test images at the end.
        load: Function that loads the data of settings.
        progress: Called with all events.
        place: Place where the candidates are trained; the last training is here.

    Raises:
        UserError: If a name, a setting or the data is wrong; no folder was made then.
        TrainingError: If no candidate could be trained.
        StorageError: If a file cannot be written; the search can be resumed.
    """
    minutes = MINUTES if minutes is None else minutes
    if not 0 < minutes < float("inf"):
        raise ConfigError(f"--minutes must be above 0, not {minutes:g}")
    if "epochs" in request.chosen:
        raise ConfigError(
            "the search chooses the epochs; give --minutes, or name --model and --recipe with "
            "--epochs"
        )
    require_place(out, request.chosen.get("data_path"), Run.require_free)
    timed = TimedLoading(load)
    plan = _first_plan(request, timed, progress)
    began = time.monotonic()
    dataset = plan.dataset
    if test:
        require_any_class(dataset, "test")
    name = f"{dataset.name}-auto-seed{plan.config.seed}"
    request, plan = _in_time(request, plan, minutes, timed, progress)
    run = Run.create(out, name)
    state = {
        "format": SEARCH.version,
        "given": dict(request.given),
        "from_file": dict(request.from_file),
        "minutes": minutes,
        "fingerprint": dataset.provenance.get("fingerprint"),
        "weights_sha256": plan.config.weights_sha256,
        "loading_seconds": round(timed.seconds, 1),
        "test": test,
        "tried": [],
    }
    Run.write_json(run.search_file, state)
    progress.say(f"Run folder: {shown(run.path)}")
    return _go_on(Search(run, request, state, plan, load, began, progress, place), progress)


def resume_search(
    path: Path,
    *,
    request: Request,
    minutes: float | None,
    test: bool | None = None,
    load: Callable[[RunConfig], Dataset],
    progress: Progress,
    place: Place = HERE,
) -> Run:
    """Resume a search that was stopped, and return the run of the best candidate.

    Args:
        path: Folder of the search.
        request: Settings that are repeated: data and weights may be elsewhere by now.
        minutes: New time limit over all; None keeps the one that it was begun with.
        test: Whether to open the test images at the end; None: as it was begun.
        load: Function that loads the data of settings.
        progress: Called with all events.
        place: Place where the candidates are trained; the last training is here.

    Raises:
        ConfigError: If another setting is not what it was, as candidates would be compared that
            differ in more than their networks.
        RunError: If the state is damaged, another process works on it, or images or weights are no
            longer those of the search.
    """
    run = Run(path)
    state = SEARCH.read(run.path) or {}
    try:
        begun = Request(state["given"], state["from_file"])
        request = Request({**begun.given, **_repeated(request, begun)}, begun.from_file)
        state["minutes"] = float(state["minutes"] if minutes is None else minutes)
        state["test"] = bool(state["test"] if test is None else test)
        rows = [Tried(**row) for row in state["tried"]]
        spent = float(state.get("spent", sum(row.seconds for row in rows)))
        state["loading_seconds"] = float(state.get("loading_seconds", 0.0))
        # What failed may have been the machine's fault; it is tried again.
        state["tried"] = [asdict(row) for row in rows if row.loss is not None]
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{run.search_file} is damaged; start again in another --out") from None
    plan = _first_plan(request, load, progress)
    if plan.dataset.provenance.get("fingerprint") != state.get("fingerprint"):
        raise RunError(
            f"the images are no longer those with which the search in {path} began; "
            "start again in another --out"
        )
    weights = plan.config.weights_sha256
    # Searches that began before it was written down may have had any.
    if weights != state.get("weights_sha256", weights):
        raise RunError(
            f"the weights are no longer those with which the search in {path} began; give those "
            "with --weights, or start again in another --out"
        )
    began = time.monotonic() - spent
    return _go_on(Search(run, request, state, plan, load, began, progress, place), progress)


def new_settings(run: Run, request: Request) -> Request:
    """Return a request for a run without the settings with which the search for it began.

    The winner may have others: a head that learns each image as it is mirrors none.

    Args:
        run: Run that a search ended with; any other keeps its request.
        request: Settings that are given now, perhaps the same again.
    """
    begun = run.state.get("searched")
    if begun is None:
        return request
    before = {**flat(begun["from_file"]), **begun["given"]}
    now = as_read_back(request.chosen)
    new = {key for key in now if key not in before or before[key] != now[key]} | {"data", *PLACES}

    def rest(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in settings.items() if key in new}

    return replace(request, given=rest(request.given), from_file=rest(request.from_file))


def _repeated(request: Request, begun: Request) -> Mapping[str, Any]:
    """Return the settings of a request that repeats the one with which a search began.

    Raises:
        ConfigError: If one is another, except the places of data and weights; random ones have
            none.
    """
    before = {**flat(begun.from_file), **begun.given}
    now = as_read_back({**flat(request.from_file), **request.given})
    moved = {"data", *PLACES}
    if RANDOM_WEIGHTS in (before.get("weights"), now.get("weights")):
        moved.remove("weights")
    for key in now.keys() - moved:
        if before.get(key) != now[key]:
            was = f"{key} {before[key]!r}" if key in before else f"no {key} of yours"
            raise ConfigError(
                f"the search began with {was}, not {now[key]!r}; on --resume only --minutes may "
                "change, so omit the option or start a new search"
            )
    return request.given


def _go_on(work: Search, progress: Progress) -> Run:
    run, state = work.run, work.state
    # So that it is listed, and can be removed; the winner's entries take the place of these.
    with SEARCH.locked(run.path), run.recording_failure():
        if "winner" not in state:
            try:
                state["winner"] = work.best()
            except KeyboardInterrupt:
                work.save()
                raise
            Run.write_json(run.search_file, state)
        winner = folder_of(run, state["winner"], 0).path
        rows = [Tried(**row) for row in state["tried"]]
        write_tried(
            [replace(row, chosen=row.candidate == state["winner"]) for row in rows], run.tried_file
        )
        _adopt(run, winner, refit=work.refits)
        run.record(searched={key: state[key] for key in ("given", "from_file")})
        if work.refits:
            work.keep_out_of_fold(state["winner"])
    done = single.resume(run, work.settings_of(run), progress=progress, test=state["test"])
    with storage_errors(run.path):
        shutil.rmtree(run.search_dir, ignore_errors=True)
        # Last: until then the search is unfinished.
        run.search_file.unlink(missing_ok=True)
    return done


def _first_plan(request: Request, load: Callable[[RunConfig], Dataset], progress: Progress) -> Plan:
    """Return the plan of the first candidate; by folds, unless it is decided what is held out."""
    settings, request = dict(FROZEN), as_they_are(request)
    if not HELD_OUT & request.chosen.keys():
        try:
            return settle(with_settings(request, {**settings, **FOLDS}), progress, load)
        except DataError:
            pass  # there are validation images of their own, or a real error, which comes again
    return settle(with_settings(request, settings), progress, load)


def _in_time(
    request: Request,
    plan: Plan,
    minutes: float,
    load: Callable[[RunConfig], Dataset],
    progress: Progress,
) -> tuple[Request, Plan]:
    """Return the request with a smaller image size if all images would take too long otherwise."""
    size = plan.config.image_size
    n_images = sum(map(len, plan.dataset.parts.values()))
    share = _SHARE_OF_SMALL if tries_scratch(request, plan.dataset) else _SHARE
    seconds = share * 60 * minutes
    if size is None or "image_size" in request.chosen:
        return request, plan
    if n_images * _SLOW_S * relative_cost(plan.config.model, _SLOW) <= seconds:
        return request, plan
    whole = n_images * seconds_per_image(plan)
    smaller = [each for each in _SIZES if each < size]
    chosen = next(
        (each for each in (size, *smaller) if whole * (each / size) ** 2 <= seconds), _SIZES[-1]
    )
    if chosen == size:
        return request, plan
    progress.say(
        f"{n_images:,} images would take {whole / 60:.1f} minutes at {size} pixels; "
        f"using {chosen} pixels instead ({whole / 60 * (chosen / size) ** 2:.1f} minutes, less "
        "detail)"
    )
    smaller_request = Request({**request.given, "image_size": chosen}, request.from_file)
    return smaller_request, _first_plan(smaller_request, load, progress)


def _adopt(run: Run, winner: Path, *, refit: bool) -> None:
    """Make the winner's files those of the run; continues where a kill interrupted it."""
    with storage_errors(run.path):
        names = [item.name for item in winner.iterdir()] if winner.exists() else []
        for name in sorted(names, key=lambda each: each == Run(winner).state_file.name):
            if name not in (LOCK, STATE_LOCK, HEARTBEAT):
                (winner / name).replace(run.path / name)
    config = run_config(run)
    if refit and not config.refit:
        write_text(run.config_file, dump_config(config.model_copy(update={"refit": True})))
