"""Prediction of many images: this process, more processes, and a Ray cluster on the same cores.

All lanes answer the same images with the same file, in turn, into a file of answers; the first
lane comes twice, so that its ratio to itself says how noisy the machine is. Counted are the images
after the first quarter, when all workers are warm. Where the machine has other work, its CPU time
says more than the time that passed; that of the cluster is the time of all its processes here.

    ray start --head --num-cpus=2
    python benchmarks/many_images.py model.onnx 'shards/*.tar' --ray auto --out runs/many.json
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import convscope
from convscope.classifier.bulk.sources import iter_images_of
from convscope.machine import cpu_name, usable_cores
from convscope.progress import Progress

_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="Exported ONNX file.")
    parser.add_argument("images", help="Folder, list or pattern of archives.")
    parser.add_argument("--ray", help="Address of a Ray cluster on this machine.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="File for the figures, JSON.")
    args = parser.parse_args()
    lanes: dict[str, dict[str, Any]] = {
        "one process": {},
        "one process again": {},
        "processes": {"workers": usable_cores()},
    }
    if args.ray is not None:
        lanes["ray"] = {"ray": args.ray}
    n_images = sum(1 for _ in iter_images_of([args.images]))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in lanes}
    for _ in range(args.rounds):
        for name, setting in lanes.items():
            times[name].append(seconds(args.model, args.images, n_images, setting))
            wall, cpu = times[name][-1]
            print(f"{name}: {wall:.2f} s, CPU {cpu:.2f} s", flush=True)
    found: dict[str, Any] = {"cpu": cpu_name(), "cores": usable_cores(), "images": n_images}
    n_counted = n_images - n_images // 4 - 1
    for index, kind in enumerate(("wall", "cpu")):
        reference = [each[index] for each in times["one process"]]
        found[f"images_per_{kind}_s"] = {
            name: round(n_counted / statistics.median(each[index] for each in lane))
            for name, lane in times.items()
        }
        found[f"ratios_by_{kind}"] = {
            name: [round(a / b[index], 3) for a, b in zip(reference, lane, strict=True)]
            for name, lane in times.items()
        }
    print(json.dumps(found, indent=2))
    if args.out is not None:
        args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def seconds(
    model: Path, images: str, n_images: int, setting: dict[str, Any]
) -> tuple[float, float]:
    """Return wall and CPU seconds between the first quarter of the images and the last image."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.csv"
        results = convscope.predict(model, [images], out=out, progress=Progress(), **setting)
        for count, _ in enumerate(results, 1):
            if count == n_images // 4:
                began = (time.perf_counter(), cpu_seconds())
            elif count == n_images - 1:
                ended = (time.perf_counter(), cpu_seconds())
        assert len(out.read_text().splitlines()) == 1 + n_images
    return ended[0] - began[0], ended[1] - began[1]


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, of those that it started, and of Ray's."""
    facts = dict(_processes())
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in facts.items():
        children.setdefault(parent, []).append(pid)
    waiting = [os.getpid(), *(pid for pid, (_, name, _) in facts.items() if name in _OF_RAY)]
    counted: set[int] = set()
    while waiting:
        pid = waiting.pop()
        if pid not in counted:
            counted.add(pid)
            waiting += children.get(pid, [])
    return sum(facts[pid][2] for pid in counted)


_OF_RAY = ("raylet", "gcs_server")


def _processes() -> Iterator[tuple[int, tuple[int, str, float]]]:
    """Yield the number of each process, and its parent, its name and its CPU seconds.

    References:
        proc_pid_stat(5).
    """
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # it has ended
                continue
            # The name is in brackets, and may have some itself.
            name, _, rest = text.partition("(")[2].rpartition(") ")
            fields = rest.split()
            used = sum(int(ticks) for ticks in fields[11:13]) / _TICKS
            yield int(entry.name), (int(fields[1]), name, used)


if __name__ == "__main__":
    main()
