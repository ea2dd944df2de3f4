"""A lead over another way of training that chance may have made."""

import contextlib
from dataclasses import dataclass, field

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.errors import ConvscopeError
from convscope.evaluation.predictions import read_predictions
from convscope.evaluation.statistics import difference, rows_by_seed
from convscope.recipe import Recipe, RunConfig, differences, read_config, resolve
from convscope.run import Run
from convscope.types import BoolArray
from convscope.wording import command_line

_MOST_OTHERS = 20

_SEEDS_MAY_MAKE = 0.05
"""A difference in accuracy that two seeds may well make: two standard errors, if accuracies of one
way of training spread by 0.018 from seed to seed. Many spread less; single runs do not tell."""


@dataclass
class _Way:
    """Runs that differ in nothing but their seed."""

    config: RunConfig
    runs: dict[int, Run] = field(default_factory=dict)
    right: dict[int, BoolArray] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        return float(np.mean([row.mean() for row in self.right.values()]))

    def add(self, run: Run, config: RunConfig, right: BoolArray) -> None:
        """Take a run, unless there is one of its seed."""
        self.runs.setdefault(config.seed, run)
        self.right.setdefault(config.seed, right)


@TRAPS.register("small-difference")
def small_difference(case: Case) -> Finding | None:
    """A difference smaller than the noise, to the nearest other run beside this one."""
    own, others = _ways(case)
    if not others:
        return None
    other = min(others, key=lambda way: abs(way.accuracy - own.accuracy))
    rows_a, rows_b, paired = rows_by_seed(other.right, own.right)
    found = difference(rows_a, rows_b, paired=paired)
    # A run each says nothing of the seeds: then it takes more than the images to be quiet.
    shown = found.shown and (found.of_ways or abs(found.mean) > _SEEDS_MAY_MAKE)
    if shown or found.identical:
        return None
    counts = (
        f"on average of {len(rows_b)} and {len(rows_a)} seeds" if found.of_ways else "a run each"
    )
    noise = f"{50 * (found.high - found.low):.1f}"
    chance = f"seeds and images make {noise}"
    if not found.of_ways:
        chance = (
            f"the images alone make {noise}, and other seeds may make {100 * _SEEDS_MAY_MAKE:.0f}"
        )
    first = next(iter(other.runs.values()))
    return Finding(
        symptom=f"Not shown to be {'better' if found.mean >= 0 else 'worse'} than {first.name}.",
        evidence=f"{rows_b.mean():.1%} against {rows_a.mean():.1%} of {rows_a.shape[1]:,} test "
        f"images, {counts}: a difference of {100 * abs(found.mean):.1f} points, where {chance}.",
        remedies=_remedies(own, other),
        sure="note",
    )


def _ways(case: Case) -> tuple[_Way, list[_Way]]:
    """Return the way that the run was trained in, and the others that were judged alike."""
    run, test = case.trained, case.test
    own = _Way(case.config)
    own.add(run, case.config, test.right_by_id)
    others: list[_Way] = []
    for beside in Run.find_all(run.path.resolve().parent)[-_MOST_OTHERS:]:
        with contextlib.suppress(ConvscopeError):
            config = resolve(Recipe(), read_config(beside.config_file))
            if differences(case.config, config).keys() & {"data", "data_path"}:
                continue
            theirs = read_predictions(beside.predictions_file)[0].get("test")
            if theirs is None or set(theirs.ids) != set(test.ids):
                continue
            way = next((w for w in (own, *others) if _same_way(w.config, config)), None)
            if way is None:
                others.append(way := _Way(config))
            way.add(beside, config, theirs.right_by_id)
    return own, others


def _same_way(one: RunConfig, other: RunConfig) -> bool:
    return differences(one, other).keys() <= {"seed"}


def _remedies(own: _Way, other: _Way) -> tuple[Remedy, ...]:
    """Return the commands that train another seed of both, and compare all runs."""
    seed = 1 + max(*own.runs, *other.runs)
    training = []
    for way, whose in ((own, "this"), (other, "the other")):
        config = next(iter(way.runs.values())).config_file
        command = command_line("train", "--config", config, "--seed", seed)
        training.append(Remedy(f"train another seed of {whose}", command))
    paths = [run.path for way in (own, other) for run in way.runs.values()]
    compared = Remedy("compare over seeds", command_line("compare", *paths))
    several = len(own.runs) > 1 or len(other.runs) > 1
    return (compared, *training) if several else (*training, compared)
