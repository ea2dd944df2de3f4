"""Lanes that work by turns: each a process of its own, in random order, ratios within a round.

A lane is a process that does its work once when it is told to and waits otherwise, so only one
works at a time. The first round, which compiles, is not counted in the ratios. Apart from them, for
each lane: the seconds until its packages are imported, from there until data and network are there,
and by how many CPU seconds the first round takes longer than the others.

Two ratios are given. That of CPU seconds (user and system, all threads) says how much work it is.
That of wall seconds is what one waits, but a virtual machine may get its processors only part of
the time: compare it with what a second lane of the same work gets. A round in which other processes
took more than 5 % of the processors counts for CPU seconds only.

Rounds of the same processes agree better than they should: where a process's memory happens to lie
makes all its rounds quicker or slower by some per cent. So all of it is done again in `--runs` new
processes of each lane. A run's ratio is the median of its rounds; given are the geometric mean of
the runs and its 95 % interval (Student's t of the logarithms). Of a single run, the interval is
that of its rounds (bootstrap), which says nothing about another run.

`--out NAME.json` writes the numbers, and the ratios as a picture `NAME.png`.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import random
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class Turn:
    """What a lane tells how far it is.

    Args:
        pipe: To the process that gives the turns.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def imported(self) -> None:
        """Tell that all packages are imported; to be called once, before data are loaded."""
        self._pipe.send("imported")

    def wait(self) -> None:
        """Tell that the work is done (at first: that all is loaded), and wait for the next turn."""
        self._pipe.send("done")
        while self._pipe.recv() == "memory":
            self._pipe.send(_peak_memory_mb())


Lane = Callable[[Turn, int], None]
"""Gets its turns and how many times it will be told to work."""

DISTURBED = 0.05


@dataclass
class Failed:
    """What a lane says when it cannot go on: `why`, as Python prints it."""

    why: str


@dataclass
class Measured:
    """What one run of the lanes took.

    Attributes:
        importing: Seconds until a lane's packages are imported.
        loading: Seconds from there until its data and network are there.
        first: Wall and CPU seconds of the first round, by lane.
        rounds: The same of each round that counts.
        quiet: For each of these rounds, whether other processes left the processors alone.
        memory: Each lane's peak memory, in MB.
    """

    importing: dict[str, float]
    loading: dict[str, float]
    first: dict[str, tuple[float, float]]
    rounds: list[dict[str, tuple[float, float]]]
    quiet: list[bool]
    memory: dict[str, float]

    def compiling(self, name: str) -> float:
        """Return by how many CPU seconds the first round took longer than the others."""
        return self.first[name][1] - statistics.median(took[name][1] for took in self.rounds)

    def ratios(self, name: str, base: str) -> tuple[list[float], list[float]]:
        """Return how many times as fast as another lane, in each round: by CPU, and by wall."""
        quiet = [took for took, ok in zip(self.rounds, self.quiet, strict=True) if ok]
        return (
            [took[base][1] / took[name][1] for took in self.rounds],
            [took[base][0] / took[name][0] for took in quiet],
        )


