"""Search over a recipe's settings, by Optuna: what to try next, and what to stop early."""

import contextlib
import importlib.util
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from convscope.backend import forget_networks
from convscope.datasets.source import data_settings
from convscope.errors import ConfigError, MissingExtraError, TrainingError, UserError
from convscope.evaluation.multi_label import name_of_score, score_of
from convscope.paths import short_name
from convscope.planning.data import load_once
from convscope.planning.settle import Request, settle, weights_setting
from convscope.planning.space import Choice, Space, settings_at, space_of
from convscope.planning.usual import recipe_for
from convscope.progress import Progress, console_progress
from convscope.recipe import RunConfig, dump_config, flat, require_settable
from convscope.recipes import usual_model
from convscope.remote import folder_or_none
from convscope.remote import settle as send
from convscope.run import ROOT, Run
from convscope.storage import write_rows, write_text
from convscope.studies.comparison.arms import FIRST_SEED, NOT_TO_SET
from convscope.studies.comparison.study import compare_configs
from convscope.studies.executor import Executor, Job, LocalExecutor, Outcome
from convscope.studies.folder import as_read_back
from convscope.studies.tuning.tuning import BEST, DEFAULT, TUNING, TunedTrial, Tuning, spelt
from convscope.training.results import n_rows, read_results
from convscope.wording import first_line, masked_database

if TYPE_CHECKING:
    import optuna

_NAME = "convscope"
_FEWEST_FOR_IMPORTANCE = 5


