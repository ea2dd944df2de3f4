"""Learning curve of a folder of images: would more of them help?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope.datasets.source import data_settings
from convscope.errors import ConfigError
from convscope.evaluation.learning_curve import Point, expected_at, nested_order, sizes_up_to
from convscope.evaluation.metrics import interval_of
from convscope.models import MODELS, is_backbone
from convscope.paths import short_name
from convscope.planning.data import load_once
from convscope.planning.plan import Plan
from convscope.planning.settle import Request, settle
from convscope.progress import Progress, console_progress
from convscope.recipe import flat, require_settable
from convscope.remote import folder_or_none
from convscope.run import ROOT
from convscope.storage import write_rows
from convscope.studies.folder import StudyKind
from convscope.types import Predictions
from convscope.wording import spreadsheet_text

LEARNING_CURVE = StudyKind("learning curve", "learning_curve.json")

N_FOLDS = 5

_NOT_TO_SET = {
    **dict.fromkeys(("data", "data_path"), "--data names the images"),
    **{key: f"there is the option --{key}" for key in ("labels", "seed", "model")},
    "recipe": "the heads are those of recipe logistic",
    **dict.fromkeys(
        ("split.folds", "split.fold", "split.fold_as"), "all but the test images are in folds here"
    ),
}
"""Settings that cannot be set, and why."""

_NEEDS_BACKBONE = (
    "a learning curve is that of logistic heads on a frozen backbone: --model takes a pretrained "
    "one, see 'convscope models', backbone.cut stays 'end' and head.logistic true"
)


@dataclass(frozen=True)
class ClassRecall:
    """Recall of a class with half of the training images and with all.

    Attributes:
        class_name: Name.
        n_images: Number of its images, test images aside.
        recall_of_half: Recall by heads that learnt half of the images, a fraction in [0, 1].
        recall: Recall by those that learnt all.
    """

    class_name: str
    n_images: int
    recall_of_half: float
    recall: float


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy by number of training images.

    Attributes:
        path: Folder of the study.
        n_images: Number of images, test images aside.
        points: A point for each number of training images, rising; each accuracy is over images
            that were not learnt. The last number is that of the images of all folds but one.
        expected_of_all: What to expect of all images, of which the last point learnt four fifths.
        expected: What to expect of twice as many images as there are.
        classes: Recall of each class with half of the training images and with all, the lowest
            first.
    """

    path: Path
    n_images: int
    points: tuple[Point, ...]
    expected_of_all: Point
    expected: Point
    classes: tuple[ClassRecall, ...]

    @property
    def state_file(self) -> Path:
        """File of the settings that the curve was made with."""
        return LEARNING_CURVE.state_file(self.path)

    @property
    def table_file(self) -> Path:
        """Table with a row for each point."""
        return self.path / "learning_curve.csv"

    @property
    def classes_table(self) -> Path:
        """Table with a row for each class."""
        return self.path / "classes.csv"

    @property
    def picture(self) -> Path:
        """Picture of the curve."""
        return self.path / "learning_curve.png"