def compare(doc: str, lanes: Mapping[str, Lane], *, rounds: int, runs: int, work: str) -> None:
    """Run the lanes, print what each took and the ratios to the first, write them as JSON.

    Args:
        doc: For `--help`.
        lanes: Functions of a module, by name.
        rounds: How many in a run, if the user does not say.
        runs: How many runs, if the user does not say.
        work: What a lane does each time ("epoch").
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help=f"counted: {work} of each lane")
    parser.add_argument("--runs", type=int, default=runs, help="each in new processes")
    parser.add_argument("--lanes", nargs="+", default=list(lanes), choices=list(lanes))
    parser.add_argument("--seed", type=int, default=0, help="of the order of the lanes")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    options = parser.parse_args()
    if min(options.rounds, options.runs) < 1:
        parser.error("--rounds and --runs are at least 1")
    chosen = {name: lanes[name] for name in options.lanes}
    chance = random.Random(options.seed)
    with contextlib.suppress(KeyboardInterrupt):
        measured: list[Measured] = []
        print(f"seconds of each {work}, wall (CPU)")
        for number in range(options.runs):
            print(f"run {number + 1:<3}" + "".join(f"{name:>18}" for name in chosen))
            measured.append(_run(chosen, options.rounds, chance))
        _report(measured, list(chosen), work, options.out)


def _run(lanes: Mapping[str, Lane], n_rounds: int, chance: random.Random) -> Measured:
    """Let new processes of the lanes work by turns, and end them."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes: dict[str, Any] = {}
    measured = Measured({}, {}, {}, [], [], {})
    order = list(lanes)
    chance.shuffle(order)
    for name in order:
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_obey, args=(lanes[name], theirs, n_rounds + 1), daemon=True
        )
        began = time.perf_counter()
        process.start()
        theirs.close()  # or its end would go unnoticed
        pipes[name], processes[name] = ours, process
        _hear(ours, name)
        measured.importing[name] = time.perf_counter() - began
        _hear(ours, name)  # loaded; nothing runs until it is told to
        measured.loading[name] = time.perf_counter() - began - measured.importing[name]
    for number in range(n_rounds + 1):
        chance.shuffle(order)
        took: dict[str, tuple[float, float]] = {}
        others = 0.0
        for name in order:
            pid = processes[name].pid
            before, start = _cpu_seconds(pid), time.perf_counter()
            pipes[name].send("work")
            _hear(pipes[name], name)
            wall = time.perf_counter() - start
            busy, own = (b - a for a, b in zip(before, _cpu_seconds(pid), strict=True))
            others = max(others, (busy - own) / (wall * (os.cpu_count() or 1)))
            took[name] = (wall, own)
        columns = "".join(f"{took[n][0]:10.2f} {f'({took[n][1]:.2f})':>7}" for n in lanes)
        print(f"{number or 'first'!s:<7}{columns}   others took {others:.0%}", flush=True)
        if number:
            measured.rounds.append(took)
            measured.quiet.append(others <= DISTURBED)
        else:
            measured.first = took
    for name, pipe in pipes.items():
        pipe.send("memory")
        measured.memory[name] = _hear(pipe, name)
        processes[name].kill()
        processes[name].join()
    return measured


def _hear(pipe: Connection, name: str) -> Any:
    """Return what a lane says next; end everything if it failed."""
    try:
        word = pipe.recv()
    except EOFError:
        sys.exit(f"The lane {name} was killed.")
    if isinstance(word, Failed):
        sys.exit(f"The lane {name} failed; see --lanes to omit it.\n{word.why}")
    return word


def _report(measured: list[Measured], lanes: list[str], work: str, out: Path | None) -> None:
    base = lanes[0]
    of = f"mean of {len(measured)} runs" if len(measured) > 1 else "median of the rounds of one run"
    print(f"\ntimes as fast as {base}: {of} (95 % interval)")
    print(
        f"{'lane':<16}{'by CPU seconds':>22}{'by wall seconds':>24}{'best':>10}  {'peak MB':>9}"
        f"{'import':>10}{'load':>10}{'compile':>10}"
    )
    results = {}
    for name in lanes:
        by_cpu, by_wall = (
            _describe([kind for kind in kinds if kind])
            for kinds in zip(*(run.ratios(name, base) for run in measured), strict=True)
        )
        best = min(took[name][0] for run in measured for took in run.rounds)
        importing, loading, compiling, memory = (
            statistics.median(values)
            for values in (
                [run.importing[name] for run in measured],
                [run.loading[name] for run in measured],
                [run.compiling(name) for run in measured],
                [run.memory[name] for run in measured],
            )
        )
        results[name] = {
            "import_seconds": importing,
            "load_seconds": loading,
            "compile_cpu_seconds": compiling,
            "wall_seconds": [[took[name][0] for took in run.rounds] for run in measured],
            "cpu_seconds": [[took[name][1] for took in run.rounds] for run in measured],
            "speed_by_cpu": by_cpu,
            "speed_by_wall": by_wall,
            "best_wall_seconds": best,
            "peak_memory_mb": memory,
        }
        print(
            f"{name:<16}{_spell(by_cpu):>22}{_spell(by_wall):>24}{best:10.2f} s{memory:9.0f}"
            f"{importing:8.2f} s{loading:8.2f} s{compiling:8.2f} s"
        )
    if len(measured) == 1:
        print("Another run can differ by more than these intervals: see --runs.")
    if out:
        quiet = [run.quiet for run in measured]
        content = {"base": base, "work": work, "quiet": quiet, "lanes": results}
        out.write_text(json.dumps(content, indent=2) + "\n")
        draw_ratios(content, out.with_suffix(".png"))


