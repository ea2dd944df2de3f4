"""Time and memory against the number of images, the number of classes and the size of an image.

    python benchmarks/growth.py --out runs/growth
    python benchmarks/growth.py --axes classes --classes 10 1000 10000

Images of noise with a pattern for each class. A step of an axis is a process of its own. Of images,
classes and sizes: one epoch of the tutorial's CNN on images made in memory, with everything that a
run does beside it (division, evaluation of validation and test images, predictions, pictures), then
its report and diagnosis. Of photos: a folder of JPEG files of 224 x 224 pixels, packed, through a
frozen EfficientNet-Lite0 (whose weights CONVSCOPE_WEIGHTS or the cache must hold) under logistic
regression with a fixed penalty, then the same. Written after each step, to be drawn: `growth.csv`,
`growth.png`; `--only-draw` draws a table again.

Memory is the most that the process held beside mapped files, sampled; what the backend takes alone
is in it.
"""

import argparse
import csv
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _lanes import Clock, anonymous_mib, in_a_process

if TYPE_CHECKING:
    from convscope.run import Run

AXES = ("images", "classes", "size", "photos")
BASE = {"images": 10_000, "classes": 10, "size": 32, "photos": 0}
"""The others, while one grows."""

PHOTO_SIZE = 224
UNIT = {
    "images": "images of 32 pixels",
    "classes": "classes",
    "size": "pixels wide",
    "photos": f"photos of {PHOTO_SIZE} pixels",
}
COLUMNS = (*AXES, "axis", "data_s", "epoch_s", "rest_s", "report_s", "doctor_s", "memory_mb")
STAGES = {
    "data_s": "data",
    "epoch_s": "an epoch",
    "rest_s": "the rest of a run (photos: all of it)",
    "report_s": "its report",
    "doctor_s": "its diagnosis",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = {"images": (1_000, 10_000, 100_000), "classes": (2, 10, 100, 1_000, 10_000)}
    steps |= {"size": (16, 32, 64, 128), "photos": (1_000, 10_000, 100_000)}
    for axis in AXES:
        parser.add_argument(f"--{axis}", nargs="+", type=int, default=steps[axis])
    parser.add_argument("--axes", nargs="+", choices=AXES, default=AXES)
    parser.add_argument("--out", type=Path, default=Path("runs/growth"), help="folder")
    parser.add_argument("--only-draw", action="store_true", help="what the table in --out says")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(**json.loads(options.step))))
        return
    if options.only_draw:
        with (options.out / "growth.csv").open() as file:
            table = [
                {name: value if name == "axis" else float(value or "nan") for name, value in row}
                for row in map(dict.items, csv.DictReader(file))
            ]
        draw(table, options.out / "growth.png")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for axis in options.axes:
        for value in getattr(options, axis):
            facts = {**BASE, axis: value}
            # Enough for each class to be in each part.
            facts["images"] = max(facts["images"], 10 * facts["classes"])
            if facts["photos"]:
                facts |= {"images": facts["photos"], "size": PHOTO_SIZE}
            rows.append({"axis": axis, **in_a_process(__file__, "--step", json.dumps(facts))})
            print(json.dumps(rows[-1]), flush=True)
            with (options.out / "growth.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            draw(rows, options.out / "growth.png")


def step(images: int, classes: int, size: int, photos: int) -> dict[str, Any]:
    """Train on made-up images once, and return seconds and megabytes."""
    import convscope
    from convscope.progress import Progress

    with tempfile.TemporaryDirectory() as name, most_memory() as memory:
        folder = Path(name)
        what = train_photos if photos else train_arrays
        run, spent = what(folder, images, classes, size)
        for verb in ("report", "doctor"):
            clock = Clock()
            getattr(convscope, verb)(run, progress=Progress())
            spent[f"{verb}_s"] = clock.seconds()[0]
    facts = {"images": images, "classes": classes, "size": size, "photos": photos}
    seconds = {name: round(each, 2) for name, each in spent.items()}
    return {**facts, **seconds, "memory_mb": memory[0]}


def train_arrays(
    folder: Path, images: int, classes: int, size: int
) -> "tuple[Run, dict[str, float]]":
    """Train the tutorial's CNN for an epoch on images in memory; return the run and seconds."""
    import numpy as np

    import convscope
    from convscope.datasets import DATASETS
    from convscope.progress import Progress
    from convscope.types import Dataset, SealedSplit, Split

    spent = {}

    def part(name: str, n_images: int) -> Split:
        pixels = np.empty((n_images, size, size, 3), np.uint8)
        labels = np.arange(n_images) % classes
        for start in range(0, n_images, 1_000):
            some = slice(start, start + 1_000)
            pixels[some] = noise(labels[some], classes, size, [len(name), start])
        return Split(pixels, labels, np.array([f"{name}-{i:07}" for i in range(n_images)]))

    @DATASETS.register(
        "growing", n_classes=classes, n_train=images, n_test=images // 5,
        image_shape=(size, size, 3), download_mb=0, licence="none",
    )  # fmt: skip
    def load_growing(request: Any) -> Dataset:
        del request
        clock = Clock()
        data = Dataset(
            name="growing",
            class_names=tuple(f"class {i}" for i in range(classes)),
            train=part("train", images),
            test=SealedSplit(part("test", max(images // 5, classes))),
            provenance={"source": "made up", "licence": "none", "checksum": "none"},
        )
        spent["data_s"] = clock.seconds()[0]
        return data

    clock = Clock()
    run = convscope.train(data="growing", epochs=1, out=folder / "run", progress=Progress())
    whole = clock.seconds()[0] - spent["data_s"]
    with run.results_file.open() as file:
        spent["epoch_s"] = float(next(csv.DictReader(file))["seconds"])
    spent["rest_s"] = whole - spent["epoch_s"]
    return run, spent


def train_photos(
    folder: Path, images: int, classes: int, size: int
) -> "tuple[Run, dict[str, float]]":
    """Train a head on a frozen backbone on a folder of JPEGs; return the run and seconds."""
    import numpy as np
    from PIL import Image

    import convscope
    from convscope.progress import Progress

    photos = folder / "photos"
    for label in range(classes):
        (photos / f"class {label}").mkdir(parents=True)

    def write(start: int) -> None:
        labels = np.arange(start, min(start + 1_000, images)) % classes
        for index, pixels in enumerate(noise(labels, classes, size // 4, [start])):
            name = photos / f"class {labels[index]}" / f"{start + index:07}.jpg"
            Image.fromarray(pixels).resize((size, size)).save(name, quality=90)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(write, range(0, images, 1_000)))
    # Nothing but this step may have packed them or computed their features.
    os.environ["CONVSCOPE_CACHE"] = str(folder / "cache")
    clock = Clock()
    dataset = convscope.load(photos, image_size=size, progress=Progress())
    spent = {"data_s": clock.seconds()[0]}
    del dataset
    clock = Clock()
    run = convscope.train(
        data=photos,
        model="efficientnet_lite0",
        recipe="logistic",
        settings={"head.penalty": 0.1, "head.last_map": 1.0},
        out=folder / "run",
        progress=Progress(),
    )
    spent["rest_s"] = clock.seconds()[0]
    return run, spent


def noise(labels: Any, classes: int, size: int, seed: list[int]) -> Any:
    """Return an image of noise for each label, with the pattern of its class: uint8."""
    import numpy as np

    patterns = np.random.default_rng(0).integers(0, 128, (classes, 4, 4, 3), np.uint8)
    pixels = np.random.default_rng(seed).integers(0, 128, (len(labels), size, size, 3), np.uint8)
    repeated = np.arange(size) * 4 // size
    return pixels + patterns[labels][:, repeated][:, :, repeated]


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
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes = [axis for axis in AXES if any(row["axis"] == axis for row in rows)]
    figure = Figure((4 * len(axes), 6.5), layout="constrained")
    panels = figure.subplots(2, len(axes), sharex="col", sharey="row", squeeze=False)
    plain = FuncFormatter(lambda value, _: f"{value:,g}" if value < 10_000 else f"{value:,.0f}")
    for column, axis in enumerate(axes):
        upper, lower = panels[:, column]
        found = [row for row in rows if row["axis"] == axis]
        at = [row[axis] for row in found]
        for name, label in STAGES.items():
            seconds = [row.get(name, float("nan")) for row in found]
            upper.plot(at, seconds, marker="o", label=label)
        lower.plot(at, [row["memory_mb"] for row in found], marker="o", color="black")
        for panel in (upper, lower):
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.grid(alpha=0.3)
            panel.yaxis.set_major_formatter(plain)
        lower.xaxis.set_major_locator(FixedLocator(at))
        lower.xaxis.set_minor_locator(NullLocator())
        lower.xaxis.set_major_formatter(plain)
        lower.set_xlabel(UNIT[axis])
    panels[0, 0].set_ylabel("seconds")
    panels[1, 0].set_ylabel("memory, MB")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
