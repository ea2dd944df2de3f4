"""Training in a process of its own that dies where a test chooses, and what must come of it."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convscope.run import Run
from convscope.training.results import read_results

# What a patch may use besides the names of convscope.
_CHILD = """
import os, signal
from pathlib import Path
import convscope
from convscope.progress import Progress
from convscope.training import precision
precision.measure_speedup = lambda step: 1.0  # as in the tests' own process
def die(): os.kill(os.getpid(), signal.SIGKILL)
{patch}
convscope.{verb}(out=Path({out!r}), progress=Progress(), **{options!r})
"""


def start(
    out: Path,
    options: Mapping[str, Any],
    patch: str = "",
    *,
    verb: str = "train",
    **variables: str,
) -> subprocess.Popen:
    """Start a process that trains.

    Args:
        out: The folder of the run.
        options: Of the verb; they are written into the process's code.
        patch: Code that comes first, and puts a call of `die()` where the process is to be killed.
        verb: Of `convscope`.
        variables: Of its environment, besides those of this process.
    """
    code = _CHILD.format(
        patch=textwrap.dedent(patch), verb=verb, out=str(out), options=dict(options)
    )
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **variables})


def train_until_killed(out: Path, options: Mapping[str, Any], patch: str, **more: str) -> None:
    """Do as `start` does, wait, and make sure that the process died of `die()`."""
    assert start(out, options, patch, **more).wait() == -signal.SIGKILL


def at_rename(name: str, *, nth: int = 1, when: str, below: str = "") -> str:
    """Return the patch that dies where a file is written, at the rename that makes it count.

    Args:
        name: Of the file.
        nth: Which time that it is written, from 1.
        when: "before" or "after" the rename.
        below: Only files whose path has this in it are counted.
    """
    return f"""
import convscope.storage as storage
replace, seen = os.replace, []
def dying(source, target):
    counts = Path(target).name == {name!r} and {below!r} in str(target)
    if counts:
        seen.append(target)
    now = counts and len(seen) == {nth}
    if now and {when!r} == "before": die()
    replace(source, target)
    if now and {when!r} == "after": die()
storage.os.replace = dying
"""


def weights(run: Run, which: str = "last") -> list[np.ndarray]:
    return keras.saving.load_model(run.weights(which)).get_weights()


def assert_same(run: Run, other: Run) -> None:
    """Make sure that two runs ended alike: weights to the bit, each row of results, metrics."""
    for which in ("last", "best"):
        # Files that are alike need not be loaded, which takes most of the time.
        if run.weights_sha256(which) == other.weights_sha256(which):
            continue
        for mine, theirs in zip(weights(run, which), weights(other, which), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in rows]
        for rows in (read_results(run.results_file), read_results(other.results_file))
    ]
    assert timeless[0] == timeless[1]
    assert run.metrics == other.metrics