def draw_ratios(content: dict[str, Any], path: Path) -> None:
    """Draw how fast each lane is beside the first one, with 95 % intervals."""
    from convscope.report.figures import PALETTE, new_figure, save_figure

    lanes = content["lanes"]
    figure = new_figure(8, 1.4 + 0.5 * len(lanes))
    axes = figure.subplots()
    for kind, colour, up in (("cpu", PALETTE[0], -0.12), ("wall", PALETTE[1], 0.12)):
        known = [(row, each[f"speed_by_{kind}"]) for row, each in enumerate(lanes.values())]
        known = [(row, ratio) for row, ratio in known if ratio is not None]
        if not known:
            continue
        middle = [ratio["middle"] for _, ratio in known]
        axes.errorbar(
            middle,
            [row + up for row, _ in known],
            xerr=[
                [ratio["middle"] - ratio["low"] for _, ratio in known],
                [ratio["high"] - ratio["middle"] for _, ratio in known],
            ],
            fmt="o",
            color=colour,
            capsize=3,
            label=f"by {'CPU' if kind == 'cpu' else kind} seconds",
        )
    axes.axvline(1, color="0.7", zorder=0)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"times as fast as {content['base']}, {content['work']} each (95 % interval)")
    axes.legend(loc="best", frameon=False)
    save_figure(figure, path)


def _describe(runs: list[list[float]]) -> dict[str, float] | None:
    """Return the mean ratio of runs, or the median of the rounds of the only one, and its interval.

    Args:
        runs: The ratio of each round of each run; no run is empty.
    """
    if not runs:
        return None
    if len(runs) == 1:
        n, chance = 10_000, random.Random(0)
        medians = sorted(
            statistics.median(chance.choices(runs[0], k=len(runs[0]))) for _ in range(n)
        )
        low, high = medians[int(0.025 * n)], medians[int(0.975 * n)]
        return {"middle": statistics.median(runs[0]), "low": low, "high": high}

    from scipy.stats import t

    each = [math.log(statistics.median(run)) for run in runs]
    middle = statistics.mean(each)
    reach = float(t.ppf(0.975, len(each) - 1)) * statistics.stdev(each) / math.sqrt(len(each))
    return {
        "middle": math.exp(middle),
        "low": math.exp(middle - reach),
        "high": math.exp(middle + reach),
    }


def _spell(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "machine too busy"
    return f"{ratio['middle']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the seconds that all processors were busy or stolen, and those of one process."""
    tick = os.sysconf("SC_CLK_TCK")
    try:
        machine = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        process = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not Linux: no round is void
        return 0.0, 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, machine)
    busy = user + nice + system + irq + softirq + steal
    return busy / tick, (int(process[11]) + int(process[12])) / tick


def _obey(lane: Lane, pipe: Connection, times: int) -> None:
    # What a lane prints is thrown away, but it is printed, as it would be for a user.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        lane(Turn(pipe), times)
    except Exception:
        pipe.send(Failed(traceback.format_exc()))


def _peak_memory_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
