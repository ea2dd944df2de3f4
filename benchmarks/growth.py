"""Time and memory against the number of images, the number of classes and the size of an image.

    python benchmarks/growth.py --out runs/growth
    python benchmarks/growth.py --axes classes --classes 10 1000 10000

Images of noise with a pattern for each class, made in memory. A step of an axis is a process of its
own: one epoch of the tutorial's CNN with everything that a run does beside it (division, evaluation
of validation and test images, predictions, pictures), then its report and diagnosis. Written after
each step, to be drawn: `growth.csv`, `growth.png`.

Memory is the most that the process held beside mapped files, sampled; what the backend takes alone
is in it.
"""

import argparse
import csv
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _lanes import Clock, anonymous_mib, in_a_process

AXES = ("images", "classes", "size")
BASE = {"images": 10_000, "classes": 10, "size": 32}
"""The other two, while one grows."""

UNIT = {"images": "images", "classes": "classes", "size": "pixels wide"}
COLUMNS = (*AXES, "axis", "data_s", "epoch_s", "rest_s", "report_s", "doctor_s", "memory_mb")
STAGES = {
    "epoch_s": "an epoch",
    "rest_s": "the rest of a run",
    "report_s": "its report",
    "doctor_s": "its diagnosis",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = {"images": (1_000, 10_000, 100_000), "classes": (2, 10, 100, 1_000, 10_000)}
    steps["size"] = (16, 32, 64, 128)
    for axis in AXES:
        parser.add_argument(f"--{axis}", nargs="+", type=int, default=steps[axis])
    parser.add_argument("--axes", nargs="+", choices=AXES, default=AXES)
    parser.add_argument("--out", type=Path, default=Path("runs/growth"), help="folder")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(**json.loads(options.step))))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for axis in options.axes:
        for value in getattr(options, axis):
            facts = {**BASE, axis: value}
            # Enough for each class to be in each part.
            facts["images"] = max(facts["images"], 10 * facts["classes"])
            rows.append({"axis": axis, **in_a_process(__file__, "--step", json.dumps(facts))})
            print(json.dumps(rows[-1]), flush=True)
            with (options.out / "growth.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            draw(rows, options.out / "growth.png")


def step(images: int, classes: int, size: int) -> dict[str, Any]:
    """Train on made-up images once, and return seconds and megabytes."""
    import numpy as np

    import convscope
    from convscope.datasets import DATASETS
    from convscope.progress import Progress
    from convscope.types import Dataset, SealedSplit, Split

    spent = {}

    def part(name: str, n_images: int) -> Split:
        chance = np.random.default_rng(len(name))
        labels = np.arange(n_images) % classes
        patterns = np.random.default_rng(0).integers(0, 128, (classes, 4, 4, 3), np.uint8)
        pixels = chance.integers(0, 128, (n_images, size, size, 3), np.uint8)
        repeated = np.arange(size) * 4 // size
        for start in range(0, n_images, 1_000):
            some = slice(start, start + 1_000)
            pixels[some] += patterns[labels[some]][:, repeated][:, :, repeated]
        return Split(pixels, labels, np.array([f"{name}-{i:07}" for i in range(n_images)]))

    @DATASETS.register(
        "growing", n_classes=classes, n_train=images, n_test=images // 5,
        image_shape=(size, size, 3), download_mb=0, licence="none",
    )  # fmt: skip
    def load_growing(request: Any) -> Dataset:
        del request
        began = time.perf_counter()
        names = tuple(f"class {i}" for i in range(classes))
        data = Dataset(
            name="growing",
            class_names=names,
            train=part("train", images),
            test=SealedSplit(part("test", max(images // 5, classes))),
            provenance={"source": "made up", "licence": "none", "checksum": "none"},
        )
        spent["data_s"] = time.perf_counter() - began
        return data

    with tempfile.TemporaryDirectory() as folder, most_memory() as memory:
        clock = Clock()
        run = convscope.train(
            data="growing", epochs=1, out=Path(folder) / "run", progress=Progress()
        )
        whole = clock.seconds()[0] - spent["data_s"]
        with run.results_file.open() as file:
            spent["epoch_s"] = float(next(csv.DictReader(file))["seconds"])
        spent["rest_s"] = whole - spent["epoch_s"]
        for verb in ("report", "doctor"):
            clock = Clock()
            getattr(convscope, verb)(run, progress=Progress())
            spent[f"{verb}_s"] = clock.seconds()[0]
    spent = {name: round(seconds, 2) for name, seconds in spent.items()}
    return {"images": images, "classes": classes, "size": size, **spent, "memory_mb": memory[0]}


@contextmanager
def most_memory() -> Iterator[list[int]]:
    """Sample the memory of this process in the body; yield a list of the most of it, in MiB."""
    found, ended = [0], threading.Event()

    def sample() -> None:
        while not ended.wait(0.05):
            found[0] = max(found[0], int(anonymous_mib()))

    watch = threading.Thread(target=sample, daemon=True)
    watch.start()
    try:
        yield found
    finally:
        ended.set()
        watch.join()


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw seconds and memory along each axis."""
    from matplotlib.figure import Figure

    axes = [axis for axis in AXES if any(row["axis"] == axis for row in rows)]
    figure = Figure((4 * len(axes), 6), layout="constrained")
    for column, axis in enumerate(axes):
        found = [row for row in rows if row["axis"] == axis]
        at = [row[axis] for row in found]
        upper = figure.add_subplot(2, len(axes), column + 1)
        for name, label in STAGES.items():
            upper.plot(at, [row[name] for row in found], marker="o", label=label)
        lower = figure.add_subplot(2, len(axes), len(axes) + column + 1)
        lower.plot(at, [row["memory_mb"] for row in found], marker="o", color="black")
        for panel in (upper, lower):
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.grid(alpha=0.3)
        lower.set_xlabel(f"{UNIT[axis]}")
        if column == 0:
            upper.set_ylabel("seconds")
            lower.set_ylabel("memory, MB")
            upper.legend()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
