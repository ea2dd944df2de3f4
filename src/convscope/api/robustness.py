"""Accuracy of a run on images that are noisy, blurred or badly compressed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from convscope.datasets.division.splits import require_any_class, verify_split
from convscope.errors import ConfigError, DataError, UnknownNameError
from convscope.evaluation.opening import open_test, require_judged
from convscope.planning.data import load_of_run
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress, kept_if_writable
from convscope.registry import listed
from convscope.run import Run
from convscope.types import PART_NAMES, Dataset, evenly_spread

if TYPE_CHECKING:
    from convscope.evaluation.robustness import Robustness


def robustness(
    run: Run | Path | str,
    *,
    corruptions: str | Sequence[str] | None = None,
    severities: int | Sequence[int] | None = None,
    split: Literal["val", "test"] = "val",
    n_images: int = 2_000,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> "Robustness":
    """Evaluate a run on corrupted images; write `robustness.json` and a picture into its folder.

    Args:
        run: Run or its folder.
        corruptions: Names of corruptions; None takes all.
        severities: Severities from 1 to 5; None takes all.
        split: Part to use: "val" or "test"; the opening of the test images is logged.
        n_images: Largest number of images; they are evenly spaced.
        data: Current place of the run's folder of images, if it moved.
        labels: Current place of the table of their labels, if that moved.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with each step; None draws on standard error.

    Raises:
        RunError: If there is no such run or no trained weights.
        UnknownNameError: If there is no such corruption.
        ConfigError: If there is no such severity or part, none is named, or `n_images` is below 1.
        DataError: If the images are not those of the run, or if each may have any number of classes
            and none of those that are taken has one.
    """
    from convscope.classifier.keras_model import open_classifier, weights_for, which_weights
    from convscope.evaluation.corruptions import CORRUPTIONS, SEVERITIES
    from convscope.evaluation.robustness import accuracy_under_all
    from convscope.report.figures import robustness_figure, save_figure

    progress = progress or console_progress()
    require_judged(split)
    run = Run.open(run)
    names = listed(CORRUPTIONS if corruptions is None else corruptions)
    levels = tuple(listed(SEVERITIES if severities is None else severities))
    if not names or not levels:
        raise ConfigError("name at least one corruption and one severity")
    for name in names:
        if name not in CORRUPTIONS:
            raise UnknownNameError("corruption", name, CORRUPTIONS)
    if wrong := [level for level in levels if level not in SEVERITIES]:
        raise ConfigError(
            f"severity must be one of {', '.join(map(str, SEVERITIES))}, not {wrong[0]}"
        )
    levels = tuple(map(int, levels))  # those of NumPy are not written as JSON
    if n_images < 1:
        raise ConfigError(f"n_images must be at least 1, not {n_images}")
    config = run_config(run)
    dataset = load_of_run(config, run.split_file, data, labels, data_dir, progress)
    verify_split(dataset, run.split_file, split)
    taken = _taken(dataset, split, n_images)
    which = weights_for(run, which_weights(run, None), split)
    classifier = open_classifier(run, which)
    part = dataset.validation
    if split == "test":
        part = open_test(dataset, run, by="robustness", weights=which, progress=progress)
    chosen = part.select(taken)
    result = accuracy_under_all(classifier, chosen, split, names, levels, progress)
    title = f"{run.name}: {result.conclusion}"
    with kept_if_writable(progress, run.path):
        run.write_json(run.robustness_file, result.content)
        figure = robustness_figure(result.accuracy, levels, result.clean)
        save_figure(figure, run.robustness_picture, title=title)
    return result


def _taken(dataset: Dataset, split: str, n_images: int) -> npt.NDArray[np.intp]:
    """Return the indices of the images that are corrupted.

    Raises:
        DataError: If an image may have any number of classes and none of these has one.
    """
    require_any_class(dataset, split)
    labels = dataset.parts[split].labels
    taken = evenly_spread(len(labels), n_images)
    if dataset.multi_label and not labels[taken].any():
        raise DataError(
            f"none of the {len(taken):,} {PART_NAMES[split]} images that would be taken has any "
            "class, so there would be no mAP; take more with -n"
        )
    return taken
