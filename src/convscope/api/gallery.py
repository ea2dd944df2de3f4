"""The images behind a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from convscope.api.data import load_of_run
from convscope.api.models import run_config
from convscope.datasets.splits import verify_split
from convscope.errors import ConfigError, RunError, UnknownNameError
from convscope.evaluation.opening import open_test
from convscope.paths import path_or_none
from convscope.progress import Progress, console_progress
from convscope.run import Run
from convscope.storage import require_outside
from convscope.types import Predictions, UInt8Array
from convscope.wording import command_line, composed

Kind = Literal["losses", "suspects", "right"]
KINDS: tuple[Kind, ...] = ("losses", "suspects", "right")


@dataclass(frozen=True)
class Seen:
    """An image, and a run's prediction for it.

    Attributes:
        image_id: Name of the image.
        class_name: Class of its label.
        answer: Predicted class.
        prob: Probability of the predicted class, a fraction.
        prob_label: Probability of the class of its label.
    """

    image_id: str
    class_name: str
    answer: str
    prob: float
    prob_label: float

    @property
    def caption(self) -> str:
        """Two lines for below the image."""
        if self.answer == self.class_name:
            return f"{self.class_name}\n{self.prob:.0%}"
        return f"{self.class_name}?\n{self.answer} {self.prob:.0%}"


def gallery(
    run: Run | Path | str,
    of: Kind = "losses",
    *,
    split: Literal["val", "test"] = "val",
    true: str | None = None,
    predicted: str | None = None,
    n: int = 20,
    picture: Path | str | None = None,
    data: Path | str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> list[Seen]:
    """Draw the images that are most telling about a run, from its saved predictions.

    Args:
        run: Evaluated run or its folder.
        of: "losses" for the hardest images; "suspects" for those whose label is probably wrong;
            "right" for the most confident correct ones.
        split: "val" or "test"; a look at test images is logged.
        true: Class of the label, to select images.
        predicted: Predicted class, to select images.
        n: Largest number of images.
        picture: Picture file; None takes `gallery.png` in the run's folder.
        data: Current place of the run's folder of images, if it moved.
        data_dir: Further folder to look for the files of a registered dataset.
        progress: Called with all events; None draws on standard error.

    Returns:
        The drawn images, in order.

    Raises:
        RunError: If the run has not been evaluated on that split, or no image matches.
        UnknownNameError: If there is no such class.
        DataError: If the images are not those of the run.
    """
    from convscope.report.figures import draw_samples

    progress = progress or console_progress()
    run = Run.open(run)
    seen, images = chosen_images(
        run,
        of,
        split=split,
        true=true,
        predicted=predicted,
        n=n,
        data=data,
        data_dir=data_dir,
        progress=progress,
    )
    place = path_or_none(picture, "--picture")
    if place is None:
        place = run.gallery_picture
    else:
        place = require_outside(place, path_or_none(data, "--data") or run_config(run).data_path)
    draw_samples(images, [each.caption for each in seen], place)
    return seen


def chosen_images(
    run: Run,
    of: Kind = "losses",
    *,
    split: Literal["val", "test"],
    true: str | None = None,
    predicted: str | None = None,
    n: int,
    data: Path | str | None = None,
    data_dir: Path | str | None,
    by: str = "gallery",
    progress: Progress,
) -> tuple[list[Seen], UInt8Array]:
    """Return the images that `gallery` draws, with the predictions for them.

    A look at test images is logged under the name of the command `by`.
    """
    from convscope.evaluation.predictions import read_predictions

    names = run.class_names
    true, predicted = (name and run.class_called(name) for name in (true, predicted))
    if n < 1:
        raise ConfigError(f"n must be at least 1, not {n}")
    if not run.predictions_file.exists():
        raise RunError(
            f"{run.path} has not been evaluated; run: {command_line('evaluate', run.path)}"
        )
    by_split, about = read_predictions(run.predictions_file)
    said = by_split.get(split)
    if said is None:
        raise RunError(f"{run.path} has not been evaluated on {split} images")
    order = _chosen(said, of, names, true, predicted)[:n]
    if not order:
        raise RunError(f"no {split} image of {run.path} matches")
    answers = said.probs.argmax(axis=1)
    seen = [
        Seen(
            str(said.ids[i]),
            names[said.labels[i]],
            names[answers[i]],
            float(said.probs[i, answers[i]]),
            float(said.probs[i, said.labels[i]]),
        )
        for i in order
    ]
    dataset = load_of_run(run_config(run), data, data_dir, progress)
    verify_split(dataset, run.split_file, split)
    assert dataset.val is not None
    part = dataset.val
    if split == "test":
        weights = about.get("weights", "last")
        part = open_test(dataset, run, by=by, weights=weights, shown=True, progress=progress)
    place = {composed(str(image_id)): index for index, image_id in enumerate(part.ids)}
    images = np.stack([part.images[place[composed(each.image_id)]] for each in seen])
    return seen, images


def _chosen(
    said: Predictions, of: Kind, names: Sequence[str], true: str | None, predicted: str | None
) -> list[int]:
    """Return the indices of the images, the most telling first."""
    from convscope.evaluation.suspects import suspect_labels

    if of not in KINDS:
        raise UnknownNameError("gallery", of, KINDS)
    if of == "suspects":
        order = [suspect.index for suspect in suspect_labels(said)]
    else:
        of_label = said.probs[np.arange(len(said.labels)), said.labels]
        order = np.argsort(of_label if of == "losses" else -of_label, kind="stable").tolist()
    answers = said.probs.argmax(axis=1)
    return [
        i
        for i in order
        if (true is None or names[said.labels[i]] == true)
        and (predicted is None or names[answers[i]] == predicted)
    ]
