"""Which score tells images of no known class from one's own, and how many still get an answer.

Each set in turn is the own one: recipe `logistic` on frozen features. The validation images of the
others, and of CIFAR-10, are strangers; test images are not looked at. The threshold of each score
accepts 95 % of the own validation images.

    python benchmarks/rejection.py --data trashnet ucmerced caltech101 solar-elpv
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from convscope.api.data import data_settings, load
from convscope.classifier.familiarity import Familiarity
from convscope.classifier.rejection import least_familiarity
from convscope.models.folding import fold_batch_norm
from convscope.models.head import feature_statistics, standardised
from convscope.models.transfer import build_transfer
from convscope.planning.data import load_once
from convscope.planning.networks import input_spec
from convscope.planning.plan import Plan
from convscope.planning.settle import Request, settle
from convscope.progress import Progress
from convscope.training.frozen import pooled_features
from convscope.training.logistic import choose_penalty
from convscope.training.logistic_fit import fit_logistic
from convscope.types import Split

ACCEPTED = 0.95
N_NEIGHBOURS = 5
N_CIFAR = 1_000


class Home:
    """A set with a head of its own, and the features of its images."""

    def __init__(self, data: Path) -> None:
        request = Request({**data_settings(data), "recipe": "logistic"})
        self.plan: Plan = settle(request, Progress(), load_once(None, Progress()))
        dataset, config = self.plan.dataset, self.plan.config
        assert dataset.val is not None
        self.train, self.val = dataset.train, dataset.val
        self.channels = dataset.image_shape[2]
        self.spec = input_spec(dataset, config)
        n_classes = len(dataset.class_names)
        network = build_transfer(
            config.model, self.spec, n_classes, config.head, weights=self.plan.weights
        )
        self._lower = fold_batch_norm(network.lower("end"))
        learnt = self._pooled(self.train)
        self._statistics = feature_statistics(learnt)
        self.learnt = standardised(learnt, self._statistics)
        penalty = choose_penalty(
            self.learnt, self.train.labels, n_classes, seed=config.seed, progress=Progress()
        )[0].penalty
        self.head = fit_logistic(self.learnt, self.train.labels, n_classes, penalty)
        self.known = Familiarity.of(self.learnt)
        self._prepare_distances(n_classes)

    def _pooled(self, split: Split) -> np.ndarray:
        found = pooled_features(
            self._lower, self.plan.config, self.spec, split, "Features", Progress()
        )
        return np.asarray(found.array)

    def features(self, split: Split) -> np.ndarray:
        """Return standardised features of images in colour or grey."""
        images = np.asarray(split.images[:])
        if images.shape[3] > self.channels:  # the luma of ITU-R 601, as files become grey
            images = np.rint(images @ [0.299, 0.587, 0.114])[..., None].astype(np.uint8)
        elif images.shape[3] < self.channels:
            images = images.repeat(3, axis=3)
        same = Split(images, split.labels, split.ids)
        return standardised(self._pooled(same), self._statistics)

    def _prepare_distances(self, n_classes: int) -> None:
        labels = self.train.labels
        known = np.flatnonzero(np.bincount(labels, minlength=n_classes))
        means = np.stack([self.learnt[labels == label].mean(axis=0) for label in known])
        place = np.searchsorted(known, labels)
        covariance, _ = ledoit_wolf(self.learnt - means[place], assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        self._whiten = vectors / np.sqrt(values)
        self._means = means @ self._whiten
        self._unit = self.learnt / np.linalg.norm(self.learnt, axis=1, keepdims=True)

    def scores(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """Return scores that are high for images of a known class."""
        logits = (features @ self.head.kernel + self.head.bias).astype(np.float64)
        largest = logits.max(axis=1)
        energy = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        white = features @ self._whiten
        apart = (
            (white**2).sum(axis=1)[:, None]
            - 2 * white @ self._means.T
            + (self._means**2).sum(axis=1)[None]
        )
        alike = features / np.linalg.norm(features, axis=1, keepdims=True) @ self._unit.T
        return {
            "probability": np.exp(largest - energy),
            "largest logit": largest - logits.mean(axis=1),
            "energy": energy - logits.mean(axis=1),
            "distance": -self.known.distances(features),
            "mahalanobis": -apart.min(axis=1),
            "neighbours": np.sort(alike, axis=1)[:, -N_NEIGHBOURS],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="file for all scores (.npz)")
    options = parser.parse_args()
    strangers = {
        data.name: load(data, image_size=224, progress=Progress()).val for data in options.data
    }
    cifar = load("cifar10", progress=Progress()).val
    assert cifar is not None
    strangers["cifar10"] = cifar.select(np.linspace(0, len(cifar) - 1, N_CIFAR).astype(int))
    kept: dict[str, Any] = {}
    print("| own | strangers | score | AUROC | answered, % |\n|---|---|---|---|---|")
    for data in options.data:
        home = Home(data)
        own = home.scores(home.features(home.val))
        kept |= {f"{data.name}|{data.name}|{name}": values for name, values in own.items()}
        for other, split in strangers.items():
            if other == data.name:
                continue
            theirs = home.scores(home.features(split))
            for name, values in theirs.items():
                kept[f"{data.name}|{other}|{name}"] = values
                truth = np.r_[np.ones(len(own[name])), np.zeros(len(values))]
                area = roc_auc_score(truth, np.r_[own[name], values])
                answered = (values >= least_familiarity(own[name], ACCEPTED)).mean()
                row = (data.name, other, name, f"{area:.3f}", f"{100 * answered:.1f}")
                print(f"| {' | '.join(row)} |", flush=True)
    if options.keep is not None:
        np.savez(options.keep, **kept)


if __name__ == "__main__":
    main()
