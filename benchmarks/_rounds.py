"""Lanes that work by turns: each a process of its own, in random order, ratios within a round.

A lane is a process that does its work once when it is told to and waits otherwise, so only one
works at a time. The first round, which compiles, is not counted in the ratios. Apart from them, for
each lane: the seconds until its packages are imported, from there until data and network are there,
and by how many CPU seconds the first round takes longer than the others.

Two ratios are given, as the median over rounds with a 95 % bootstrap interval. That of CPU seconds
(user and system, all threads) says how much work it is. That of wall seconds is what one waits,
but a virtual machine may get its processors only part of the time: compare it with what a second
lane of the same work gets. A round in which other processes took more than 5 % of the processors
counts for CPU seconds only.

`--out NAME.json` writes the numbers, and the ratios as a picture `NAME.png`.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
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


def compare(doc: str, lanes: Mapping[str, Lane], *, rounds: int, work: str) -> None:
    """Run the lanes, print what each took and the ratios to the first, write them as JSON.

    Args:
        doc: For `--help`.
        lanes: Functions of a module, by name.
        rounds: How many, if the user does not say.
        work: What a lane does each time ("epoch").
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help=f"counted: {work} of each lane")
    parser.add_argument("--lanes", nargs="+", default=list(lanes), choices=list(lanes))
    parser.add_argument("--seed", type=int, default=0, help="of the order of the lanes")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        _compare({name: lanes[name] for name in options.lanes}, options, work)


def _compare(lanes: Mapping[str, Lane], options: argparse.Namespace, work: str) -> None:
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    pids: dict[str, int] = {}
    importing: dict[str, float] = {}
    loading: dict[str, float] = {}
    for name, lane in lanes.items():
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_obey, args=(lane, theirs, options.rounds + 1), daemon=True
        )
        began = time.perf_counter()
        process.start()
        pipes[name], pids[name] = ours, process.pid or 0
        ours.recv()
        importing[name] = time.perf_counter() - began
        ours.recv()  # loaded; nothing runs until it is told to
        loading[name] = time.perf_counter() - began - importing[name]
    print(f"seconds of each {work}, wall (CPU)")
    print("round  " + "".join(f"{name:>18}" for name in lanes))
    order, chance = list(lanes), random.Random(options.seed)
    rounds: list[dict[str, tuple[float, float]]] = []
    first: dict[str, tuple[float, float]] = {}
    quiet: list[bool] = []
    for number in range(options.rounds + 1):
        chance.shuffle(order)
        took: dict[str, tuple[float, float]] = {}
        others = 0.0
        for name in order:
            before, start = _cpu_seconds(pids[name]), time.perf_counter()
            pipes[name].send("work")
            pipes[name].recv()
            wall = time.perf_counter() - start
            busy, own = (b - a for a, b in zip(before, _cpu_seconds(pids[name]), strict=True))
            others = max(others, (busy - own) / (wall * (os.cpu_count() or 1)))
            took[name] = (wall, own)
        columns = "".join(f"{took[n][0]:10.2f} {f'({took[n][1]:.2f})':>7}" for n in lanes)
        print(f"{number or 'first'!s:<7}{columns}   others took {others:.0%}", flush=True)
        if number:
            rounds.append(took)
            quiet.append(others <= DISTURBED)
        else:
            first = took
    memory = {}
    for name, pipe in pipes.items():
        pipe.send("memory")
        memory[name] = pipe.recv()

    base = next(iter(lanes))
    results = {}
    print(f"\ntimes as fast as {base}: median of {len(rounds)} rounds (95 % interval)")
    print(
        f"{'lane':<16}{'by CPU seconds':>22}{'by wall seconds':>24}{'best':>10}  {'peak MB':>9}"
        f"{'import':>10}{'load':>10}{'compile':>10}"
    )
    for name in lanes:
        cpu = [took[base][1] / took[name][1] for took in rounds]
        wall_ratios = [
            took[base][0] / took[name][0] for took, ok in zip(rounds, quiet, strict=True) if ok
        ]
        best = min(took[name][0] for took in rounds)
        compiling = first[name][1] - statistics.median(took[name][1] for took in rounds)
        results[name] = {
            "import_seconds": importing[name],
            "load_seconds": loading[name],
            "compile_cpu_seconds": compiling,
            "wall_seconds": [took[name][0] for took in rounds],
            "cpu_seconds": [took[name][1] for took in rounds],
            "speed_by_cpu": _describe(cpu),
            "speed_by_wall": _describe(wall_ratios),
            "best_wall_seconds": best,
            "peak_memory_mb": memory[name],
        }
        print(
            f"{name:<16}{_spell(_describe(cpu)):>22}{_spell(_describe(wall_ratios)):>24}"
            f"{best:10.2f} s{memory[name]:9.0f}"
            f"{importing[name]:8.2f} s{loading[name]:8.2f} s{compiling:8.2f} s"
        )
    if options.out:
        content = {"base": base, "work": work, "quiet": quiet, "lanes": results}
        options.out.write_text(json.dumps(content, indent=2) + "\n")
        draw_ratios(content, options.out.with_suffix(".png"))


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
        middle = [ratio["median"] for _, ratio in known]
        axes.errorbar(
            middle,
            [row + up for row, _ in known],
            xerr=[
                [ratio["median"] - ratio["low"] for _, ratio in known],
                [ratio["high"] - ratio["median"] for _, ratio in known],
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


def _describe(ratios: list[float]) -> dict[str, float] | None:
    """Return the median of ratios and its 95 % bootstrap interval; None of none."""
    if not ratios:
        return None
    n, chance = 10_000, random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(n))
    return {
        "median": statistics.median(ratios),
        "low": medians[int(0.025 * n)],
        "high": medians[int(0.975 * n)],
    }


def _spell(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "machine too busy"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


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
    lane(Turn(pipe), times)


def _peak_memory_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
