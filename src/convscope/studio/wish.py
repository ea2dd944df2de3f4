"""A training that is wanted, as the form of the studio has it, and the command for it."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from convscope.datasets import DATASETS
from convscope.datasets.folders.columns import LabelTable
from convscope.datasets.source import data_settings
from convscope.errors import ConvscopeError
from convscope.images.find import kind_of
from convscope.paths import user_path
from convscope.recipe import read_run_config, spell_setting
from convscope.run import Run
from convscope.studio.jobs import Job
from convscope.studio.watch import time_limit
from convscope.studio.workplace import Workplace

AUTO = "auto"
"""The search for the best classifier, in place of a recipe."""


@dataclass
class Wish:
    """What is to be trained, as the form has it.

    Attributes:
        data: Folder, archive, list of images, address, or name of a dataset.
        labels: Table of labels; empty for the folder's own.
        group: Pattern of the groups in the names of images; empty for none.
        near_copies: Whether near copies are kept in one part.
        recipe: Registered recipe, or `AUTO`.
        minutes: Time limit of a search.
        model: Registered model; empty for the recipe's.
        epochs: Number of epochs; None for the recipe's.
        sealed: Whether the test images stay sealed.
        like: Settings file of a run whose settings hold as long as recipe and model are its own.
        like_recipe: Recipe of that run.
        like_model: Model of that run.
        like_resets: Settings of that run, by dotted name, that an empty field of the form undoes.
    """

    data: str = ""
    labels: str = ""
    group: str = ""
    near_copies: bool = False
    recipe: str = AUTO
    minutes: float | None = 5
    model: str = ""
    epochs: float | None = None
    sealed: bool = False
    like: str = ""
    like_recipe: str = ""
    like_model: str = ""
    like_resets: frozenset[str] = frozenset()

    @property
    def is_like(self) -> bool:
        """Whether all settings of an earlier run hold, also those that the form does not show."""
        same = (self.recipe, self.model) == (self.like_recipe, self.like_model)
        return bool(self.like) and same

    def words(self, out: Path) -> list[str]:
        """Return the words of the command.

        Args:
            out: Run folder.

        Examples:
            >>> " ".join(Wish("photos", minutes=5).words(Path("runs/photos")))
            'train --data photos --minutes 5 --out runs/photos'
        """
        words = ["train", "--data", self.data]
        words += ["--labels", self.labels] if self.labels else []
        if self.recipe == AUTO:
            words += ["--minutes", f"{self.minutes:g}"] if self.minutes else []
        else:
            if self.is_like:
                words += ["--config", self.like]
            else:
                words += ["--recipe", self.recipe]
                words += ["--model", self.model] if self.model else []
            words += ["--epochs", f"{self.epochs:.0f}"] if self.epochs else []
        words += ["--set", spell_setting("split.group", self.group)] if self.group else []
        words += ["--set", "split.near_copies=true"] if self.near_copies else []
        if self.is_like:
            none = {
                "labels": (self.labels, "null"),
                "split.group": (self.group, "null"),
                "split.near_copies": (self.near_copies, "false"),
            }
            for key in sorted(self.like_resets):
                there, value = none[key]
                words += [] if there else ["--set", f"{key}={value}"]
        words += ["--no-test"] if self.sealed else []
        return [*words, "--out", str(out)]

    def stem(self) -> str:
        """Return the beginning of the run's name."""
        if self.is_like:
            return Path(self.like).parent.name
        name = Path(self.data.rstrip("/\\")).name.partition(".")[0] or "run"
        return f"{name}-{'auto' if self.recipe == AUTO else self.model or self.recipe}"

    def problem(self) -> str:
        """Return what is missing, in a line; empty if it can be trained."""
        if not self.data.strip():
            return "Name the data: a folder of images, or a dataset."
        if self.recipe == AUTO and not self.minutes:
            return "Give the minutes that the search may take."
        try:
            place = data_settings(self.data, self.labels or None)
            path = place["data_path"]
            if place["data"] == "folder" and kind_of(Path(path)) == "dangling":
                return f"There is no folder, archive or dataset {self.data}."
        except ConvscopeError as error:
            return str(error)
        return ""


def typed(text: str | None) -> str:
    """Return a name or path without blanks around it, unless there is something of just that name.

    Examples:
        >>> typed(" digits "), typed(None)
        ('digits', '')
    """
    given = text or ""
    return given if os.path.lexists(given) else given.strip()


def placed(text: str | None) -> str:
    """Return what `typed` does, with an absolute path where there is one of that name.

    A job may begin in another folder than the one in which the studio was when it was asked for.

    Args:
        text: Dataset, folder or archive, or table of labels, perhaps with its columns.

    Examples:
        >>> placed(" digits "), placed("no such folder")
        ('digits', 'no such folder')
    """
    given = typed(text)
    if not given or given in DATASETS.names():
        return given
    try:
        table = LabelTable(given) if os.path.lexists(given) else LabelTable.parse(given)
        path = user_path(table.path, "data")
    except ConvscopeError:
        return given  # whoever reads it says why
    return str(table.at(str(path.absolute()))) if os.path.lexists(path) else given


def as_before(place: Workplace, name: str) -> Wish:
    """Return the wish to train as a run was trained; the usual one if its settings are unknown.

    Args:
        place: Workplace.
        name: Name of the run.
    """
    try:
        run = place.run(name)
        config = read_run_config(run.config_file)
        sealed = "test" not in run.metrics
    except ConvscopeError:
        return Wish()
    split = config.split
    settings = {
        "labels": config.labels,
        "split.group": split.group,
        "split.near_copies": split.near_copies,
    }
    wish = Wish(sealed=sealed, group=split.group or "", near_copies=split.near_copies)
    job = _job_of(place, run)
    minutes = None if job is None else time_limit(job)
    if minutes is not None or run.tried_file.exists():
        return replace(wish, minutes=minutes or 5)
    return replace(
        wish,
        recipe=config.recipe,
        model=config.model,
        epochs=None if config.trains_at_once else config.epochs,
        like=str(run.config_file),
        like_recipe=config.recipe,
        like_model=config.model,
        like_resets=frozenset(key for key, value in settings.items() if value),
    )


def _job_of(place: Workplace, run: Run) -> Job | None:
    """Return the job that began a run; None if the studio did not begin it."""
    for job in place.jobs.all():
        if job.run == run.path and "--resume" not in job.words:
            return job
    return None
