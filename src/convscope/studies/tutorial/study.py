"""The tutorial as a study: its runs and ladders, one after another, and the page of what is there.

Everything is trained by the executor and the ladder, as `compare` and `ladder` do. A finished run
is never trained again, so a stopped tutorial resumes where it was, and a repeated one only writes
its page, perhaps in another language.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convscope.datasets.samples import sample_images
from convscope.datasets.source import data_settings, load_source, words_of
from convscope.errors import ConfigError, DataError
from convscope.paths import short_name
from convscope.planning.data import load_once
from convscope.planning.settle import Request, settle, weights_setting
from convscope.progress import Progress, console_progress
from convscope.recipe import RANDOM_WEIGHTS
from convscope.remote import folder_or_none
from convscope.run import ROOT, Run
from convscope.studies.comparison.arms import FIRST_SEED
from convscope.studies.comparison.comparison import Comparison
from convscope.studies.folder import StudyKind, as_read_back
from convscope.studies.ladder.rungs import Ladder
from convscope.studies.tutorial.backbones import Backbones
from convscope.studies.tutorial.facts import BACKBONE_NAMES, DataFacts, Facts, Step, StyleRun
from convscope.studies.tutorial.plan import (
    EPOCHS,
    QUICK,
    SEVERAL,
    STYLES,
    WHOLE,
    seconds_of_ladder,
    seconds_of_style,
)
from convscope.studies.tutorial.styles import Styles
from convscope.studies.tutorial.words import Words, words_in
from convscope.types import Dataset
from convscope.wording import command_line, duration

TUTORIAL = StudyKind("tutorial", "tutorial.json")

_COMPARISON_S = 20.0
_BETWEEN_PAGES_S = 60.0


@dataclass(frozen=True)
class Tutorial:
    """The tutorial in a folder.

    Attributes:
        path: Folder, with the runs below `runs/` and a ladder for each backbone below `ladders/`.
        steps: Its parts, with the time that each took.
        comparison: Comparison of the three styles; None if they could not be trained.
        ladders: Ladder of each backbone whose weights were found.
        missing: Reason why there are no weights, by backbone.
        failures: Reason why a run or ladder failed, by its model.
        headline: What came out, in the language of the page.
    """

    path: Path
    steps: tuple[Step, ...]
    comparison: Comparison | None = None
    ladders: Mapping[str, Ladder] = dataclasses.field(default_factory=dict)
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    headline: str = ""

    @property
    def page(self) -> Path:
        """The page with everything in it."""
        return self.path / "tutorial.html"


def tutorial(
    data: str | Path = "cifar10",
    *,
    labels: str | Path | None = None,
    quick: bool = False,
    language: str = "en",
    weights: Path | str | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    plan_only: bool = False,
    progress: Progress | None = None,
) -> Tutorial:
    """Run the tutorial that convscope grew out of, from the images to its conclusions, as one page.

    The same network in Keras' three styles, compared; then three backbones, each as the tutorial
    used it and with one problem fixed at a time. Called again, it resumes; what is finished is
    kept, and the page is written again, in the language that is asked for now.

    Args:
        data: A built-in dataset, or a folder of images.
        labels: Table with the labels of the folder's images, as for `load`.
        quick: Whether to take fewer images, epochs and steps: minutes, and lower accuracies.
        language: Code of the language of the page: "en" or "ko".
        weights: Folder with ImageNet weights of the backbones, or "random"; None looks in the usual
            places and downloads what is missing. A backbone without weights gets a section that
            says so.
        out: Folder of the tutorial; None takes `runs/tutorial-DATA`, or `runs/tutorial-DATA-quick`
            with `quick`.
        data_dir: Further folder to look for the files of a built-in dataset.
        plan_only: Whether to return the steps with their expected times, and do nothing.
        progress: Called with all events; None draws on standard error.

    Raises:
        UserError: If a name or the data is wrong, or the folder holds something else.
        FailureError: If the data is not available, or a file cannot be written.
    """
    place, folder = data_settings(data, labels), folder_or_none(out, "--out")
    if not plan_only:
        TUTORIAL.require_place(folder, place["data_path"])
    study = _Study(
        words_in(language),
        place,
        quick=quick,
        weights=weights_setting(weights),
        out=folder,
        data_dir=data_dir,
        progress=progress or console_progress(),
    )
    if not plan_only:
        with TUTORIAL.locked(study.path):
            study.run()
    return study.result()


class _Study:
    """A tutorial in progress: its data is loaded and its runs are settled, nothing is written."""

    def __init__(
        self,
        words: Words,
        place: dict[str, Any],
        *,
        quick: bool,
        weights: str | None,
        out: Path | None,
        data_dir: Path | str | None,
        progress: Progress,
    ) -> None:
        if weights not in (None, RANDOM_WEIGHTS) and not Path(weights).exists():
            raise DataError(f"no weights at {weights}; give a file or a folder")
        self.words, self.place, self.progress = words, place, progress
        self.plan = QUICK if quick else WHOLE
        more = dict(self.plan.settings)
        if self.plan.epochs is not None:
            more["epochs"] = self.plan.epochs
        own = {"model": STYLES[0], "recipe": "tutorial", "seed": FIRST_SEED}
        request = Request({**place, **own, **more})
        settled = settle(request, progress, load_once(data_dir, progress))
        self.dataset = settled.dataset
        configs = {style: settled.config.model_copy(update={"model": style}) for style in STYLES}
        if self.dataset.multi_label:
            raise ConfigError(
                f"the tutorial is about images of one class each, and those of {self.dataset.name} "
                "may have several; see: convscope train --help"
            )
        name = f"tutorial-{self.dataset.name}{'-quick' if quick else ''}"
        self.path = out or ROOT / short_name(name, 200)
        whole = self.dataset
        if self.plan.images is not None:
            whole = load_source(place, data_dir, Progress())
        self.n_whole = sum(_n_images(whole).values())
        content = self.dataset.provenance.get("fingerprint")
        self.asked = as_read_back(
            {**place, "plan": dataclasses.asdict(self.plan), "content": content}
        )
        self.styles = Styles(self.path, self.plan, place, configs, data_dir, content, progress)
        n_classes = len(self.dataset.class_names)
        self.backbones = Backbones(
            self.path, self.plan, place, n_classes, weights, data_dir, progress
        )
        self.steps: dict[str, Step] = {}
        self.work: dict[str, Callable[[], bool]] = {}
        self._list_steps()
        self.headline, self._written = "", time.monotonic()

    @property
    def state_file(self) -> Path:
        """File of the settings and times, from which a stopped tutorial resumes."""
        return TUTORIAL.state_file(self.path)

    def _list_steps(self) -> None:
        """List the parts of the work with their expected times."""

        def add(step: Step, work: Callable[[], bool]) -> None:
            self.steps[step.name], self.work[step.name] = step, work

        side, n_images = self.dataset.image_shape[0], _n_images(self.dataset)
        for style, seed in self.styles.planned:
            seconds = seconds_of_style(n_images["train"], side, self.plan.epochs or EPOCHS)
            add(Step(style, seconds, seed), self.styles.train(style, seed))
        add(Step("", _COMPARISON_S), self.styles.compare)
        n_all = sum(n_images.values())
        for each in self.plan.backbones:
            seconds = seconds_of_ladder(each.name, each.sizes, each.until, n_all)
            name = BACKBONE_NAMES.get(each.name, each.name)
            add(Step(name, seconds), self.backbones.climb(each))

    def run(self) -> None:
        """Do each step, or take up its result, and write the page of what is there."""
        self._take_up()
        waiting = [step.expected_s for step in self.steps.values() if step.seconds is None]
        if waiting:
            self.progress.say(
                f"{len(waiting)} steps, about {duration(sum(waiting))} on two cores. Stop at any "
                "time; the same command resumes."
            )
        took = expected = 0.0
        for number, (name, step) in enumerate(list(self.steps.items()), 1):
            if step.seconds is None:
                # The steps before have shown how fast this machine is.
                pace = took / expected if expected else 1.0
                left = sum(s.expected_s for s in self.steps.values() if s.seconds is None)
                self.progress.say(
                    f"Step {number} of {len(self.steps)}: {name} (about "
                    f"{duration(pace * step.expected_s)}; {duration(pace * left)} left in all)"
                )
            start = time.monotonic()
            finished = self.work[name]()
            if step.seconds is None and finished:
                seconds = time.monotonic() - start
                took, expected = took + seconds, expected + step.expected_s
                self.steps[name] = dataclasses.replace(step, seconds=round(seconds, 1))
                self._write_state()
                if time.monotonic() - self._written > _BETWEEN_PAGES_S:
                    self.write()
        self.styles.look_inside(self.dataset)
        self.backbones.climb_at_hand()
        self.write()

    def _take_up(self) -> None:
        """Take up the times of a stopped tutorial, or write down the plan of a new one."""
        state = TUTORIAL.read(self.path)
        if state is not None:
            try:
                seconds = dict(state["seconds"])
            except (KeyError, TypeError, ValueError):
                raise TUTORIAL.damaged(self.path) from None
            TUTORIAL.require_same(self.path, state, self.asked)
            for name, step in self.steps.items():
                self.steps[name] = dataclasses.replace(step, seconds=seconds.get(name))
        self._write_state()

    def _write_state(self) -> None:
        seconds = {step.name: step.seconds for step in self.steps.values() if step.seconds}
        TUTORIAL.write(self.path, {"asked": self.asked, "seconds": seconds})

    def write(self) -> None:
        """Write the page."""
        from convscope.report.page import write_page
        from convscope.studies.tutorial.page import tutorial_page

        page = tutorial_page(self._facts())
        self.headline, self._written = page.verdict, time.monotonic()
        write_page(page, self.result().page)

    def _facts(self) -> Facts:
        from convscope.api.models import describe

        samples, names = sample_images(self.dataset)
        side, _, channels = self.dataset.image_shape
        picture = self.path / "architecture.svg"
        n_classes = len(self.dataset.class_names)
        sheet = describe(
            SEVERAL, image_size=side, channels=channels, n_classes=n_classes, picture=picture
        )
        return Facts(
            words=self.words,
            plan=self.plan,
            data=DataFacts(
                name=self.dataset.name,
                registered=self.place["data_path"] is None,
                options=words_of(self.place),
                class_names=self.dataset.class_names,
                n_images=_n_images(self.dataset),
                n_whole=self.n_whole,
                samples=samples,
                sample_names=names,
            ),
            sheet=sheet,
            architecture=picture.read_text(encoding="utf-8"),
            runs=[_facts_of(run) for run in self.styles.trained],
            comparison=self.styles.comparison,
            ladders=self.backbones.ladders,
            sizes=self.backbones.sizes,
            missing=self.backbones.missing,
            failures={**self.styles.failures, **self.backbones.failures},
            inside=self.styles.inside,
            explorer=self.styles.explorer,
            steps=list(self.steps.values()),
            folder=str(self.path),
            again=self._again(),
            versions=_versions(self.styles.trained),
        )

    def _again(self) -> str:
        options: list[object] = [*words_of(self.place)]
        options += ["--quick"] if self.plan.quick else []
        options += [] if self.words.language == "en" else ["--language", self.words.language]
        return command_line("tutorial", *options, "--out", self.path)

    def result(self) -> Tutorial:
        """Return the tutorial as it stands."""
        return Tutorial(
            self.path,
            tuple(self.steps.values()),
            self.styles.comparison,
            self.backbones.ladders,
            self.backbones.missing,
            {**self.styles.failures, **self.backbones.failures},
            self.headline,
        )


def _n_images(dataset: Dataset) -> dict[str, int]:
    return {name: len(part) for name, part in dataset.parts.items()}


def _facts_of(run: Run) -> StyleRun:
    from convscope.training.results import read_results

    style, _, seed = run.path.name.rpartition("-seed")
    return StyleRun(style, int(seed), str(run.path), read_results(run.results_file), run.metrics)


def _versions(runs: list[Run]) -> str:
    """Return what the first run was trained with, in a line."""
    if not runs:
        return ""
    found = runs[0].environment
    packages = [f"{name} {version}" for name, version in found["packages"].items()]
    return ", ".join([f"Python {found['python']}", *packages, str(found["cpu"])])
