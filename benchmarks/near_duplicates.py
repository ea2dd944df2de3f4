"""Measure the search for near duplicates on CIFAR-10 against a list that people made.

    python benchmarks/near_duplicates.py --list duplicates_cifar10.csv --sheet unlisted.png

The list is a CSV file with the columns TestID, TrainID and Judgment: test images and the training
images that are nearly the same (1), or only very similar (2). There is one at
https://github.com/cvjena/cifair (`meta/duplicates_cifar10.csv`), made by:

    Barz and Denzler, "Do We Train on Test Data? Purging CIFAR of Near-Duplicates", J. Imaging 2020

It names one training image for a test image, and not all test images that have one: so what is
found and not listed has to be looked at, in the sheet. Limits were chosen on the test images whose
number has a SHA-256 that begins with an even byte ("tuned on"); the figures to trust are those of
the others ("held back").
"""

import argparse
import csv
import hashlib
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from convscope.api.data import load
from convscope.datasets.checks.duplicates import near_groups
from convscope.datasets.checks.fingerprints import fingerprint, gather
from convscope.datasets.checks.near_copies import find_near_copies
from convscope.images.orientation import spell_way
from convscope.machine import peak_memory_mb
from convscope.progress import console_progress


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", type=Path, required=True, help="what people judged, as CSV")
    parser.add_argument("--sheet", type=Path, help="where pairs that are not listed are drawn")
    parser.add_argument("--pairs", type=int, default=100, help="how many are drawn, by chance")
    parser.add_argument("--data-dir", type=Path, help="a further place to look for CIFAR-10")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    options = parser.parse_args()

    dataset = load("cifar10", data_dir=options.data_dir)
    parts = [dataset.train, dataset.val, dataset.test.open(lambda _: None)]
    names = np.concatenate([part.ids for part in parts])
    images = np.concatenate([part.images for part in parts])
    del dataset, parts

    start, cpu = time.perf_counter(), time.process_time()
    prints = gather(fingerprint(image) for image in images)
    found = find_near_copies(prints, progress=console_progress())
    groups = near_groups(found)
    figures: dict[str, object] = {
        "n_images": len(images),
        "wall_seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_memory_mb": peak_memory_mb(),
        "pairs": len(found.pairs),
        "mirrored_or_turned_pairs": int(np.count_nonzero(found.ways)),
    }

    partner = _partners(names, groups)
    judged = {1: set(), 2: set()}
    for row in csv.DictReader(options.list.open()):
        judged[int(row["Judgment"])].add(int(row["TestID"]))
    for half, word in enumerate(("tuned on", "held back")):
        flagged = {number for number in partner if _half(number) == half}
        near = {number for number in judged[1] if _half(number) == half}
        figures[word] = {
            "judged_near": len(near),
            "found": len(flagged & near),
            "recall": round(len(flagged & near) / len(near), 3),
            "flagged": len(flagged),
            "flagged_judged_only_similar": len(flagged & judged[2]),
            "flagged_not_listed": len(flagged - near - judged[2]),
        }
    print(json.dumps(figures, indent=2))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")
    if options.sheet:
        unlisted = [number for number in sorted(partner) if number not in judged[1] | judged[2]]
        held_back = [number for number in unlisted if _half(number)]
        chosen = np.random.default_rng(0).permutation(held_back)[: options.pairs]
        place_of = {name: place for place, name in enumerate(names.tolist())}
        _draw(
            [
                (images[place_of[f"test/{n:05d}"]], images[partner[n][0]], partner[n][1], n)
                for n in chosen.tolist()
            ],
            options.sheet,
        )


def _half(test_number: int) -> int:
    return hashlib.sha256(str(test_number).encode()).digest()[0] % 2


def _partners(names, groups) -> dict[int, tuple[int, str]]:
    """Return for each test image in a group with a training image: that one, and how it lies."""
    partners = {}
    for group in groups:
        ways = dict(zip(group.places, group.ways, strict=True))
        train = [place for place in ways if not names[place].startswith("test/")]
        for place in ways:
            if train and names[place].startswith("test/"):
                same = [other for other in train if ways[other] == ways[place]]
                other = (same or train)[0]
                lies = "" if same else f"{spell_way(ways[other])}/{spell_way(ways[place])}"
                partners[int(names[place].removeprefix("test/"))] = (other, lies)
    return partners


def _draw(pairs, path: Path, side: int = 96, columns: int = 8) -> None:
    """Draw pairs side by side, enlarged, with the number of the test image."""
    width, height = 2 * side + 8, side + 14
    sheet = Image.new("RGB", (columns * width, -(-len(pairs) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (first, second, lies, number) in enumerate(pairs):
        left, top = place % columns * width, place // columns * height
        for shift, pixels in ((0, first), (side, second)):
            large = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(large, (left + shift, top))
        pen.text((left, top + side), f"{place}: {number} {lies}", fill="black")
    sheet.save(path)


if __name__ == "__main__":
    main()
