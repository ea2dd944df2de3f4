"""Class weights on folders of photos: what they do to macro F1 and to calibration.

Logistic regression on frozen features, by five folds of the training and validation images, for
three draws of the folds; test images are not used. Features come from the cache, the penalty from
folds of its own.

    python benchmarks/class_weights.py PHOTOS/solar-elpv PHOTOS/caltech101
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

from convscope.api.data import data_settings
from convscope.classifier.classify import at_temperature
from convscope.evaluation.calibration import expected_calibration_error, fit_temperature
from convscope.models.head import feature_statistics, standardised
from convscope.models.transfer import build_transfer
from convscope.planning.data import load_once
from convscope.planning.networks import input_spec
from convscope.planning.settle import Request, settle
from convscope.progress import Progress
from convscope.training.frozen import run_frozen
from convscope.training.logistic import choose_penalty
from convscope.training.logistic_fit import fit_logistic

WEIGHTINGS = ("none", "sqrt", "balanced")
SEEDS = (83, 84, 85)
COLUMNS = ("accuracy", "macro F1", "balanced accuracy", "ECE", "ECE at temperature", "loss at it")


def judged(probs, labels) -> list[float]:
    temperature = fit_temperature(probs, labels)
    scaled = at_temperature(probs, temperature)
    answers = probs.argmax(axis=1)
    right = np.maximum(scaled[np.arange(len(labels)), labels], 1e-6)
    return [
        (answers == labels).mean(),
        f1_score(labels, answers, average="macro"),
        balanced_accuracy_score(labels, answers),
        expected_calibration_error(probs, labels),
        expected_calibration_error(scaled, labels),
        -np.log(right).mean(),
    ]


def measure(folder: Path) -> None:
    given = {**data_settings(folder), "model": "efficientnet_lite0"}
    plan = settle(Request({**given, "recipe": "logistic"}), Progress(), load_once(None, Progress()))
    config, dataset = plan.config, plan.dataset
    spec, n_classes = input_spec(dataset, config), len(dataset.class_names)
    network = build_transfer(config.model, spec, n_classes, config.head, weights=plan.weights)
    parts = dataset.parts_to_learn(refit=True)
    output = run_frozen(network, config, spec, parts, parts[-1], Progress()).features
    features, labels = np.asarray(output.inputs(0)), output.labels
    statistics = feature_statistics(features)
    print(f"{folder.name}: {len(labels):,} images, {n_classes} classes", flush=True)
    print(f"{'weights':10}{'penalty':>8}", *(f"{name:>20}" for name in COLUMNS))
    for weighting in WEIGHTINGS:
        penalty = choose_penalty(
            standardised(features, statistics),
            labels,
            n_classes,
            seed=config.seed,
            weighting=weighting,
            progress=Progress(),
        )[0].penalty
        rows = []
        for seed in SEEDS:
            probs = np.zeros((len(labels), n_classes), np.float32)
            folds = StratifiedKFold(5, shuffle=True, random_state=seed)
            for learnt, held_out in folds.split(labels, labels):
                own = feature_statistics(features[learnt])
                head = fit_logistic(
                    standardised(features[learnt], own),
                    labels[learnt],
                    n_classes,
                    penalty,
                    weighting=weighting,
                )
                probs[held_out] = head.probs(standardised(features[held_out], own))
            rows.append(judged(probs, labels))
        cells = zip(np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1), strict=True)
        texts = (f"{mean:.4f} ± {spread:.4f}" for mean, spread in cells)
        print(f"{weighting:10}{penalty:8g}", *(f"{text:>20}" for text in texts), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    for each in parser.parse_args().folders:
        measure(each)
