"""Search for wrong labels among training images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope.datasets.source import data_settings
from convscope.errors import ConfigError
from convscope.evaluation.telling import Seen, seen_at
from convscope.models import is_backbone
from convscope.paths import short_name
from convscope.planning.data import load_once
from convscope.planning.plan import Plan
from convscope.planning.settle import Request, settle
from convscope.planning.usual import usual_recipe
from convscope.progress import Progress, console_progress
from convscope.recipe import RunConfig, flat, require_settable
from convscope.recipes import recipe_made_for
from convscope.remote import folder_or_none
from convscope.run import ROOT, Run
from convscope.storage import write_rows
from convscope.studies.executor import Executor, Job, LocalExecutor
from convscope.studies.folder import StudyKind, as_read_back
from convscope.studies.folds import train_folds
from convscope.types import Dataset, Predictions, Split
from convscope.wording import spreadsheet_path, spreadsheet_text

SUSPECTS = StudyKind("search for wrong labels", "suspects.json")

_N_PICTURED = 40

_NOT_TO_SET = {
    **dict.fromkeys(("data", "data_path"), "--data names the images"),
    **{key: f"there is the option --{key}" for key in ("labels", "seed", "model", "recipe")},
    "split.folds": "there is the option --folds",
    **dict.fromkeys(("split.fold", "split.fold_as"), "each fold is held out in turn"),
}
"""Settings that cannot be set, and why."""


@dataclass(frozen=True)
class Suspicions:
    """Training images whose labels are in doubt, and their folder.

    Attributes:
        path: Folder, with a run for each fold below `folds/`.
        n_images: Number of images that were checked: all but test images.
        accuracy: Accuracy of the networks on images that they were not trained on, a fraction.
        suspects: Suspects, the most suspect first.
    """

    path: Path
    n_images: int
    accuracy: float
    suspects: tuple[Seen, ...]

    @property
    def state_file(self) -> Path:
        """File of the settings, from which a stopped search resumes."""
        return SUSPECTS.state_file(self.path)

    @property
    def table_file(self) -> Path:
        """Table with a row for each suspect."""
        return self.path / "suspects.csv"

    @property
    def picture(self) -> Path:
        """Picture of the most suspect images."""
        return self.path / "suspects.png"


def suspects(
    data: str | Path,
    *,
    labels: str | Path | None = None,
    model: str | None = None,
    recipe: str | None = None,
    folds: int = 4,
    seed: int = 83,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Suspicions:
    """Find training images that are probably labelled wrong.

    The training images, with validation images of their own if there are any, are divided into
    folds, and for each fold a network is trained on the others: so each image is checked by a
    network that was not trained on it. Confident learning then finds the labels that those networks
    rule out. Called again, it resumes. Test images are not used. With a frozen backbone and recipe
    `logistic`, the usual way on a folder of photos, the backbone runs once on each image and only
    heads are trained.

    Args:
        data: Built-in dataset, or a folder of images.
        labels: Table with the labels of the folder's images, as for `load`.
        model: Registered model; the better it is, the fewer hard images are taken for wrong ones.
            None takes the pretrained network that is usual for a folder of images, if its weights
            are at hand; otherwise `fast-small`.
        recipe: Registered recipe; None takes the one that was made for the network, such as `fast`
            for `fast-small`, otherwise the model's default.
        folds: Number of folds, at least 2.
        seed: Seed of the networks.
        settings: Any other settings by dotted name.
        out: Folder; None takes `runs/suspects-DATA-MODEL`, with a number if that has the results
            for other images, such as before labels were corrected, or for other settings.
        data_dir: Further folder to look for the files of a built-in dataset.
        executor: Where to train networks; None trains one after the other on this machine. Heads
            on a frozen backbone are trained in this process, so it is refused for them.
        progress: Called with all events; None draws on standard error.

    Raises:
        UserError: If a name, a setting or the data is wrong, or the folder holds something else.
        TrainingError: If a network cannot be trained.
        FailureError: If data is not available, or a file cannot be written.
    """
    from convscope.evaluation.suspects import suspect_labels
    from convscope.report.figures import samples_figure, save_figure

    progress = progress or console_progress()
    settings = flat(settings or {})
    require_settable(settings, _NOT_TO_SET)
    # The labels of validation images deserve the check too.
    by_folds = {"split.folds": folds, "split.fold_as": "val_of_all"}
    given = {**data_settings(data, labels), "seed": seed, **by_folds, **settings}
    folder = folder_or_none(out, "--out")
    SUSPECTS.require_place(folder, given["data_path"])
    load = load_once(data_dir, progress)
    free = model is None and recipe is None and not settings.keys() & {"epochs", "image_size"}
    if not (free and usual_recipe(given, Progress())):
        given["model"] = model or "fast-small"
        recipe = recipe or recipe_made_for(given["model"])
        if recipe is not None:
            given["recipe"] = recipe
    plan = settle(Request(given), progress, load)
    config, dataset = plan.config, plan.dataset
    if dataset.multi_label:
        raise ConfigError(
            "this search needs images of exactly one class each, and those of "
            f"{dataset.name} may have several; train a model, then look at the hardest images: "
            "convscope gallery RUN"
        )
    by_heads = is_backbone(config.model) and config.trains_at_once and not config.augment.varies
    if by_heads and executor is not None:
        raise ConfigError(
            f"--ray and --threads have no effect here: {config.model} is frozen, and its heads are "
            "trained in this process; omit them, or train a network for each fold, such as "
            "--model fast-small"
        )
    asked = as_read_back(
        {"content": dataset.provenance.get("fingerprint"), "config": config.model_dump()}
    )
    # Labels that are corrected after a search make it one of other images.
    usual = ROOT / short_name(f"suspects-{dataset.name}-{config.model}", 200)
    path = folder or SUSPECTS.free_place(usual, asked)
    with SUSPECTS.locked(path):
        SUSPECTS.require_same(path, SUSPECTS.read(path), asked)
        SUSPECTS.write(path, {"asked": asked})

        if by_heads:
            said = _by_heads(plan, load, progress)
        else:
            jobs = _jobs(path, given, folds, load, data_dir, asked["content"])
            said = _by_networks(jobs, executor or LocalExecutor(), progress)
        names = dataset.class_names
        doubted = tuple(seen_at(said, index, names) for index in suspect_labels(said))
        accuracy = float(said.right.mean())
        found = Suspicions(path, len(said.labels), accuracy, doubted)
        _write_table(found)
        if doubted:
            place = {
                str(image_id): (split, index)
                for split in (dataset.train, dataset.validation)
                for index, image_id in enumerate(split.ids)
            }
            chosen = [(each, *place[each.image_id]) for each in doubted[:_N_PICTURED]]
            images = np.stack([split.images[index] for _, split, index in chosen])
            captions = [each.caption for each, _, _ in chosen]
            save_figure(samples_figure(images, captions), found.picture)
    return found


def _jobs(
    path: Path,
    given: Mapping[str, Any],
    folds: int,
    load: Callable[[RunConfig], Dataset],
    data_dir: Path | str | None,
    fingerprint: str | None,
) -> list[Job]:
    """Return the training of a network for each fold."""
    return [
        Job(
            settle(Request({**given, "split.fold": fold}), Progress(), load).config,
            path / "folds" / str(fold),
            data_dir,
            f"Fold {fold + 1} of {folds}",
            fingerprint,
        )
        for fold in range(folds)
    ]


def _by_networks(jobs: Sequence[Job], executor: Executor, progress: Progress) -> Predictions:
    """Train a network for each fold; return the predictions of all for what they did not learn."""
    from convscope.evaluation.predictions import read_predictions

    train_folds(jobs, executor, progress)
    parts = [read_predictions(Run(job.folder).predictions_file)[0]["val"] for job in jobs]
    return Predictions.joined(parts, "train")


def _by_heads(plan: Plan, load: Callable[[RunConfig], Dataset], progress: Progress) -> Predictions:
    """Train a head for each fold on a frozen backbone; return all their predictions."""
    from convscope.planning.networks import input_spec
    from convscope.training.out_of_fold import FrozenHeads, out_of_fold

    config, dataset = plan.config, plan.dataset
    parts = dataset.parts_to_learn(refit=True)
    whole = Split.joined(parts)
    fold_of: dict[str, int] = {}
    for fold in range(config.split.folds or 1):
        split = config.split.model_copy(update={"fold": fold})
        divided = load(config.model_copy(update={"split": split}))
        fold_of |= dict.fromkeys(map(str, divided.validation.ids), fold)
    folds = np.array([fold_of[str(image_id)] for image_id in whole.ids])
    spec, n_classes = input_spec(dataset, config), len(dataset.class_names)
    heads = FrozenHeads(config, spec, parts, n_classes, plan.weights, progress)
    probs = out_of_fold(heads, folds)
    return Predictions(probs, whole.labels, whole.ids, "train", whole.groups)


def _write_table(found: Suspicions) -> None:
    columns = ["image_id", "class_name", "answer", "prob", "prob_label"]
    rows = []
    for each in found.suspects:
        row = {column: getattr(each, column) for column in columns}
        row["image_id"] = spreadsheet_path(each.image_id)
        row |= {key: spreadsheet_text(row[key]) for key in ("class_name", "answer")}
        rows.append(row)
    write_rows(found.table_file, columns, rows)
