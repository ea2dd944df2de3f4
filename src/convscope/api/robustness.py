"""How well a run does on images that are noisy, blurred or badly stored."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from convscope import backend as backends
from convscope.api.data import load_for
from convscope.api.evaluate import which_weights
from convscope.api.models import run_config
from convscope.datasets.splits import verify_split
from convscope.errors import ConfigError, UnknownNameError
from convscope.progress import Progress, console_progress
from convscope.run import Run
from convscope.types import UInt8Array

_BATCH = 500


@dataclass(frozen=True)
class Robustness:
    """Accuracy under corruptions.

    Attributes:
        split: "val" or "test".
        n_images: How many were corrupted.
        clean: Accuracy on them as they are, a fraction.
        severities: Those that were tried.
        accuracy: By corruption, an accuracy for each severity.
    """

    split: str
    n_images: int
    clean: float
    severities: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]

    @property
    def mean(self) -> float:
        """Over all corruptions and severities."""
        return float(np.mean([value for row in self.accuracy.values() for value in row]))

    @property
    def conclusion(self) -> str:
        """What it bears worst, in a sentence."""
        worst = min(self.accuracy, key=lambda name: float(np.mean(self.accuracy[name])))
        mean = float(np.mean(self.accuracy[worst]))
        return (
            f"{self.clean:.1%} right as they are, {self.mean:.1%} on average when corrupted; it "
            f"bears {worst.replace('-', ' ')} worst ({mean:.1%})."
        )


def robustness(
    run: Run | Path | str,
    *,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] | None = None,
    split: Literal["val", "test"] = "val",
    n_images: int = 2_000,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """Judge a run on corrupted images; write `robustness.json` and a picture into its folder.

    Args:
        run: The run or its folder.
        corruptions: Names; None is all.
        severities: From 1 to 5; None is all.
        split: "val" or "test"; that the test images are opened is logged.
        n_images: How many of them at most, evenly spaced.
        data_dir: A further place to look for the files of a registered dataset.
        progress: Told of everything; None draws on standard error.

    Raises:
        RunError: If there is no such run or no trained weights.
        UnknownNameError: If there is no such corruption.
        ConfigError: If there is no such severity, or there are to be no images.
        DataError: If the images are not those of the run.
    """
    from convscope.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
    from convscope.evaluation.predictions import load_classifier, predict_images
    from convscope.report.figures import draw_robustness

    progress = progress or console_progress()
    run = Run.open(run)
    names = list(corruptions or CORRUPTIONS)
    levels = tuple(severities or SEVERITIES)
    for name in names:
        if name not in CORRUPTIONS:
            raise UnknownNameError("corruption", name, CORRUPTIONS)
    if wrong := [level for level in levels if level not in SEVERITIES]:
        raise ConfigError(f"severity {wrong[0]}: choose one of {', '.join(map(str, SEVERITIES))}")
    if n_images < 1:
        raise ConfigError(f"{n_images} images are nothing to judge; at least 1")
    config = run_config(run)
    dataset = load_for(config, data_dir, progress)
    verify_split(dataset, run.split_file, split)
    which = which_weights(run, None)
    backends.configure(config.backend)
    network = load_classifier(run.weights(which), config.tta)
    assert dataset.val is not None
    assert dataset.test is not None
    part = dataset.val
    if split == "test":
        part = dataset.test.open(
            lambda n: run.record_test_opening(by="robustness", weights=which, n_images=n)
        )
    chosen = np.unique(np.linspace(0, len(part) - 1, min(n_images, len(part))).astype(int))
    images, labels = np.stack([part.images[i] for i in chosen]), part.labels[chosen]

    def accuracy(pixels: UInt8Array, label: str) -> float:
        probs = predict_images(network, pixels, batch_size=_BATCH, progress=Progress(), label=label)
        return float((probs.argmax(axis=1) == labels).mean())

    clean = accuracy(images, "as they are")
    found: dict[str, tuple[float, ...]] = {}
    with progress.task("Corrupting", len(names) * len(levels) * len(images), "images") as step:
        for name in names:
            row = []
            for level in levels:
                row.append(accuracy(corrupt(images, name, level), name))
                step(len(images), f"{name} {level}: {row[-1]:.3f}")
            found[name] = tuple(row)
    result = Robustness(split, len(images), clean, levels, found)
    content = {**asdict(result), "mean": result.mean, "conclusion": result.conclusion}
    run.write_json(run.robustness_file, content)
    draw_robustness(
        found, levels, clean, run.robustness_picture, title=f"{run.name}: {result.conclusion}"
    )
    return result
