"""The training of the three styles, their comparison, and a look inside one of the networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from convscope.datasets.samples import sample_images
from convscope.datasets.source import table_of
from convscope.errors import ConfigError, TrainingError
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.storage import atomic_path
from convscope.studies.comparison.arms import FIRST_SEED, seeds_of
from convscope.studies.comparison.comparison import COMPARISON, Comparison
from convscope.studies.executor import Job, execute, execute_here
from convscope.studies.folder import look_of
from convscope.studies.tutorial.plan import SEVERAL, STYLES, Plan
from convscope.types import Dataset


class Styles:
    """The runs of the small network.

    Args:
        path: Folder of the tutorial.
        plan: Extent of the tutorial.
        place: Settings that name the data.
        configs: Resolved settings of each style.
        data_dir: Further folder to look for the files of a built-in dataset.
        fingerprint: That of the images, see `Job`.
        progress: Called with all events.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        place: dict[str, Any],
        configs: dict[str, RunConfig],
        data_dir: Path | str | None,
        fingerprint: str | None,
        progress: Progress,
    ) -> None:
        self._path, self._plan, self._place, self._configs = path, plan, place, configs
        self._data_dir, self._fingerprint, self._progress = data_dir, fingerprint, progress
        self.failures: dict[str, str] = {}
        self.comparison: Comparison | None = None
        self.inside = self.explorer = ""

    @property
    def planned(self) -> list[tuple[str, int]]:
        """Style and seed of each run: one style with all seeds, the others with the first."""
        first, *others = seeds_of(self._plan.n_seeds)
        return [*((style, first) for style in STYLES), *((SEVERAL, seed) for seed in others)]

    @property
    def trained(self) -> list[Run]:
        """Finished runs, in the order of the plan."""
        runs = [Run(self._folder(style, seed)) for style, seed in self.planned]
        return [run for run in runs if run.state_file.exists() and run.status == "finished"]

    def train(self, style: str, seed: int) -> Callable[[], bool]:
        """Return the work of one run; it returns whether the run is finished."""

        def work() -> bool:
            config = self._configs[style].model_copy(update={"seed": seed})
            folder = self._folder(style, seed)
            job = Job(config, folder, self._data_dir, fingerprint=self._fingerprint)
            try:
                if self._plan.quick:
                    # In this process, which saves the seconds that another takes to start.
                    execute_here(job, self._progress)
                    return True
                failure = execute(job, self._progress).failure
            except (ConfigError, TrainingError) as error:
                failure = str(error)
            if failure is not None:
                self._progress.say(f"{style}, seed {seed} failed: {failure}")
                self.failures[style] = failure
            return failure is None

        return work

    def compare(self) -> bool:
        """Compare the styles on the test images, once all of them are trained."""
        from convscope.api.evaluate import evaluate
        from convscope.studies.comparison.study import compare_runs

        folder = self._path / "comparison"
        place: dict[str, Any] = {
            "data": self._place["data_path"],
            "labels": table_of(self._place),
            "data_dir": self._data_dir,
            "progress": self._progress,
        }
        # With the same seed in each style: whether they are one network shows in single images.
        same = [run for run in self.trained if run_config(run).seed == FIRST_SEED]
        if COMPARISON.state_file(folder).exists():
            self.comparison = Comparison.read(folder)
        elif len(same) > 1:
            self.comparison = compare_runs(
                [run.path for run in same], out=folder, final=True, **place
            )
        for run in self.trained:
            if "test" not in run.metrics:
                look = look_of(self._path, self.trained[0])
                evaluate(run, by="tutorial", look=look, **place)
        return self.comparison is not None

    def look_inside(self, dataset: Dataset) -> None:
        """Explain the first network's answer for a sample image, on a page of its own."""
        from PIL import Image

        from convscope.api.explain import explain

        page = self._path / "inside" / "sample.html"
        if not page.exists() and (trained := self.trained):
            images, _ = sample_images(dataset)
            page.parent.mkdir(exist_ok=True)
            file = page.with_suffix(".png")
            with atomic_path(file) as temporary:
                Image.fromarray(images[0].squeeze()).save(temporary, format="PNG")
            explain(trained[0], [file], out=page.parent, progress=self._progress)
        explorer = page.with_name(f"{page.stem}-explorer.html")
        if page.exists():
            self.inside = f"{page.parent.name}/{page.name}"
        if explorer.exists():
            self.explorer = f"{explorer.parent.name}/{explorer.name}"

    def _folder(self, style: str, seed: int) -> Path:
        return self._path / "runs" / f"{style}-seed{seed}"
