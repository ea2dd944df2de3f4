"""A search at work: trains candidates as long as there is time, and finds the best of them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from convscope.api import train as single
from convscope.errors import ConvscopeError, StorageError, TrainingError
from convscope.evaluation.multi_label import name_of_score
from convscope.evaluation.tried import Tried
from convscope.planning.budget import Budget
from convscope.planning.plan import Plan, run_config
from convscope.planning.settle import Request, settle
from convscope.progress import Progress
from convscope.recipe import PLACES, RunConfig
from convscope.run import Run
from convscope.studies.executor import Executor, Job
from convscope.studies.search.candidates import (
    FIRST,
    FOLDS,
    HEADS,
    SINGLE_VIEW,
    Candidate,
    as_they_are,
    folder_of,
    tries_scratch,
    with_settings,
)
from convscope.studies.search.clock import Clock
from convscope.studies.search.proposals import Proposals
from convscope.studies.search.results import Results
from convscope.types import Dataset, Predictions, n_of_each
from convscope.wording import counted, lack_of_memory

_FEW = 1_000
"""Validation images below which they are worth more for training, in the end, than apart."""


@dataclass(frozen=True)
class Place:
    """Place where candidates are trained.

    Attributes:
        executor: Executor; None trains in this process, with the data that it holds.
        data_dir: Further folder to look for the files of a built-in dataset.
    """

    executor: Executor | None = None
    data_dir: Path | str | None = None


class Search:
    """Tries the candidates as long as there is time: one after another, or as many as fit.

    Args:
        run: Run of the search, which becomes that of the winner.
        request: Settings of the user, which hold for every candidate.
        state: Content of `search.json`, which is kept up to date.
        plan: Plan of the first candidate.
        load: Function that loads the data of settings.
        began: Time at which the search began, as `time.monotonic` counts it.
        progress: Called with all events.
        place: Place where the candidates are trained.

    Attributes:
        run: As given.
        state: As given.
        refits: Whether the best is trained once more: as the user said, or if that is worth it.
    """

    def __init__(
        self,
        run: Run,
        request: Request,
        state: dict[str, Any],
        plan: Plan,
        load: Callable[[RunConfig], Dataset],
        began: float,
        progress: Progress,
        place: Place,
    ) -> None:
        data = plan.dataset
        refit: bool | None = request.chosen.get("refit")
        self.run = run
        self.state = state
        self.refits = len(data.validation) < _FEW if refit is None else refit
        self._began = began
        self._place = place
        self._request = request
        self._plan = plan
        self._load = load
        self._progress = progress
        self._results = Results(run, [Tried(**row) for row in state["tried"]], data.train)
        self._clock = Clock(
            run,
            plan,
            self._results,
            ends=began + 60 * state["minutes"],
            n_test=0 if data.test is None or not state["test"] else len(data.test),
            loading_s=state["loading_seconds"],
            refits=self.refits,
            remote=place.executor is not None,
        )
        self._at_once = 1 if place.executor is None else place.executor.at_once
        # Its time is measured where it is trained, in this process.
        self._from_scratch = place.executor is None and tries_scratch(request, data)
        self._proposals = Proposals(
            run,
            request,
            plan.config,
            self._results,
            self._clock,
            self._at_once,
            self._from_scratch,
            progress,
        )

    def best(self) -> str:
        """Try what fits into the time, and return the name of the best candidate.

        Raises:
            TrainingError: If no candidate could be trained.
            StorageError: If a file cannot be written.
        """
        self._describe()
        proposals, results = self._proposals, self._results
        for group in proposals.groups():
            self._try([(each, 0) for each in group])
        standing = results.standing()
        if not standing:
            raise TrainingError(results.rows[0].note)
        if proposals.left_out:
            self._progress.say(
                f"Not tried, for lack of time: {', '.join(proposals.left_out)}; raise --minutes"
            )
        # An undone fine-tuning is a head on the frozen backbone, with which it would compete.
        finalists = [each for each in standing if each not in HEADS and not results.undone(each)]
        if set(standing) & set(HEADS):
            finalists.append(proposals.best_head(HEADS))
        # A fold of the user is the only one.
        one_fold = {"split.fold", "split.fold_as"} & self._request.chosen.keys()
        if self._plan.config.split.folds is not None and not one_fold:
            self._race(finalists)
        name = next(each for each in results.standing() if each in finalists)
        best = results.find(name)
        assert best is not None
        cost = self._clock.cost(proposals.known[name].settings)
        self._progress.say(
            f"Best of {counted(len(standing), 'candidate')}: {best.words}"
            + (f"; it takes {cost:.1f} times as long per image as the first candidate" * (cost > 1))
        )
        self.save()
        return name

    def keep_out_of_fold(self, name: str) -> None:
        """Keep the winner's predictions on the folds that it was tried on, if there are several."""
        from convscope.evaluation.predictions import read_predictions, save_out_of_fold

        folds = sorted(self._results.folds_of(name))[1:]
        runs = [folder_of(self.run, name, fold) for fold in folds]
        if runs and not self.run.out_of_fold_file.exists():
            said = [read_predictions(each.predictions_file)[0]["val"] for each in (self.run, *runs)]
            together = Predictions.joined(said, "out_of_fold")
            save_out_of_fold(self.run, self.run.class_names, together)

    def settings_of(self, run: Run) -> Request:
        """Return the settings of a run of the search, with the current places of its files."""
        now = {key: getattr(self._plan.config, key) for key in PLACES}
        return Request({**run_config(run).model_dump(), **now})

    def _describe(self) -> None:
        data = self._plan.dataset
        labels = n_of_each(data.train.labels, len(data.class_names))
        colour = "grey" if data.image_shape[2] == 1 else "colour"
        minutes = self.state["minutes"]
        self._progress.say(
            f"{len(data.train) + len(data.validation):,} {colour} images to learn from, "
            f"{len(data.class_names)} classes, {labels.min():,} to {labels.max():,} each in "
            "training"
        )
        self._progress.say(
            f"Plan for {minutes:g} minute{'s' * (minutes != 1)}: train a head on a frozen "
            "backbone; "
            + "train a network from scratch, as the images are small; " * self._from_scratch
            + "try larger backbones and mirrored images; fine-tune the last stage of the best"
            + "; retrain the winner on training and validation images" * self.refits
        )

    def _race(self, finalists: list[str]) -> None:
        """Try the two best on further folds until the better one is clear, or the time is over."""
        known, results, clock = self._proposals.known, self._results, self._clock
        folds = self._plan.config.split.folds or 1
        left = list(range(1, folds))
        while left:
            names = [name for name in results.standing() if name in finalists][:2]
            if len(names) < 2 or results.is_clear(*names):
                return
            seconds = sum(results.mean_seconds(name) for name in names)
            if not clock.fits(seconds, max(clock.finishing(known[name]) for name in names)):
                return
            now = [left.pop(0) for _ in range(min(len(left), max(1, self._at_once // 2)))]
            listed = ", ".join(str(fold + 1) for fold in now)
            self._progress.say(
                f"{' and '.join(known[name].words for name in names)} are close: training both "
                f"again with fold {listed} of {folds} held out"
            )
            self._try([(known[name], fold) for fold in now for name in names])
            if any(results.is_spoilt(fold) for fold in now):
                return

    def _try(self, wanted: list[tuple[Candidate, int]]) -> None:
        """Train candidates, each on all folds but one, and keep how good they are."""
        new = [(each, fold) for each, fold in wanted if not self._results.find(each.name, fold)]
        began = time.monotonic()
        for candidate, fold, note in self._trained(new):
            # One after another, or all from the same moment.
            seconds = round(time.monotonic() - began, 1)
            began = time.monotonic() if self._at_once == 1 else began
            row = self._results.add(candidate, fold, seconds, note)
            self.save()
            self._tell(row)

    def _tell(self, row: Tried) -> None:
        if row.note:
            self._progress.say(f"  failed: {row.note}")
            return
        n_images = len(self._results.losses(row.candidate, (row.fold,)))
        words = self._proposals.known[row.candidate].words
        measure = name_of_score(multi_label=self._plan.config.multi_label)
        is_first = len(self._results.rows) == 1
        self._progress.say(
            f"  {f'{words}: ' if self._at_once > 1 else ''}{measure} {row.accuracy:.4f}, "
            f"loss {row.loss:.4f} on {n_images:,} validation images after {row.seconds:.0f} s"
            + (
                "; usable until the search ends: "
                f"{folder_of(self.run, row.candidate, row.fold).path}"
                if is_first
                else ""
            )
        )

    def _trained(self, wanted: list[tuple[Candidate, int]]) -> Iterator[tuple[Candidate, int, str]]:
        """Train candidates from where they stand; yield each when it ends.

        Yields:
            Candidate, fold, and the reason why it failed; empty if it did not.

        Raises:
            StorageError: If a file cannot be written.
        """
        if self._place.executor is not None:
            jobs = [self._job_of(*each) for each in wanted]
            asked = {job.folder: each for job, each in zip(jobs, wanted, strict=True)}
            for job, outcome in self._place.executor.outcomes(jobs, self._progress):
                yield *asked[job.folder], outcome.failure or ""
            return
        for candidate, fold in wanted:
            self._progress.say(f"Trying {candidate.words}")
            note = ""
            try:
                self._train(candidate, folder_of(self.run, candidate.name, fold), fold)
            except StorageError:
                raise
            except ConvscopeError as error:
                note = str(error)
            except Exception as error:
                # There is a usable model by then, and --resume would meet it again.
                lack = lack_of_memory(error)
                if lack is None or candidate.name == FIRST:
                    raise
                note = f"not enough memory ({lack})"
            yield candidate, fold, note

    def _job_of(self, candidate: Candidate, fold: int) -> Job:
        """Return the training of a candidate as a job; its epochs do not adapt to the time."""
        run = folder_of(self.run, candidate.name, fold)
        if run.state_file.exists():
            config = settle(self.settings_of(run), Progress(), self._load).config
        else:
            config = self._plan_of(candidate, fold, Progress()).config
        where = f", fold {fold + 1}" if fold else ""
        title = f"Trying {candidate.words}{where}"
        return Job(config, run.path, self._place.data_dir, title, self.state.get("fingerprint"))

    def _plan_of(self, candidate: Candidate, fold: int, progress: Progress) -> Plan:
        settings, given = dict(candidate.settings), dict(self._request.given)
        if self._plan.config.split.folds is not None:
            settings |= {**FOLDS, "split.fold": fold}
        budget = None
        if candidate.by_time:
            # Enlarged, they would only take longer.
            if (given.get("image_size") or 0) > max(self._plan.dataset.image_shape[:2]):
                del given["image_size"]
            if fold == 0:
                seconds = self._clock.for_long(self._proposals.known[FIRST])
                budget = Budget(minutes=seconds / 60, target=None)
            else:
                first = run_config(folder_of(self.run, candidate.name, 0))
                settings |= {"model": first.model, "epochs": first.epochs}
        request = Request(given, self._request.from_file)
        if candidate.name in SINGLE_VIEW:
            request = as_they_are(request)
        request = with_settings(request, settings)
        # Only the winner is trained once more.
        request = Request({**request.given, "refit": False}, request.from_file, budget)
        return settle(request, progress, self._load)

    def _train(self, candidate: Candidate, run: Run, fold: int) -> None:
        """Train a candidate in this process on all folds but one, from where it stands."""
        from convscope.training.pace import Deadline, Pace

        progress = _Indented(self._progress)

        def pace(epochs: int) -> Pace | None:
            if not candidate.pace:
                return None
            return Pace(Deadline(self._clock.for_long(self._proposals.known[FIRST])), epochs)

        if run.state_file.exists():
            left = pace(run_config(run).epochs)
            settings = self.settings_of(run)
            single.resume(run, settings, progress=progress, test=False, pace=left)
            return
        plan = self._plan_of(candidate, fold, progress if candidate.by_time else Progress())
        plan = replace(plan, pace=plan.pace or pace(plan.config.epochs))
        single.train(plan, progress=progress, out=run.path, test=False)

    def save(self) -> None:
        """Write down what was tried, and the time that it took."""
        self.state["tried"] = [asdict(each) for each in self._results.rows]
        self.state["spent"] = round(time.monotonic() - self._began, 1)
        Run.write_json(self.run.search_file, self.state)


class _Indented(Progress):
    """Progress of a candidate: lines of its own are set in below that which names it."""

    def __init__(self, outer: Progress) -> None:
        self.task = outer.task  # type: ignore[method-assign]
        self._outer = outer

    def say(self, text: str) -> None:
        """Print one line, set in."""
        self._outer.say(f"  {text}")

    def is_news(self, about: str) -> bool:
        """Return whether no candidate mentioned it."""
        return self._outer.is_news(about)
