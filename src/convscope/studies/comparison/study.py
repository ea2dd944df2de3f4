"""Comparison of training configurations: several seeds each, every run in its own process."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convscope.api.costs import file_mb, seconds_with_features, sheet_of
from convscope.api.evaluate import evaluate
from convscope.backend import forget_networks
from convscope.datasets.division.splits import images_of_part, require_any_class
from convscope.datasets.source import table_of
from convscope.errors import ConfigError, DataError, RunError, TrainingError
from convscope.evaluation.grouping import images_of
from convscope.evaluation.map_difference import Scored
from convscope.evaluation.multi_label import name_of_score, score_of
from convscope.evaluation.opening import log_seen_again
from convscope.evaluation.statistics import Groups
from convscope.paths import numbered
from convscope.planning.data import load_once
from convscope.planning.plan import run_config
from convscope.planning.settle import settle
from convscope.progress import Progress, console_progress
from convscope.recipe import Recipe, RunConfig, differences_in_kind, dump_config, resolve
from convscope.remote import folder_or_none
from convscope.run import ROOT, Run
from convscope.storage import require_outside, write_text
from convscope.studies.comparison.arms import file_name, folder_name, names_of, plan_arms, seeds_of
from convscope.studies.comparison.comparison import (
    COMPARISON,
    Arm,
    Comparison,
    Trial,
    look_read,
    looks_with,
    pairs_of,
)
from convscope.studies.comparison.latency import latencies_ms
from convscope.studies.comparison.verdicts import Look
from convscope.studies.executor import Executor, Job, LocalExecutor, Outcome
from convscope.studies.folder import as_read_back, look_of
from convscope.types import PART_NAMES, BoolArray, Dataset


def compare(
    models: str | Sequence[str],
    *,
    data: str | Path = "cifar10",
    labels: str | Path | None = None,
    recipes: str | Sequence[str] | None = None,
    seeds: int | Iterable[int] = 5,
    epochs: int | None = None,
    weights: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    final: bool = False,
    after_run: Callable[[Comparison], None] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train each model with each recipe over several seeds, and report reliable differences.

    All runs share one split and are compared on validation images, so that a choice leaves the test
    images sealed. With `final`, once the last run is trained, the test images are opened, once
    for all runs, and the verdicts are about them. Called again, it trains what is missing:
    after a kill, or for more seeds. A run that cannot be trained is recorded with the reason,
    and the others continue.

    Args:
        models: Registered models; "model:recipe" for one with its own recipe.
        data: A built-in dataset, or a folder of images.
        labels: Table with the labels of the folder's images, as for `load`.
        recipes: Registered recipes; None takes each model's default.
        seeds: Number of seeds, counted from 83, or a list of seeds.
        epochs: Epochs of each run; None takes the recipe's.
        weights: Weights of backbones: a folder with them, or "random"; None looks for ImageNet's.
        settings: Other settings of every run by dotted name.
        vary: Values to compare by dotted name of a setting: each is its own arm, and with several
            settings each combination.
        out: Folder of the comparison; None takes one below `runs/` named after the arms.
        data_dir: Further folder to look for the files of a built-in dataset.
        final: Whether to use the test images, when all choices are made.
        after_run: Function called after each run with the comparison so far.
        executor: Where to train; None trains one run after the other on this machine, `on_ray`
            several at once on a cluster.
        progress: Called with all events; None draws on standard error.

    Raises:
        UserError: If a name, a setting or the data is wrong, or the folder holds something else.
        TrainingError: If no run could be trained.
        FailureError: If weights or data are not available, or a file cannot be written.
    """
    progress = progress or console_progress()
    seeds = seeds_of(seeds)
    requests = plan_arms(
        models,
        recipes,
        seeds[0],
        data,
        epochs,
        weights,
        settings or {},
        vary or {},
        labels,
    )
    place = folder_or_none(out, "--out")
    COMPARISON.require_place(place, next(iter(requests.values())).chosen["data_path"])
    load = load_once(data_dir, progress)
    configs = {}
    first: tuple[str, dict[str, str]] | None = None
    for name, request in requests.items():
        # An error up to here leaves no folder behind.
        plan = settle(request, progress, load)
        configs[name], dataset = plan.config, plan.dataset
        if final:
            require_any_class(dataset, "test")
        judged = images_of(dataset.parts["test" if final else "val"])
        first = first or (name, judged)
        if judged != first[1]:
            raise ConfigError(
                f"{first[0]} and {name} would be judged by other images, or by the same in other "
                "groups; take settings of the division (split) out of --vary"
            )
    return compare_configs(
        configs,
        dataset,
        place or usual_place(ROOT / folder_name(dataset.name, configs)),
        seeds,
        data_dir=data_dir,
        final=final,
        after_run=after_run,
        executor=executor,
        progress=progress,
    )