def tune(
    model: str | None = None,
    *,
    data: str | Path = "cifar10",
    labels: str | Path | None = None,
    recipe: str | None = None,
    space: Mapping[str, str | Iterable[Any]] | None = None,
    trials: int = 30,
    minutes: float | None = None,
    confirm: int = 5,
    seed: int = FIRST_SEED,
    epochs: int | None = None,
    weights: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    storage: str | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search for better settings of a recipe, and say how much of the gain is luck.

    The first trial has the recipe's own settings, if they lie in the search space, the next ten are
    spread over it, later ones follow what was good (tree-structured Parzen estimator). Trials whose
    curve of validation accuracy falls behind are stopped (Hyperband). At the end the best settings
    and the recipe's own are trained with new seeds and compared. Only validation images are looked
    at; the test images stay sealed. Called again, it resumes, and adds trials up to the number
    given.

    Args:
        model: Registered model; None takes the recipe's, or else `cnn-sequential`.
        data: Built-in dataset, or a folder of images.
        labels: Table with the labels of the folder's images, as for `load`.
        recipe: Registered recipe; None takes the model's default.
        space: Values by dotted name of a setting: "LOW..HIGH", "LOW..HIGH:log", values separated by
            commas, or a list of values. None takes those that stand beside the recipe.
        trials: Number of trials, those of earlier calls included.
        minutes: Time after which no trial is started and those at work are stopped.
        confirm: Number of new seeds for the comparison at the end; 0 omits it.
        seed: Seed of all trials, and of the search.
        epochs: Epochs of each trial; None takes the recipe's.
        weights: Weights of a backbone: a file, a folder with it, or "random".
        settings: Other settings of every trial by dotted name.
        storage: Database of trials: a URL as SQLAlchemy has it, or "journal:FILE" for a file that
            several hosts write to; searches with one storage and different folders share their
            trials. None takes an SQLite file in the folder. A password in it is written nowhere.
        out: Folder; None takes `runs/tune-DATA-MODEL-RECIPE`.
        data_dir: Further folder to look for the files of a built-in dataset.
        executor: Where to train; None trains one trial after the other on this machine.
        progress: Called with all events; None draws on standard error.

    Raises:
        MissingExtraError: If Optuna is not installed.
        UserError: If a name, a setting, a range or the data is wrong, or the folder holds something
            else.
        TrainingError: If no trial could be trained to its end.
        FailureError: If weights or data are not available, or a file cannot be written.

    References:
        Akiba et al. 2019, "Optuna", arXiv:1907.10902; Bergstra et al. 2011, "Algorithms for
        Hyper-Parameter Optimization"; Li et al. 2018, "Hyperband", arXiv:1603.06560.
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError("optuna", "tune")
    progress = progress or console_progress()
    if trials < 1 or confirm < 0:
        raise ConfigError("--trials must be at least 1, and --confirm at least 0")
    place = data_settings(data, labels)
    model = model or usual_model(recipe)
    recipe = recipe or recipe_for(model, str(place["data"]), epochs=epochs is not None)
    ranges, settings = space_of(recipe, space or {}), flat(settings or {})
    require_settable(settings, NOT_TO_SET)
    require_settable(ranges, {**NOT_TO_SET, **dict.fromkeys(settings, "--set gives it")}, "--space")
    given = {**place, "model": model, "recipe": recipe, "seed": seed, **settings}
    given |= {} if epochs is None else {"epochs": epochs}
    given |= {} if weights is None else {"weights": weights_setting(weights)}
    folder = folder_or_none(out, "--out")
    TUNING.require_place(folder, place["data_path"])
    load = load_once(data_dir, progress)
    default = settle(Request(given), progress, load)
    # A setting without effect is refused here, before there is a folder.
    _settled(given, {key: _any_of(values) for key, values in ranges.items()}, load)
    about = f"{model}, recipe {recipe}, on {default.dataset.name}"
    name = short_name(f"tune-{default.dataset.name}-{model}-{recipe}", 200)
    path = folder or ROOT / name
    asked = as_read_back(
        {
            "content": default.dataset.provenance.get("fingerprint"),
            "config": default.config.model_dump(),
            "space": {key: repr(values) for key, values in ranges.items()},
            "storage": None if storage is None else masked_database(storage),
        }
    )
    with TUNING.locked(path):
        before = TUNING.read(path)
        # Earlier versions wrote a password as it was.
        if isinstance(kept := (before or {}).get("asked"), dict) and kept.get("storage"):
            kept["storage"] = masked_database(str(kept["storage"]))
        TUNING.require_same(path, before, asked)
        own_id = str((before or {}).get("id") or uuid.uuid4().hex)
        begun = {"id": own_id, "asked": asked}
        TUNING.write(path, begun)
        search = _Search(path, own_id, ranges, given, load, data_dir, asked["content"], progress)
        search.open(storage, seed, default.config, trials)
        executor = executor or LocalExecutor()
        search.run(executor, trials, None if minutes is None else 60 * minutes)
        found = Tuning(
            path,
            about,
            name_of_score(multi_label=default.config.multi_label),
            search.trials(),
            search.importance(),
            usual=settings_at(ranges, default.config.model_dump()),
        )
        best = found.best
        if best is None:
            failed = [trial.failure for trial in found.trials if trial.failure]
            raise TrainingError(
                f"no trial was trained to its end{f': {failed[0]}' if failed else ''}; "
                "raise --trials or --minutes"
            )
        chosen = _settled(given, best.settings, load)
        write_text(found.config_file, dump_config(chosen))
        if confirm and not found.is_usual:
            progress.say(f"Comparing trial {best.number} with the recipe on {confirm} new seeds")
            confirmation = compare_configs(
                {DEFAULT: default.config, BEST: chosen},
                default.dataset,
                path / f"confirmation-{best.number}",
                [seed + 1000 + index for index in range(confirm)],
                data_dir=data_dir,
                executor=executor,
                progress=progress,
            )
            found = Tuning(**{**vars(found), "confirmation": confirmation})
        _write(found, begun)
    return found


def _any_of(values: Any) -> Any:
    """Return a value that is not an end of a range, where it could be "off"."""
    if isinstance(values, Choice):
        return values.values[-1]
    middle = (values.low * values.high) ** 0.5 if values.log else (values.low + values.high) / 2
    return round(middle) if values.whole else middle


def _settled(given: Mapping[str, Any], chosen: Mapping[str, Any], load: Any) -> RunConfig:
    return settle(Request({**given, **chosen}), Progress(), load).config


class _Search:
    """The trials of a search, in Optuna's storage and in run folders."""

    def __init__(
        self,
        path: Path,
        own_id: str,
        space: Space,
        given: Mapping[str, Any],
        load: Any,
        data_dir: Path | str | None,
        fingerprint: str | None,
        progress: Progress,
    ) -> None:
        self._path = path
        # The folder may be elsewhere by now, and other hosts have one at the same place.
        self._id = own_id
        self._space = space
        self._given = given
        self._load = load
        self._data_dir = data_dir
        self._fingerprint = fingerprint
        self._progress = progress
        self._trials: dict[Path, optuna.Trial] = {}
        self._reported: dict[Path, int] = {}

    @property
    def _own_storage(self) -> Path:
        """Database of the trials, unless another was named."""
        return self._path / "trials.db"

    def open(self, storage: str | None, seed: int, default: RunConfig, n_trials: int) -> None:
        """Open or create the study; its first trial has the recipe's own settings, if they can."""
        import optuna

        self._multi_label = default.multi_label
        self._alone = storage is None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        where: Any = storage or f"sqlite:///{self._own_storage.absolute()}"
        if where.startswith("journal:"):
            from optuna.storages.journal import JournalFileBackend

            where = optuna.storages.JournalStorage(JournalFileBackend(where[len("journal:") :]))
        try:
            self._study = optuna.create_study(
                storage=where,
                study_name=_NAME if storage is None else f"{_NAME} {self._path.resolve().name}",
                pruner=optuna.pruners.HyperbandPruner(1, n_rows(default), 3),
                direction="maximize",
                load_if_exists=True,
            )
        except Exception as error:  # whatever the database raises
            named, said = masked_database(storage or where), first_line(error)
            if storage is not None:
                said = said.replace(storage, named)
            raise ConfigError(f"--storage {named}: {said}") from None
        # A search that goes on, or shares its trials, would otherwise draw those settings again
        # that were drawn before.
        fresh = seed + len(self._study.trials)
        if storage is not None:
            fresh += crc32(self._id.encode())
        self._study.sampler = optuna.samplers.TPESampler(
            seed=fresh % 2**32, n_startup_trials=min(10, n_trials)
        )
        known = settings_at(self._space, default.model_dump())
        if not self._study.trials and known is not None:
            self._study.enqueue_trial(
                {key: self._space[key].stored(value) for key, value in known.items()}
            )

    def run(self, executor: Executor, n_trials: int, seconds: float | None) -> None:
        """Train trials until there are enough or the time is over."""
        end = None if seconds is None else time.monotonic() + seconds

        def is_over() -> bool:
            return end is not None and time.monotonic() >= end

        def unwanted(job: Job) -> bool:
            return is_over() or self._falls_behind(job)

        done = sum(trial.state.is_finished() for trial in self._study.trials)
        with self._progress.task("Searching", max(n_trials - done, 0), "trials") as step:
            jobs = self._jobs(n_trials, is_over)
            for job, outcome in executor.outcomes(jobs, self._progress, unwanted):
                note = self._keep(job, outcome)
                forget_networks()
                step(1, note)

    def _jobs(self, n_trials: int, is_over: Any) -> Iterator[Job]:
        """Yield trials one by one, each chosen by what is known when there is room for it."""
        import optuna

        of_stop = [
            optuna.trial.Trial(self._study, trial._trial_id)
            for trial in self._study.trials
            # Those of this search when it was killed; in a shared storage, others may be at work.
            if trial.state == optuna.trial.TrialState.RUNNING
            and (self._alone or trial.user_attrs.get("search") == self._id)
        ]
        for trial in of_stop:
            if job := self._job(trial, n_trials):
                yield job
        while not is_over():
            begun = [t for t in self._study.trials if t.state != optuna.trial.TrialState.WAITING]
            if len(begun) >= n_trials:
                return
            trial = self._study.ask()
            trial.set_user_attr("search", self._id)
            if job := self._job(trial, n_trials):
                yield job

    def _job(self, trial: "optuna.Trial", n_trials: int) -> Job | None:
        """Return the training of a trial; None if its settings do not go together."""
        import optuna

        chosen = {key: self._suggested(trial, key) for key in self._space}
        folder = self._path / "trials" / f"{trial.number + 1:04d}"
        said = ", ".join(f"{key.rpartition('.')[2]} {spelt(v, 3)}" for key, v in chosen.items())
        try:
            config = _settled(self._given, chosen, self._load)
        except UserError as error:
            self._progress.say(f"Trial {trial.number + 1}: {said}: {error}")
            trial.set_user_attr("failure", str(error))
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return None
        # SQLite writes it: without this, a host that goes on would not know of this trial.
        send(self._own_storage)
        self._trials[folder] = trial
        # Of a trial that goes on, Optuna knows epochs already.
        self._reported[folder] = len(self._study.trials[trial.number].intermediate_values)
        title = f"Trial {trial.number + 1} of {n_trials}: {said}"
        return Job(config, folder, self._data_dir, title, self._fingerprint)

    def _suggested(self, trial: "optuna.Trial", key: str) -> Any:
        values = self._space[key]
        if isinstance(values, Choice):
            stored = trial.suggest_categorical(key, [values.stored(v) for v in values.values])
            return values.value_of(stored)
        if values.whole:
            return trial.suggest_int(key, int(values.low), int(values.high), log=values.log)
        return trial.suggest_float(key, values.low, values.high, log=values.log)

    def _falls_behind(self, job: Job) -> bool:
        """Report new epochs of a trial, and return whether Optuna would stop it."""
        before = self._reported[job.folder]
        done = self._report(job)
        # After the last epoch there is nothing to save.
        return before < done < n_rows(job.config) and self._trials[job.folder].should_prune()

    def _report(self, job: Job) -> int:
        """Tell Optuna of the new epochs of a trial, and return the number of all."""
        import optuna

        from convscope.training.objective import merit

        file = Run(job.folder).results_file
        rows = read_results(file) if file.exists() else []
        for row in rows[self._reported[job.folder] :]:
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                self._trials[job.folder].report(merit(row, job.config), int(row["epoch"]))
        self._reported[job.folder] = len(rows)
        return len(rows)

    def _keep(self, job: Job, outcome: Outcome) -> str:
        """Tell Optuna how a trial ended, and return that in a word."""
        import optuna

        trial, states = self._trials[job.folder], optuna.trial.TrialState
        self._report(job)
        if outcome.stopped:
            self._study.tell(trial, state=states.PRUNED)
            return f"trial {trial.number + 1} stopped early"
        if outcome.failure is not None:
            self._progress.say(f"Trial {trial.number + 1} failed: {outcome.failure}")
            trial.set_user_attr("failure", outcome.failure)
            self._study.tell(trial, state=states.FAIL)
            return f"trial {trial.number + 1} failed"
        score = float(score_of(outcome.run.metrics["val"]))
        self._study.tell(trial, score)
        return f"best {self._study.best_value:.4f}"

    def trials(self) -> tuple[TunedTrial, ...]:
        """Return all trials that have ended, by number."""
        import optuna

        words = {
            optuna.trial.TrialState.COMPLETE: "finished",
            optuna.trial.TrialState.PRUNED: "stopped",
            optuna.trial.TrialState.FAIL: "failed",
        }
        unscored = {optuna.trial.TrialState.PRUNED} if self._multi_label else set()
        return tuple(
            TunedTrial(
                trial.number + 1,
                f"trials/{trial.number + 1:04d}",
                {
                    key: values.value_of(trial.params[key])
                    for key, values in self._space.items()
                    if key in trial.params
                },
                # Of a stopped one Optuna keeps that by which it was stopped in its last epoch:
                # with any number of classes a loss, which is no score.
                None if trial.state in unscored else trial.value,
                len(trial.intermediate_values),
                words[trial.state],
                trial.user_attrs.get("failure"),
            )
            for trial in self._study.trials
            if trial.state in words
        )

    def importance(self) -> dict[str, float]:
        """Return the share of each setting in the differences of score, the largest first."""
        import optuna

        done = [trial for trial in self.trials() if trial.status == "finished"]
        if len(done) < _FEWEST_FOR_IMPORTANCE or len({trial.score for trial in done}) < 2:
            return {}
        judged = optuna.importance.get_param_importances(
            self._study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
        return {key: float(share) for key, share in judged.items()}


def _write(found: Tuning, begun: dict[str, Any]) -> None:
    """Write the state, with what it began with, the table and the page."""
    from convscope.report.page import write_page
    from convscope.studies.tuning.page import tuning_page

    best = found.best
    state = {
        **begun,
        "about": found.about,
        "conclusion": found.conclusion,
        "caution": found.caution,
        "best": None if best is None else asdict(best),
        "importance": dict(found.importance),
        "confirmation": None if found.confirmation is None else found.confirmation.path.name,
        "trials": [asdict(trial) for trial in found.trials],
    }
    TUNING.write(found.path, state)
    keys = sorted({key for trial in found.trials for key in trial.settings})
    rows = [
        {"trial": t.number, "score": t.score, "epochs": t.epochs, "status": t.status, **t.settings}
        for t in found.trials
    ]
    write_rows(found.table_file, ["trial", "score", "epochs", "status", *keys], rows)
    write_page(tuning_page(found), found.page)
