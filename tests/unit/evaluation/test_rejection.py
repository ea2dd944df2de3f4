"""How unlike the training images others are, judged by a frozen backbone."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from convscope.classifier.familiarity import MOST_IMAGES, Familiarity
from convscope.classifier.rejection import LARGEST_DISTANCE
from convscope.evaluation.rejection import judge_familiarity, rejection_of
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import Dataset, Split, evenly_spread


class Drawn(Progress):
    """Progress that notes what it draws and says."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.lines: list[str] = []

    def task(self, label, total, unit):
        self.tasks.append(f"{label}: {total} {unit}")
        return super().task(label, total, unit)

    def say(self, text: str) -> None:
        self.lines.append(text)


def part_of(n_images: int, name: str) -> Split:
    pixels = np.random.default_rng(n_images).integers(0, 256, (n_images, 2, 2, 1), dtype=np.uint8)
    ids = np.array([f"{name}/{index}" for index in range(n_images)])
    return Split(pixels, np.zeros(n_images, np.int64), ids)


def test_only_the_training_images_that_count_pass_the_backbone_and_show(tmp_path, monkeypatch):
    asked = {}

    def pixels(split: Split) -> np.ndarray:
        return split.images.reshape(len(split), -1).astype(np.float32)

    def features_of(split, label, progress):
        asked[label] = split.ids.tolist()
        with progress.task(label, len(split), "images"):
            progress.say(f"{label}: found in the cache")
        return pixels(split)

    train, val = part_of(3 * MOST_IMAGES, "train"), part_of(50, "val")
    run = Run.create(tmp_path / "run", "run")
    run.weights_dir.mkdir(exist_ok=True)
    monkeypatch.setattr(Run, "weights_sha256", lambda self, which: "of these")
    embedder = SimpleNamespace(feature_shape=(4,), features_of=features_of)
    shown = Drawn()
    dataset = Dataset("some", ("a",), train, val)
    judge_familiarity(run, "last", embedder, 0.9, dataset, val, "val", shown)

    spread = evenly_spread(len(train), MOST_IMAGES)
    assert asked["Features of training images"] == train.ids[spread].tolist()
    assert shown.tasks[-1] == f"Features of training images: {MOST_IMAGES} images"
    assert not shown.lines
    # They are those of which all training images would be judged.
    known, whole = Familiarity.read(run.familiarity_file("last")), Familiarity.of(pixels(train))
    for name in ("centre", "scale", "axes", "variances"):
        np.testing.assert_array_equal(getattr(known, name), getattr(whole, name))
    assert known.rejected["val"] == np.mean(whole.distances(pixels(val)) > known.farthest)


@pytest.mark.parametrize("n_images", [2, 300])
def test_of_too_few_training_images_the_energy_decides(tmp_path, monkeypatch, n_images):
    """All others are out of reach for two images that hardly differ."""
    rng = np.random.default_rng(0)
    known = Familiarity.of(np.float32(1 + 1e-4 * rng.normal(size=(n_images, 50))))
    farthest = float(known.distances(rng.normal(size=(3, 50)).astype(np.float32)).max())
    known = dataclasses.replace(known, farthest=farthest, weights_sha256="of these")
    run = Run.create(tmp_path / "run", "run")
    run.weights_dir.mkdir(exist_ok=True)
    monkeypatch.setattr(Run, "weights_sha256", lambda self, which: "of these")
    known.write(run.familiarity_file("last"))
    told = rejection_of(run, "last", {"val": np.full((3, 2), 0.5, np.float32)}, 0.95)
    assert (farthest > LARGEST_DISTANCE) == (n_images == 2)
    assert told["by"] == ("energy" if n_images == 2 else "distance")
