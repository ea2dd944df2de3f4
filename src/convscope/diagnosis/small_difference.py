"""A lead over another run that chance may have made."""

import contextlib

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.errors import ConvscopeError
from convscope.evaluation.predictions import read_predictions
from convscope.evaluation.statistics import difference
from convscope.recipe import Recipe, RunConfig, differences, read_config, resolve
from convscope.run import Run
from convscope.types import BoolArray

_MOST_OTHERS = 8


@TRAPS.register("small-difference")
def small_difference(case: Case) -> Finding | None:
    """A difference smaller than the noise, to the nearest other run beside this one."""
    run, test = case.trained, case.test
    right = test.right_by_id
    nearest: tuple[float, Run, BoolArray] | None = None
    for other in Run.find_all(run.path.resolve().parent)[-_MOST_OTHERS:]:
        with contextlib.suppress(ConvscopeError):
            if other.path.resolve() == run.path.resolve() or not _is_another_way(
                case.config, other
            ):
                continue
            theirs = read_predictions(other.predictions_file)[0].get("test")
            if theirs is None or set(theirs.ids) != set(test.ids):
                continue
            other_right = theirs.right_by_id
            apart = abs(float(right.mean() - other_right.mean()))
            if nearest is None or apart < nearest[0]:
                nearest = (apart, other, other_right)
    if nearest is None:
        return None
    _, other, other_right = nearest
    found = difference(other_right[None], right[None], paired=False)
    if found.shown or found.identical:
        return None
    return Finding(
        symptom=f"That it is {'better' if found.mean >= 0 else 'worse'} than {other.name} is not "
        "shown.",
        evidence=f"{right.mean():.1%} against {other_right.mean():.1%} of {len(right):,} test "
        f"images: a difference of {100 * abs(found.mean):.1f} points, where the images alone make "
        f"{50 * (found.high - found.low):.1f}, and another seed adds to that.",
        remedies=(Remedy("compare over seeds", f"convscope compare {run.path} {other.path}"),),
        sure="note",
    )


def _is_another_way(config: RunConfig, other: Run) -> bool:
    theirs = resolve(Recipe(), read_config(other.config_file))
    changed = differences(config, theirs).keys() - {"seed"}
    return bool(changed) and "data" not in changed and "data_path" not in changed