def compare_configs(
    configs: Mapping[str, RunConfig],
    dataset: Dataset,
    path: Path,
    seeds: Sequence[int],
    *,
    data_dir: Path | str | None = None,
    final: bool = False,
    after_run: Callable[[Comparison], None] | None = None,
    executor: Executor | None = None,
    progress: Progress,
) -> Comparison:
    """Compare resolved settings over several seeds; see `compare`.

    Args:
        configs: Settings of each arm by its name; their seed does not count.
        dataset: Data that all of them name.
        path: Folder of the comparison; called again with it, it resumes.
        seeds: Seeds of each arm.
        data_dir: Further folder to look for the files of a built-in dataset.
        final: Whether to use the test images.
        after_run: Function called after each run with the comparison so far.
        executor: Where to train; None trains one run after the other on this machine.
        progress: Called with all events.

    Raises:
        RunError: If the folder holds something else.
        TrainingError: If no run could be trained.
        StorageError: If a file cannot be written.
    """
    arms = tuple(
        Arm(
            name,
            config.model,
            config.recipe,
            tuple(Trial(f"runs/{file_name(name)}-seed{seed}", seed) for seed in seeds),
            part="test" if final else "val",
            measure=name_of_score(multi_label=config.multi_label),
        )
        for name, config in configs.items()
    )
    judged_by = dataset.test if final else dataset.val
    assert judged_by is not None
    comparison = Comparison(path, dataset.name, len(judged_by.labels), arms)
    asked: dict[str, Any] = {
        # Recipes change with versions of convscope, and the images may have changed.
        "content": dataset.provenance.get("fingerprint"),
        "ways": {name: config.model_dump(exclude={"seed"}) for name, config in configs.items()},
    }
    asked = as_read_back(asked)
    with COMPARISON.locked(path):
        comparison, looks = _take_up(comparison, asked)
        for name, config in configs.items():
            write_text(path / "arms" / f"{file_name(name)}.yaml", dump_config(config))
        place = configs[arms[0].name].model_dump()
        data, labels = place["data_path"], table_of(place)
        study = _Study(comparison, asked, looks, data_dir, progress, data, labels, configs)
        study.write()
        study.train(executor or LocalExecutor(), after_run)
        study.evaluate()
    return study.comparison


