"""Seconds that each side of the executor adds to a trial, for scheduling alone.

The trials are finished runs, so nothing is trained and no process is started: what remains is what
the executor itself costs. The start of the fresh process that a real training has is measured
apart, up to the point where it knows what to train.

    ray start --head
    python benchmarks/scheduling.py --ray auto --out runs/scheduling.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import convscope
from convscope.machine import cpu_name
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.studies.executor import Executor, Job, LocalExecutor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ray", help="Address of a Ray cluster; omitted: this machine alone.")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--out", type=Path, help="File for the figures, JSON.")
    args = parser.parse_args()
    sides: dict[str, Executor] = {"local": LocalExecutor()}
    if args.ray is not None:
        sides["ray"] = convscope.on_ray(args.ray, threads=1)
    found = {"cpu": cpu_name(), "trials": args.trials, "process_start_s": process_start_s()}
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for number in range(args.trials):
            run = Run(Path(folder) / "runs" / str(number))
            run.path.mkdir(parents=True)
            run.record(status="finished")
            jobs.append(Job(RunConfig(), run.path))
        for name, side in sides.items():
            list(side.outcomes(jobs[:2], Progress()))  # the first task starts a worker
            began = time.monotonic()
            assert all(outcome.failure is None for _, outcome in side.outcomes(jobs, Progress()))
            found[f"{name}_s_per_trial"] = (time.monotonic() - began) / args.trials
    print(json.dumps(found, indent=2))
    if args.out is not None:
        args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def process_start_s() -> float:
    """Return the seconds until a fresh process has imported what it trains with, best of three."""
    command = [sys.executable, "-c", "import convscope.studies.executor, keras"]
    times = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.monotonic() - began)
    return min(times)


if __name__ == "__main__":
    main()
