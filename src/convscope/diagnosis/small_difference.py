"""A lead over another training configuration that may be due to chance."""

import contextlib
from dataclasses import dataclass, field

import numpy as np

from convscope.datasets.division.splits import images_of_part
from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.errors import ConvscopeError
from convscope.evaluation.grouping import images_of
from convscope.evaluation.predictions import read_predictions
from convscope.evaluation.statistics import difference, rows_by_seed
from convscope.recipe import RunConfig, differences, is_one_configuration, read_run_config
from convscope.run import Run
from convscope.types import BoolArray
from convscope.wording import command_line

_MOST_OTHERS = 20

_SEEDS_MAY_MAKE = 0.05
"""Difference in accuracy that two seeds may well produce: two standard errors, if accuracies of one
configuration vary by 0.018 from seed to seed. Many vary less; single runs cannot show it."""


@dataclass
class _Arm:
    """Runs of one training configuration, by seed."""

    config: RunConfig
    runs: dict[int, Run] = field(default_factory=dict)
    right: dict[int, BoolArray] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        return float(np.mean([row.mean() for row in self.right.values()]))

    def add(self, run: Run, config: RunConfig, right: BoolArray) -> None:
        """Add a run, unless there is one of its seed."""
        self.runs.setdefault(config.seed, run)
        self.right.setdefault(config.seed, right)


@TRAPS.register("small-difference")
def small_difference(case: Case) -> Finding | None:
    """A difference within the noise, to the nearest other run next to this one."""
    case.require_one_class()
    own, others = _arms(case)
    if not others:
        return None
    other = min(others, key=lambda arm: abs(arm.accuracy - own.accuracy))
    rows_a, rows_b, paired = rows_by_seed(other.right, own.right)
    found = difference(rows_a, rows_b, paired=paired, groups=case.test.groups_by_id)
    # One run each cannot show the spread over seeds: only a larger difference counts as shown.
    shown = found.shown and (found.of_ways or abs(found.mean) > _SEEDS_MAY_MAKE)
    if shown or found.identical:
        return None
    counts = (
        f"means over {len(rows_b)} and {len(rows_a)} seeds" if found.of_ways else "one run each"
    )
    noise = f"{50 * (found.high - found.low):.1f}"
    chance = f"chance (seeds and images) accounts for up to {noise}"
    if not found.of_ways:
        seeds = f"{100 * _SEEDS_MAY_MAKE:.0f}"
        chance = (
            f"the choice of images alone accounts for up to {noise}, and another seed for up to "
            f"{seeds}"
        )
    first = next(iter(other.runs.values()))
    return Finding(
        symptom=f"Not shown to be {'better' if found.mean >= 0 else 'worse'} than {first.name}.",
        evidence=f"{rows_b.mean():.1%} against {rows_a.mean():.1%} of {len(case.test.ids):,} test "
        f"images, {counts}: a difference of {100 * abs(found.mean):.1f} points, where {chance}.",
        remedies=_remedies(own, other, case.moved_words),
        sure="note",
    )


def _arms(case: Case) -> tuple[_Arm, list[_Arm]]:
    """Return the configuration of the run, and others evaluated on the same images."""
    run, test = case.trained, case.test
    own = _Arm(case.config)
    own.add(run, case.config, test.right_by_id)
    others: list[_Arm] = []
    for beside in Run.find_all(run.path.resolve().parent)[-_MOST_OTHERS:]:
        with contextlib.suppress(ConvscopeError):
            config = read_run_config(beside.config_file)
            moved = differences(case.config, config).keys() & {"data", "data_path", "labels"}
            if moved and (
                images_of_part(beside.split_file, "test") != images_of_part(run.split_file, "test")
            ):
                continue
            theirs = read_predictions(beside.predictions_file)[0].get("test")
            if theirs is None or images_of(theirs) != images_of(test):
                continue
            arm = next((w for w in (own, *others) if is_one_configuration(w.config, config)), None)
            if arm is None:
                others.append(arm := _Arm(config))
            arm.add(beside, config, theirs.right_by_id)
    return own, others


def _remedies(own: _Arm, other: _Arm, moved: tuple[str, ...]) -> tuple[Remedy, ...]:
    """Return the commands that train another seed of both, and compare all runs."""
    seed = 1 + max(*own.runs, *other.runs)
    training = []
    for arm, whose in ((own, "this"), (other, "the other")):
        config = next(iter(arm.runs.values())).config_file
        command = command_line("train", "--config", config, "--seed", seed, *moved)
        training.append(Remedy(f"train another seed of {whose}", command))
    paths = [run.path for arm in (own, other) for run in arm.runs.values()]
    compared = Remedy("compare over seeds", command_line("compare", *paths, *moved))
    several = len(own.runs) > 1 or len(other.runs) > 1
    return (compared, *training) if several else (*training, compared)
