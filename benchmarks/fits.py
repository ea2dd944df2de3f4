"""Squash, crop or pad: how photos of another aspect ratio best become a square input.

A logistic head on frozen features, as recipe `logistic` trains it, judged on folds of the training
and validation images; the test images are not looked at. All ways have the same folds.

    python benchmarks/fits.py --data trashnet caltech101
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from convscope.api.data import data_settings
from convscope.images.fit import FITS
from convscope.planning.data import load_once
from convscope.planning.networks import input_spec
from convscope.planning.settle import Request, settle
from convscope.progress import Progress
from convscope.training.out_of_fold import out_of_fold
from convscope.types import Split

FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--fits", nargs="+", choices=FITS, default=FITS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3), help="of the folds")
    options = parser.parse_args()
    print(
        "| data | fit | accuracy, % | gain on the first | loss | gain |\n|---|---|---|---|---|---|"
    )
    for data in options.data:
        first = None
        for fit in options.fits:
            plan = settle(
                Request({**data_settings(data), "recipe": "logistic", "fit": fit}),
                Progress(),
                load_once(None, Progress()),
            )
            parts = plan.dataset.parts_to_learn(refit=True)
            whole = Split.joined(parts)
            n_classes = len(plan.dataset.class_names)
            spec = input_spec(plan.dataset, plan.config)
            right, losses = [], []  # of each seed, by image
            for seed in options.seeds:
                folds = np.zeros(len(whole), int)
                divided = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
                for fold, (_, held) in enumerate(divided.split(folds, whole.labels)):
                    folds[held] = fold
                probs = out_of_fold(
                    plan.config, spec, parts, folds, n_classes, plan.weights, Progress()
                )
                of_label = probs[np.arange(len(probs)), whole.labels]
                right.append(probs.argmax(axis=1) == whole.labels)
                losses.append(-np.log(np.maximum(of_label, 1e-7)))
            # Seeds share their images: the mean over seeds of each image is one observation.
            row = np.stack([100 * np.mean(right, axis=0), np.mean(losses, axis=0)])
            first = row if first is None else first
            gaps = row - first
            error = gaps.std(axis=1) / np.sqrt(len(whole))
            print(
                f"| {data.name} | {fit} | {row[0].mean():.2f} "
                f"| {gaps[0].mean():+.2f} ± {error[0]:.2f} | {row[1].mean():.4f} "
                f"| {gaps[1].mean():+.4f} ± {error[1]:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