def compare_runs(
    runs: Sequence[Run | Path | str],
    *,
    data: str | Path | None = None,
    labels: str | Path | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    final: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Compare finished runs: those that differ only in their seed count as one arm.

    On their validation images; with `final` on their test images, for which runs that have not been
    evaluated on them are evaluated now, once.

    Args:
        runs: Runs or their folders, at least two, evaluated on the same images.
        data: Current place of the runs' folder of images, if it moved.
        labels: Current place of the table of their labels, if that moved.
        out: Folder of the comparison; None takes `runs/compare-` and the names of the arms, with a
            number if that holds a comparison of other runs.
        data_dir: Further folder to look for the files of a built-in dataset.
        final: Whether to use the test images, when all choices are made.
        progress: Called with all events; None draws on standard error.

    Raises:
        RunError: If a run is missing or not trained, or an arm has two runs of one seed.
        DataError: If they are of different images.
    """
    progress = progress or console_progress()
    opened = [Run.open(run) for run in ([runs] if isinstance(runs, str | Path | Run) else runs)]
    configs = [run_config(run) for run in opened]
    if len({run.path.resolve() for run in opened}) < len(opened):
        raise RunError("a run is named twice; name each once")
    part = "test" if final else "val"
    n_images = _require_same_images(opened, part)
    grouped: dict[str, list[int]] = {}
    names = names_of(configs)
    for index, name in enumerate(names):
        grouped.setdefault(name, []).append(index)
    if len(grouped) < 2:
        raise RunError("these runs differ only in their seed; name runs of two configurations")
    arms = []
    for name, indices in grouped.items():
        found = sorted(indices, key=lambda index: configs[index].seed)
        twice = [seed for seed, n in Counter(configs[i].seed for i in found).items() if n > 1]
        if twice:
            same = [str(opened[i].path) for i in found if configs[i].seed == twice[0]]
            raise RunError(
                f"{' and '.join(same[:2])} have the same configuration and seed; omit one"
            )
        trials = tuple(Trial(str(opened[i].path.resolve()), configs[i].seed) for i in found)
        first = configs[found[0]]
        measure = name_of_score(multi_label=first.multi_label)
        arms.append(Arm(name, first.model, first.recipe, trials, part, measure))
    by_name = {arm.name: configs[grouped[arm.name][0]] for arm in arms}
    asked = {"runs": sorted(str(run.path.resolve()) for run in opened)}
    usual = ROOT / folder_name(configs[0].data_name, by_name)
    path = folder_or_none(out, "--out") or COMPARISON.free_place(usual, asked)
    require_outside(path, configs[0].data_path)
    comparison = Comparison(path, configs[0].data_name, n_images, tuple(arms))
    with COMPARISON.locked(path):
        before = COMPARISON.read(path)
        _require_kind(path, before, "runs")
        COMPARISON.require_same(path, before, asked)
        study = _Study(comparison, asked, {}, data_dir, progress, data, labels)
        for arm in comparison.arms:
            for trial in arm.trials:
                study.measure(trial)
        study.evaluate()
    return study.comparison


@dataclasses.dataclass
class _Study:
    """A comparison in progress."""

    comparison: Comparison
    asked: dict[str, Any]
    looks: dict[str, list[Look]]
    data_dir: Path | str | None
    progress: Progress
    data: Path | str | None = None
    labels: Path | str | None = None
    configs: Mapping[str, RunConfig] = dataclasses.field(default_factory=dict)

    def train(
        self, executor: Executor, after_run: Callable[[Comparison], None] | None = None
    ) -> None:
        """Train missing runs, alternating between the arms, so that none runs ahead."""
        arms = self.comparison.arms
        planned = [(arm.name, trial.seed) for arm in arms for trial in arm.trials]
        missing = [
            (name, seed)
            for name, seed in sorted(planned, key=lambda each: each[1])
            if (trial := self._trial(name, seed)).val_accuracy is None
            and not (trial.failure and trial.final)
        ]
        jobs = {}
        for number, (name, seed) in enumerate(missing, 1):
            config = self.configs[name].model_copy(update={"seed": seed})
            title = f"Run {number} of {len(missing)}: {name}, seed {seed}"
            folder = self._path(self._trial(name, seed))
            job = Job(config, folder, self.data_dir, title, self.asked["content"])
            jobs[job.folder] = (job, name, seed)
        if jobs:
            with self.progress.task("Training", len(missing), "runs") as step:
                every = [job for job, _, _ in jobs.values()]
                for done, outcome in executor.outcomes(every, self.progress):
                    _, name, seed = jobs[done.folder]
                    self._keep(name, self._trial(name, seed), outcome)
                    self.write()
                    step(1, f"{name}, seed {seed}")
                    if after_run is not None:
                        after_run(self.comparison)
        trials = [trial for arm in self.comparison.arms for trial in arm.trials]
        if all(trial.failure for trial in trials):
            raise TrainingError(f"no run could be trained: {trials[0].failure}")

    def measure(self, trial: Trial) -> None:
        """Fill in the measurements of a trained run."""
        run = Run.open(self._path(trial))
        with contextlib.suppress(RunError):
            metrics = run.metrics
            self._replace(
                trial,
                val_accuracy=score_of(metrics["val"]),
                train_seconds=seconds_with_features(run),
                peak_memory_mb=run.state.get("peak_memory_mb"),
                failure=None,
            )
            return
        raise RunError(f"{run.path} has not been trained to its end; see: convscope runs")

    def evaluate(self) -> None:
        """Compare on validation images or, in one look for all runs, on the test images; write."""
        part = self.comparison.part
        answers = []
        groups: Groups = None  # of all runs the same
        first: dict[str, Run] = {}
        n_trials = sum(
            trial.failure is None for arm in self.comparison.arms for trial in arm.trials
        )
        with self.progress.task("Evaluating", n_trials, "runs") as step:
            for arm in self.comparison.arms:
                right: dict[int, BoolArray | Scored] = {}
                for trial in arm.trials:
                    if trial.failure is not None:
                        continue
                    run = Run.open(self._path(trial))
                    found, groups = self._right(run, part)
                    right[trial.seed] = found
                    first.setdefault(arm.name, run)
                    score = found.score if isinstance(found, Scored) else float(found.mean())
                    self._replace(trial, **{f"{part}_accuracy": score})
                    forget_networks()
                    step(1, arm.name)
                answers.append((arm.name, right))
        latencies = latencies_ms(first)
        for name, run in first.items():
            sheet = sheet_of(run)
            arm = self._arm(name)
            self._put(
                dataclasses.replace(
                    arm,
                    n_params=sheet.n_params,
                    multiply_adds=sheet.n_multiply_adds,
                    latency_ms=round(latencies[name], 3),
                    file_mb=round(file_mb(run), 3),
                )
            )
            forget_networks()
        self.looks[part] = looks_with(self.looks.get(part, []), self.comparison.seeds)
        self.comparison = dataclasses.replace(
            self.comparison, pairs=pairs_of(answers, part, groups), looks=tuple(self.looks[part])
        )
        self.write()

    def write(self) -> None:
        """Write the state, from which a stopped comparison resumes, and the page."""
        from convscope.report.markdown import write_markdown
        from convscope.report.page import write_page
        from convscope.studies.comparison.page import comparison_page
        from convscope.training.results import read_results

        it = self.comparison
        state = {
            **{"about": it.about, "data": it.data, "n_images": it.n_images},
            **{"conclusion": it.conclusion, "caution": it.caution, "part": it.part},
            **{"looks": self.looks.get("test", []), "val_looks": self.looks.get("val", [])},
            "pairs": [
                {**dataclasses.asdict(pair), "verdict": pair.verdict, "outlook": pair.outlook}
                for pair in it.pairs
            ],
            "arms": [dataclasses.asdict(arm) for arm in it.arms],
            "asked": self.asked,
        }
        COMPARISON.write(it.path, state)
        curves: dict[str, list[list[float]]] = {arm.name: [] for arm in it.arms}
        for arm in it.arms:
            for trial in arm.trials:
                file = Run(self._path(trial)).results_file
                # The table of epochs has no mAP.
                if file.exists() and arm.measure == "accuracy":
                    curves[arm.name].append([row["val_accuracy"] for row in read_results(file)])
        page = comparison_page(it, curves)
        write_page(page, it.page)
        write_markdown(page, it.card_file)

    def _keep(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """Write down how the training of a run ended."""
        if outcome.failure is None:
            self.measure(trial)
            return
        self.progress.say(f"{name}, seed {trial.seed} failed: {outcome.failure}")
        self._replace(trial, failure=outcome.failure, final=outcome.permanent)

    def _right(self, run: Run, part: str) -> "tuple[BoolArray | Scored, Groups]":
        """Return whether a run classifies each image of a part correctly, and their groups.

        Both sorted by image name. Where an image may have any number of classes, its mean average
        precision.
        """
        from convscope.evaluation.predictions import read_predictions

        look = None
        if part == "test":
            # The same name after a stop, another one with other seeds.
            trials = [trial for arm in self.comparison.arms for trial in arm.trials]
            first = next(trial for trial in trials if trial.failure is None)
            study = look_of(self.comparison.path, Run(self._path(first)))
            look = f"{study} {_runs_told_apart(len(trials), self.comparison.seeds)}"
        evaluate(
            run,
            test=part == "test",
            by="compare",
            look=look,
            data=self.data,
            labels=self.labels,
            data_dir=self.data_dir,
            progress=self.progress,
        )
        if look is not None:
            log_seen_again(run, by="compare", look=look, progress=self.progress)
        said = read_predictions(run.predictions_file)[0][part]
        if said.multi_label:
            order = np.argsort(said.ids, kind="stable")
            groups = said.groups_by_id
            return Scored.of(said.probs[order], said.labels[order], groups), groups
        return said.right_by_id, said.groups_by_id

    def _path(self, trial: Trial) -> Path:
        return self.comparison.path / trial.run

    def _arm(self, name: str) -> Arm:
        return next(arm for arm in self.comparison.arms if arm.name == name)

    def _trial(self, name: str, seed: int) -> Trial:
        return next(trial for trial in self._arm(name).trials if trial.seed == seed)

    def _put(self, changed: Arm) -> None:
        arms = tuple(changed if arm.name == changed.name else arm for arm in self.comparison.arms)
        self.comparison = dataclasses.replace(self.comparison, arms=arms)

    def _replace(self, trial: Trial, **changes: Any) -> None:
        """Update what is known of a trial, identified by its folder."""
        arm = next(a for a in self.comparison.arms if any(t.run == trial.run for t in a.trials))
        trials = tuple(
            dataclasses.replace(t, **changes) if t.run == trial.run else t for t in arm.trials
        )
        self._put(dataclasses.replace(arm, trials=trials))


def _runs_told_apart(n_runs: int, seeds: Sequence[int]) -> str:
    """Return which runs a look is at, of a study whose first run is known.

    Examples:
        >>> _runs_told_apart(4, (83, 84)), _runs_told_apart(4, (83, 91))
        ('4 runs', '4 runs of seeds 83,91')
    """
    in_a_row = seeds[-1] - seeds[0] < len(seeds)
    return f"{n_runs} runs" + ("" if in_a_row else f" of seeds {','.join(map(str, seeds))}")


def _take_up(
    comparison: Comparison, asked: dict[str, Any]
) -> tuple[Comparison, dict[str, list[Look]]]:
    """Return the comparison with what is known of its runs, and the earlier looks at each part."""
    state = COMPARISON.read(comparison.path)
    if state is None:
        return comparison, {}
    _require_kind(comparison.path, state, "ways")
    try:
        _require_same_arms(comparison.path, state["asked"], asked)
        known = {trial["run"]: Trial(**trial) for arm in state["arms"] for trial in arm["trials"]}
        # Older versions compared on test images only.
        looks = {"test": state["looks"], "val": state.get("val_looks", [])}
        looks = {part: [look_read(each) for each in found] for part, found in looks.items()}
    except (TypeError, KeyError, ValueError, AttributeError):
        raise COMPARISON.damaged(comparison.path) from None
    arms = tuple(
        dataclasses.replace(
            arm, trials=tuple(_still_there(comparison, known, trial) for trial in arm.trials)
        )
        for arm in comparison.arms
    )
    return dataclasses.replace(comparison, arms=arms), looks


_KINDS = {"runs": "finished runs", "ways": "runs that it trains itself"}
"""What a comparison is of, by the entry that names it among the settings of its state."""


def _kind_of(state: Mapping[str, Any] | None) -> str | None:
    """Return a key of `_KINDS`; None if there is no state, or a damaged one."""
    asked = (state or {}).get("asked")
    return next((k for k in _KINDS if isinstance(asked, Mapping) and k in asked), None)


def _require_kind(path: Path, state: Mapping[str, Any] | None, kind: str) -> None:
    before = _kind_of(state)
    if before not in (None, kind):
        raise RunError(f"{path} holds a comparison of {_KINDS[before]}; choose another --out")


def usual_place(usual: Path) -> Path:
    """Return the usual folder, or with a number if that holds a comparison of finished runs."""
    return next(p for p in numbered(usual) if _kind_of(COMPARISON.read(p)) != "runs")


def _require_same_arms(path: Path, before: dict[str, Any], asked: dict[str, Any]) -> None:
    advice = "choose another --out"
    if before["content"] != asked["content"]:
        raise RunError(f"{path} holds a comparison on other images; {advice}")
    theirs, ours = before["ways"], asked["ways"]
    if theirs.keys() != ours.keys():
        raise RunError(
            f"{path} holds a comparison of {', '.join(theirs)}, not of {', '.join(ours)}; {advice}"
        )
    for name in ours:
        then_and_now = (resolve(Recipe(), ways[name]) for ways in (theirs, ours))
        for key, (then, now) in differences_in_kind(*then_and_now).items():
            raise RunError(
                f"{path} holds a comparison in which {name} has {key} {then!r}, not {now!r}; "
                f"repeat its settings to continue it, or {advice}"
            )


def _still_there(comparison: Comparison, known: Mapping[str, Trial], trial: Trial) -> Trial:
    """Return what is known of a trial, unless its folder is gone."""
    before = known.get(trial.run)
    if before is None or not (before.failure or (comparison.path / trial.run).is_dir()):
        return trial
    return before


def _require_same_images(runs: Sequence[Run], part: str) -> int:
    """Reject runs that were evaluated on other images than the first; return their number."""
    # The pixels of one photo at two sizes have different hashes, so there the names decide.
    sizes = {(str(run.state.get("image_shape")), run_config(run).fit) for run in runs}
    places = {run_config(run).data_path for run in runs}
    by_name = len(sizes) > 1 and len(places) == 1

    def judged(run: Run) -> dict[tuple[str, ...], str]:
        found = images_of_part(run.split_file, part)
        return {image[:2] if by_name else image: group for image, group in found.items()}

    first = judged(runs[0])
    for run in runs[1:]:
        own = judged(run)
        if own.keys() != first.keys():
            raise DataError(
                f"{run.path} and {runs[0].path} were not evaluated on the same {PART_NAMES[part]} "
                "images; their accuracies cannot be compared"
            )
        if own != first:
            raise DataError(
                f"{run.path} and {runs[0].path} have their images in other groups, so what the "
                "images make of the difference is not known; train one of them again with the "
                "other's groups"
            )
    return len(first)