def learning_curve(
    data: str | Path,
    *,
    labels: str | Path | None = None,
    model: str | None = None,
    seed: int = 83,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> LearningCurve:
    """Find out how accuracy grows with the number of training images.

    A pretrained backbone runs once on each image. Logistic heads on its features then learn some of
    the images of all folds but one, each number twice the one before, and are evaluated on the
    images of that fold. Images that belong together, copies or a group, stay in one fold. What all
    and twice as many images would give is a line from the last point on, errors and numbers on
    logarithmic axes, see `evaluation.learning_curve.expected_at`. Test images are not used.
    Features are standardised by the statistics of all images.

    A network that is trained as a whole gains more from more images than such a head.

    A folder that holds another learning curve gets the new one in its place.

    Args:
        data: Built-in dataset, or a folder of images.
        labels: Table with the labels of the folder's images, as for `load`.
        model: Pretrained backbone; None takes that of recipe `logistic`.
        seed: Seed of the folds and of the images that are learnt.
        settings: Any other settings by dotted name, such as `image_size`.
        out: Folder; None takes `runs/learning-curve-DATA-MODEL`.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with all events; None draws on standard error.

    Raises:
        UserError: If a name, a setting or the data is wrong, there are too few images, or the
            folder holds something else.
        FailureError: If data or weights are not available, or a file cannot be written.
    """
    from convscope.report.figures import learning_curve_figure, save_figure

    progress = progress or console_progress()
    settings = flat(settings or {})
    require_settable(settings, _NOT_TO_SET)
    given = {**data_settings(data, labels), "seed": seed, "recipe": "logistic", **settings}
    if model is not None:
        if model in MODELS.names() and not is_backbone(model):
            raise ConfigError(_NEEDS_BACKBONE)
        given["model"] = model
    folder = folder_or_none(out, "--out")
    LEARNING_CURVE.require_place(folder, given["data_path"])
    plan = settle(Request(given), progress, load_once(data_dir, progress))
    _require_usable(plan)
    dataset = plan.dataset
    path = folder or ROOT / short_name(f"learning-curve-{dataset.name}-{plan.config.model}", 200)
    with LEARNING_CURVE.locked(path):
        n_images = sum(len(part) for part in dataset.parts_to_learn(refit=True))
        said = answers_by_size(plan, progress)
        whole = list(said.values())[-1]
        points = tuple(
            Point(size, float(each.right.mean()), *interval_of(each)) for size, each in said.items()
        )
        right = np.stack([each.right for each in said.values()])
        expected_of_all, expected = (
            expected_at(n, list(said), right, whole.groups, plan.config.seed)
            for n in (n_images, 2 * n_images)
        )
        classes = _classes(list(said.values())[-2], whole, dataset.class_names)
        found = LearningCurve(path, n_images, points, expected_of_all, expected, classes)
        about = {
            "content": dataset.provenance.get("fingerprint"),
            "config": plan.config.model_dump(mode="json"),
        }
        LEARNING_CURVE.write(path, about)
        _write_tables(found)
        save_figure(learning_curve_figure(points, [expected_of_all, expected]), found.picture)
    return found


def _require_usable(plan: Plan) -> None:
    config, dataset = plan.config, plan.dataset
    if dataset.multi_label:
        raise ConfigError(
            "a learning curve needs images of exactly one class each, and those of "
            f"{dataset.name} may have several"
        )
    if not config.trains_at_once:
        raise ConfigError(_NEEDS_BACKBONE)
    if config.augment.varies or config.tta.several:
        raise ConfigError(
            "a learning curve is that of images as they are: leave away augmentation (augment.*) "
            "and views (tta.*)"
        )


def answers_by_size(plan: Plan, progress: Progress) -> dict[int, Predictions]:
    """Return predictions for images that were not learnt, by the number of those that were.

    Args:
        plan: Settings of a logistic head on a frozen backbone, and their data.
        progress: Called with features, and with each number of images.

    Returns:
        Predictions of all images but test images, in the same order for each number; numbers rise.

    Raises:
        ConfigError: If there are too few images.
    """
    from convscope.planning.networks import input_spec
    from convscope.training.logistic import folds_of
    from convscope.training.out_of_fold import FrozenHeads

    config, dataset = plan.config, plan.dataset
    parts, n_classes = dataset.parts_to_learn(refit=True), len(dataset.class_names)
    heads = FrozenHeads(
        config, input_spec(dataset, config), parts, n_classes, plan.weights, progress
    )
    images, keys = heads.images, np.asarray(heads.together.keys)
    n_groups = len(np.unique(keys))
    if heads.together.grouped and n_groups < N_FOLDS:
        raise ConfigError(
            f"the images are of {n_groups} groups, and a learning curve needs {N_FOLDS}: "
            "images of a group are never both learnt from and tested on"
        )
    folds = folds_of(images.labels, config.seed, N_FOLDS, n_classes, heads.together)
    orders = []
    for number, (learnt, _) in enumerate(folds):
        rng = np.random.default_rng([config.seed, number])
        orders.append(learnt[nested_order(images.labels[learnt], keys[learnt], rng)])
    sizes = sizes_up_to(min(map(len, orders)), n_classes)
    if len(sizes) < 2:
        together = int(np.unique(keys, return_counts=True)[1].max())
        grouped = f", and {together:,} of them belong together" if together > 1 else ""
        raise ConfigError(
            f"{len(images):,} images of {n_classes:,} classes are too few for a learning curve: it "
            f"needs 50, and five for each class{grouped}"
        )
    rows = np.concatenate([held_out for _, held_out in folds])
    groups = None if images.groups is None else images.groups[rows]
    said = {}
    with progress.task("Learning curve", len(sizes), "sizes") as step:
        for size in sizes:
            learnt_and_held = [
                (order[:size], held_out) for order, (_, held_out) in zip(orders, folds, strict=True)
            ]
            probs = heads.probs(learnt_and_held)
            said[size] = Predictions(probs, images.labels[rows], images.ids[rows], "train", groups)
            step(1, f"{size:,} images: accuracy {said[size].right.mean():.4f}")
    return said


def _classes(
    half: Predictions, whole: Predictions, class_names: tuple[str, ...]
) -> tuple[ClassRecall, ...]:
    counts = np.bincount(whole.labels, minlength=len(class_names))
    recalls = [
        np.bincount(said.labels, said.right, len(class_names)) / np.maximum(counts, 1)
        for said in (half, whole)
    ]
    rows = zip(class_names, counts.tolist(), *(each.tolist() for each in recalls), strict=True)
    found = [ClassRecall(*row) for row in rows if row[1]]
    return tuple(sorted(found, key=lambda each: each.recall))


def _write_tables(found: LearningCurve) -> None:
    points = [asdict(each) for each in (*found.points, found.expected_of_all, found.expected)]
    kinds = ["measured"] * len(found.points) + ["expected"] * 2
    rows = [{"kind": kind, **point} for kind, point in zip(kinds, points, strict=True)]
    write_rows(found.table_file, ["kind", *points[0]], rows)
    classes = [
        asdict(each) | {"class_name": spreadsheet_text(each.class_name)} for each in found.classes
    ]
    write_rows(found.classes_table, list(classes[0]), classes)
