"""The ladders of the backbones: those whose weights can be had, or a stand-in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from convscope.datasets.source import table_of
from convscope.errors import (
    ConfigError,
    DataError,
    DownloadError,
    IntegrityError,
    TrainingError,
)
from convscope.models.backbones import BACKBONES
from convscope.progress import Progress
from convscope.recipe import RANDOM_WEIGHTS
from convscope.studies.comparison.arms import FIRST_SEED
from convscope.studies.ladder.rungs import LADDER, Ladder
from convscope.studies.tutorial.facts import BACKBONE_NAMES
from convscope.studies.tutorial.plan import AT_HAND, BackbonePlan, Plan


class Backbones:
    """The ladders of the tutorial.

    Args:
        path: Folder of the tutorial.
        plan: Extent of the tutorial.
        place: Settings that name the data.
        n_classes: Number of classes.
        weights: Folder of weights, "random", or None for the usual places.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with all events.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        place: dict[str, Any],
        n_classes: int,
        weights: str | None,
        data_dir: Path | str | None,
        progress: Progress,
    ) -> None:
        self._path, self._plan, self._place, self._n_classes = path, plan, place, n_classes
        self._weights, self._data_dir, self._progress = weights, data_dir, progress
        self.ladders: dict[str, Ladder] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.missing: dict[str, str] = {}
        self.failures: dict[str, str] = {}

    def climb(self, planned: BackbonePlan) -> Callable[[], bool]:
        """Return the work of one backbone; it returns whether a ladder is finished."""

        def work() -> bool:
            self._count(planned.name)
            if self._has_weights(planned.name):
                return self._ladder(planned.name, planned)
            if planned.instead and self._has_weights(planned.instead):
                return self._ladder(planned.instead, planned)
            return False

        return work

    def climb_at_hand(self) -> None:
        """Let the backbone that is installed with convscope climb, if no other could."""
        if self.ladders or self.failures or not self._plan.backbones:
            return
        self._progress.say(f"No weights of the tutorial's backbones; {AT_HAND} takes their place")
        longest = max(self._plan.backbones, key=lambda planned: max(planned.sizes, default=0))
        if self._has_weights(AT_HAND):
            self._ladder(AT_HAND, longest)

    def _has_weights(self, name: str) -> bool:
        from convscope.models.weights import find_weights

        if self._weights == RANDOM_WEIGHTS:
            return True
        try:
            find_weights(BACKBONES.get(name), self._weights, self._progress)
        except (DataError, DownloadError, IntegrityError) as error:
            self.missing[name] = str(error)
            self._progress.say(f"{BACKBONE_NAMES.get(name, name)} is left out: {error}")
            return False
        return True

    def _count(self, name: str) -> None:
        """Count the parameters of a backbone with the tutorial's head, which needs no weights."""
        from convscope.api.models import describe

        sheet = describe(name, recipe="tutorial-transfer", n_classes=self._n_classes)
        self.sizes[name] = (sheet.n_params, sheet.n_trainable)

    def _ladder(self, name: str, planned: BackbonePlan) -> bool:
        from convscope.studies.ladder.study import ladder

        folder = self._path / "ladders" / name
        if LADDER.state_file(folder).exists() and Ladder.read(folder).is_finished:
            self.ladders[name] = Ladder.read(folder)
            return True
        try:
            self.ladders[name] = ladder(
                name,
                data=self._place["data_path"] or self._place["data"],
                labels=table_of(self._place),
                seed=FIRST_SEED,
                sizes=planned.sizes,
                until=planned.until,
                weights=self._weights,
                settings=self._plan.settings,
                out=folder,
                data_dir=self._data_dir,
                progress=self._progress,
            )
        except (ConfigError, TrainingError) as error:
            self._progress.say(f"The ladder of {name} failed: {error}")
            self.failures[name] = str(error)
        return name in self.ladders
