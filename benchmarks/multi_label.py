"""Images of several classes: convscope beside scikit-learn's logistic regression of each class.

No set of photos with several labels each is needed: mosaics of two by two photos are made of sets
with one class for each photo, and pairs of digits from scikit-learn's. Photos and digits are
divided into parts before that, so that none is in two parts. Both ways get the same training,
validation and test images; thresholds are chosen on validation images.

    logistic  convscope train --recipe logistic: features of a frozen backbone
    sklearn   OneVsRestClassifier(LogisticRegression()), as it comes, on the same features,
              standardised
    auto      convscope train --minutes M
    scratch   convscope train --model cnn-sequential (pairs of digits)
    pixels    the same of scikit-learn on the pixels (pairs of digits)

    python benchmarks/multi_label.py --photos trashnet ucmerced/train --out mosaics --seeds 3
    python benchmarks/multi_label.py --digits --out pairs --seeds 3
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import convscope
from convscope.evaluation.embedding import Embedder
from convscope.evaluation.multi_label import choose_thresholds, mean_average_precision
from convscope.progress import Progress
from convscope.types import Split

PARTS = {"train": 0.6, "val": 0.2, "test": 0.2}
N_MOSAICS = 1_200
TILE = 112
EMPTY = 0.2
"""Share of the tiles that hold no photo."""

MOST_CLASSES = 10


def divided(n: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the rows of each part."""
    order = random.permutation(n)
    ends = np.cumsum([round(share * n) for share in PARTS.values()])[:-1]
    return dict(zip(PARTS, np.split(order, ends), strict=True))


def write(out: Path, rows: list[tuple[str, set[str], str]]) -> None:
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "split"])
        writer.writerows([name, "|".join(sorted(labels)), part] for name, labels, part in rows)


def make_mosaics(photos: Path, out: Path, seed: int) -> None:
    """Write mosaics of two by two photos, some tiles empty, and their table of labels."""
    random = np.random.default_rng(seed)
    folders = sorted((each for each in photos.iterdir() if each.is_dir()), key=lambda f: f.name)
    folders = sorted(folders, key=lambda f: -len(list(f.iterdir())))[:MOST_CLASSES]
    files = {each.name: sorted(each.iterdir()) for each in folders}
    parts = {name: divided(len(of_class), random) for name, of_class in files.items()}
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for part, share in PARTS.items():
        for number in range(round(share * N_MOSAICS)):
            canvas, labels = Image.new("RGB", (2 * TILE, 2 * TILE), (128, 128, 128)), set()
            for place in range(4):
                if random.random() < EMPTY:
                    continue
                name = str(random.choice(list(files)))
                photo = Image.open(files[name][random.choice(parts[name][part])]).convert("RGB")
                tile = photo.resize((TILE, TILE), Image.Resampling.BILINEAR)
                canvas.paste(tile, (TILE * (place % 2), TILE * (place // 2)))
                labels.add(name)
            canvas.save(out / f"{part}{number:04}.jpg", quality=92)
            rows.append((f"{part}{number:04}.jpg", labels, part))
    write(out, rows)


def make_pairs(out: Path, seed: int) -> None:
    """Write pictures of up to two digits side by side, and their table of labels."""
    from sklearn.datasets import load_digits

    random = np.random.default_rng(seed)
    digits = load_digits()
    pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)
    parts = divided(len(pixels), random)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for part, share in PARTS.items():
        for number in range(round(share * 2 * N_MOSAICS)):
            canvas, labels = np.zeros((8, 16), np.uint8), set()
            for left in (0, 8):
                if random.random() < EMPTY:
                    continue
                row = int(random.choice(parts[part]))
                canvas[:, left : left + 8] = pixels[row]
                labels.add(names[digits.target[row]])
            Image.fromarray(canvas).save(out / f"{part}{number:04}.png")
            rows.append((f"{part}{number:04}.png", labels, part))
    write(out, rows)


def name_of(photos: Path) -> str:
    return photos.parent.name if photos.name == "train" else photos.name


def figures(val: np.ndarray, test: np.ndarray, parts: dict[str, Split]) -> dict[str, float]:
    """Return the scores of probabilities, with thresholds from validation images."""
    from sklearn.metrics import f1_score

    labels = parts["test"].labels
    thresholds = choose_thresholds(val.astype(np.float32), parts["val"].labels)
    named = test >= np.array(thresholds)
    return {
        "mAP": mean_average_precision(test, labels),
        "macro F1": float(f1_score(labels, named, average="macro", zero_division=0)),
    }


def by_sklearn(features: dict[str, np.ndarray], parts: dict[str, Split]) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), OneVsRestClassifier(LogisticRegression(max_iter=1_000))
    ).fit(features["train"], parts["train"].labels)
    return figures(*(model.predict_proba(features[part]) for part in ("val", "test")), parts)


def by_convscope(data: Path, out: Path, seed: int, **options: Any) -> Any:
    return convscope.train(
        data=data,
        labels=data / "labels.csv",
        seed=seed,
        out=out,
        progress=Progress(),
        **options,
    )


def scores(run: Any) -> dict[str, float]:
    test = run.metrics["test"]
    return {"mAP": test["mean_average_precision"], "macro F1": test["macro_f1"]}


def one_seed(options: argparse.Namespace, photos: Path | None, seed: int) -> dict[str, Any]:
    """Return the scores of each way on images of one seed."""
    name = "digits" if photos is None else name_of(photos)
    data, runs = options.out / f"{name}-{seed}", options.out / "runs" / f"{name}-{seed}"
    if not (data / "labels.csv").exists():
        make_pairs(data, seed) if photos is None else make_mosaics(photos, data, seed)
    loaded = convscope.load(
        data, labels=data / "labels.csv", image_size=options.size, progress=Progress()
    )
    parts = {"train": loaded.train, "val": loaded.val}
    parts["test"] = loaded.test.open(lambda n: None)
    found = {}
    if photos is None:
        run = by_convscope(data, runs / "scratch", seed, model="cnn-sequential", epochs=30)
        found["scratch"] = scores(run)
        flat = {
            part: np.asarray(each.images[:]).reshape(len(each), -1) for part, each in parts.items()
        }
        found["pixels"] = by_sklearn(flat, parts)
        return found
    run = by_convscope(
        data, runs / "logistic", seed, recipe="logistic", image_size=options.size, refit=False
    )
    found["logistic"] = scores(run)
    embedder = Embedder(run, None)
    features = {
        part: np.asarray(embedder.features_of(each, part, Progress()))
        for part, each in parts.items()
    }
    found["sklearn"] = by_sklearn(features, parts)
    if options.minutes:
        run = by_convscope(
            data, runs / "auto", seed, minutes=options.minutes, image_size=options.size
        )
        found["auto"] = scores(run)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", nargs="*", type=Path, default=[])
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--minutes", type=float, help="time of auto; without it, it is left out")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print("| images | way | mAP | macro F1 |\n|---|---|---|---|")
    for photos in [*options.photos, *([None] if options.digits else [])]:
        of_seeds = [one_seed(options, photos, seed) for seed in range(options.seeds)]
        for way in of_seeds[0]:
            cells = []
            for metric in ("mAP", "macro F1"):
                values = [each[way][metric] for each in of_seeds]
                spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
                cells.append(f"{np.mean(values):.3f} ± {spread:.3f}")
            name = "pairs of digits" if photos is None else f"mosaics of {name_of(photos)}"
            print(f"| {name} | {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
