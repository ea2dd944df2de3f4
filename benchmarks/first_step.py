"""Seconds from starting the command to the end of its first training step.

    python benchmarks/first_step.py --rounds 5
    python benchmarks/first_step.py --source ../older/src src

Each time a new process imports all that `convscope train` imports, loads CIFAR-10 from the cache,
divides it, writes the beginning of a run, builds the tutorial's CNN and takes one step, which
compiles. It is stopped then. `--source` compares versions, by turns. The first round fills the
caches and is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", nargs="+", type=Path, default=[None], metavar="FOLDER")
    parser.add_argument("--until-step", metavar="RUN", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.until_step:
        until_step(options.until_step)
    took: dict[Path | None, list[float]] = {source: [] for source in options.source}
    for round_ in range(options.rounds + 1):
        for source, seconds in took.items():
            now = seconds_of(source)
            if round_:
                seconds.append(now)
    for source, seconds in took.items():
        each = ", ".join(f"{one:.2f}" for one in seconds)
        print(f"{source or 'convscope'}: {statistics.median(seconds):.2f} s (each: {each})")


def seconds_of(source: Path | None) -> float:
    """Return the seconds of a new process, of the version in a folder if one is named."""
    path = {} if source is None else {"PYTHONPATH": str(source.absolute())}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--until-step", f"{folder}/run"]
        began = time.perf_counter()
        subprocess.run(command, check=True, env={**os.environ, **path}, stderr=subprocess.DEVNULL)
        return time.perf_counter() - began


def until_step(run: str) -> None:
    """Train the tutorial's CNN until its first step has ended, then end the process."""
    import convscope
    import convscope.cli  # what the command imports
    from convscope.backend import only_our_own_use
    from convscope.progress import Advance, Progress

    class UntilStep(Progress):
        @contextmanager
        def task(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
            def step(n: int, note: str = "") -> None:
                if label.startswith("epoch 1/"):
                    os._exit(0)

            yield step

    with only_our_own_use():
        convscope.train(out=run, progress=UntilStep())
    raise SystemExit("there was no step")


if __name__ == "__main__":
    main()
