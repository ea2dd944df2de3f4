"""How much a random division flatters, where images belong together: bursts of photos.

Of each class of a folder half of the photos, at most 30, become bursts: one to eight views of each,
cropped, brighter or darker and noisy; classes of fewer than ten photos are left out. The same
network learns them twice: divided at random, and with each burst in one part (`--labels
TABLE:group=COLUMN`). The truth is its accuracy on all other photos.

    python benchmarks/groups.py trashnet ucmerced/train caltech101 --work bursts/
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import convscope
from convscope.images.find import walk_images
from convscope.progress import Progress

SIZE = (192, 192)
LEAST = 10


def views(photo: Path, random: np.random.Generator) -> Iterator[Image.Image]:
    """Yield the images of a burst: the same scene, a little different each time."""
    image = Image.open(photo).convert("RGB")
    for _ in range(int(random.integers(1, 9))):
        share = random.uniform(0.75, 0.95)
        size = [int(side * share) for side in image.size]
        at = [
            int(random.integers(0, side - part + 1))
            for side, part in zip(image.size, size, strict=True)
        ]
        view = image.crop((*at, at[0] + size[0], at[1] + size[1])).resize(SIZE)
        pixels = np.asarray(view, np.float32) * random.uniform(0.8, 1.2)
        pixels += random.normal(0, 3, pixels.shape)
        yield Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def make_bursts(root: Path, out: Path, n_photos: int, seed: int) -> list[tuple[Path, str]]:
    """Write bursts and a table of their labels; return the other photos with their classes."""
    random = np.random.default_rng(seed)
    rows, rest = [], []
    (out / "images").mkdir(parents=True, exist_ok=True)
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        photos = walk_images(folder)
        if len(photos) < LEAST:
            continue
        order = random.permutation(len(photos))
        n_bursts = min(n_photos, len(photos) // 2)
        rest += [(photos[index], folder.name) for index in order[n_bursts:]]
        for index in order[:n_bursts]:
            burst = f"{folder.name}-{index}"
            for number, view in enumerate(views(photos[index], random)):
                name = f"{burst}-{number}.jpg"
                view.save(out / "images" / name, quality=90)
                rows.append((name, folder.name, burst))
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "label", "burst"), *rows])
    return rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders of photos, a folder per class")
    parser.add_argument("--photos", type=int, default=30, help="most photos of a class for bursts")
    parser.add_argument("--seeds", type=int, default=3, help="choices of the photos")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--work", type=Path, required=True, help="folder for bursts and runs")
    given = parser.parse_args()
    print("| set | division | reported (95 % interval) | truth | intervals with the truth |")
    print("|---|---|---|---|---|")
    for data in given.data:
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for seed in range(given.seeds):
            work = given.work / f"{data.parent.name}-{data.name}-{seed}"
            rest = make_bursts(data, work, given.photos, seed)
            for division, columns in (("at random", ""), ("by burst", ":group=burst")):
                run = convscope.train(
                    data=work / "images",
                    labels=f"{work / 'labels.csv'}{columns}",
                    recipe="logistic",
                    model=given.model,
                    image_size=given.image_size,
                    settings={"split.seed": seed},
                    out=work / division.replace(" ", "-"),
                    progress=Progress(),
                )
                said = convscope.predict(run, [photo for photo, _ in rest], progress=Progress())
                truth = np.mean(
                    [each.class_name == name for each, (_, name) in zip(said, rest, strict=True)]
                )
                test = run.metrics["test"]
                row = (test["accuracy"], *test["accuracy_interval_95"], float(truth))
                lines.setdefault(division, []).append(row)
        for division, rows in lines.items():
            reported, low, high, truth = np.mean(rows, axis=0)
            held = sum(low <= truth <= high for _, low, high, truth in rows)
            print(
                f"| {data.name} | {division} | {reported:.3f} ({low:.3f} to {high:.3f}) | "
                f"{truth:.3f} | {held} of {len(rows)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
