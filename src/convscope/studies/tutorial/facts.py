"""What the sections are written from: the data, and whatever has been trained so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from convscope.models.sheet import ModelSheet
from convscope.studies.comparison.comparison import Comparison
from convscope.studies.ladder.rungs import Ladder
from convscope.studies.tutorial import published
from convscope.studies.tutorial.plan import EPOCHS, SEVERAL, STYLES, Plan
from convscope.studies.tutorial.words import Words
from convscope.types import UInt8Array
from convscope.wording import command_line, duration


@dataclass(frozen=True)
class DataFacts:
    """The images of the tutorial.

    Attributes:
        name: Name of the data.
        registered: Whether it is a built-in dataset, not a folder.
        options: Options of a command line that name it.
        class_names: Names in the order of the labels.
        n_images: Number of images of "train", "val" and "test".
        n_whole: Number of images before some were drawn.
        samples: Shape (n, height, width, channels), some training images.
        sample_names: Class name of each.
    """

    name: str
    registered: bool
    options: tuple[str, ...]
    class_names: Sequence[str]
    n_images: Mapping[str, int]
    n_whole: int
    samples: UInt8Array
    sample_names: Sequence[str]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        height, width, channels = self.samples.shape[1:]
        return (height, width, channels)

    @property
    def is_tutorials(self) -> bool:
        """Whether it is the data of the tutorial, so that figures can be compared."""
        return self.registered and self.name == published.DATA


@dataclass(frozen=True)
class StyleRun:
    """A trained network of one style.

    Attributes:
        style: Registered model.
        seed: Seed of the run.
        path: Run folder.
        history: Rows of `results.csv`.
        metrics: Contents of `metrics.json`.
    """

    style: str
    seed: int
    path: str
    history: Sequence[dict[str, Any]]
    metrics: Mapping[str, Any]

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy, a fraction; None while the test images are sealed."""
        return self.metrics["test"]["accuracy"] if "test" in self.metrics else None


@dataclass(frozen=True)
class Step:
    """A part of the work.

    Attributes:
        subject: Style or backbone; empty for the comparison of the styles.
        expected_s: Expected seconds on two cores.
        seed: Seed of a style's run; None for anything else.
        seconds: Seconds that it took; None if it has not been done in this folder yet.
    """

    subject: str
    expected_s: float
    seed: int | None = None
    seconds: float | None = None

    @property
    def name(self) -> str:
        """Name in English, for messages and files."""
        if self.seed is not None:
            return f"{self.subject}, seed {self.seed}"
        return f"ladder of {self.subject}" if self.subject else "comparison of the styles"


@dataclass(frozen=True)
class Facts:
    """Everything that the sections need.

    Attributes:
        words: Words of the page's language.
        plan: Extent of the tutorial.
        data: The images.
        sheet: Layers of the small network; None in a notebook.
        architecture: Picture of it, as the text of an SVG; empty in a notebook.
        runs: Runs of the small network that have been trained.
        comparison: Comparison of the styles; None before the last run is trained.
        ladders: Ladder of each backbone that has been trained.
        sizes: Number of parameters and of trainable ones, by backbone.
        missing: Reason why there are no weights, by backbone.
        failures: Reason why a run or ladder failed, by its name.
        inside: Page that looks inside the network, relative to the tutorial's; may be empty.
        explorer: Page to play with the network, likewise.
        steps: Parts of the work, in order.
        folder: Folder of the tutorial.
        again: Command that continues it, or repeats it.
        versions: What it was made with, for people.
    """

    words: Words
    plan: Plan
    data: DataFacts
    sheet: ModelSheet | None = None
    architecture: str = ""
    runs: Sequence[StyleRun] = ()
    comparison: Comparison | None = None
    ladders: Mapping[str, Ladder] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    inside: str = ""
    explorer: str = ""
    steps: Sequence[Step] = ()
    folder: str = ""
    again: str = ""
    versions: str = ""

    @property
    def epochs(self) -> int:
        """Epochs of the small network."""
        return self.plan.epochs or EPOCHS

    @property
    def done(self) -> bool:
        """Whether something has been trained: without it, a section has no results."""
        return bool(self.runs or self.ladders)

    def runs_of(self, style: str) -> list[StyleRun]:
        """Return the trained runs of a style, by seed."""
        return sorted((run for run in self.runs if run.style == style), key=lambda run: run.seed)

    @property
    def first_run(self) -> StyleRun | None:
        """Run of the style with several seeds, with the first seed."""
        runs = self.runs_of(SEVERAL) or list(self.runs)
        return runs[0] if runs else None

    def command(self, *words: object) -> str:
        """Return a command on this data."""
        return command_line(*words, *self.data.options)


STYLE_NAMES = dict(zip(STYLES, ("Sequential", "Functional API", "Subclassing"), strict=True))
"""Names of the styles, which are the same in each language."""

BACKBONE_NAMES = {
    "vgg16": "VGG16",
    "mobilenet_v2": "MobileNetV2",
    "resnet50_v2": "ResNet50V2",
    "resnet50": "ResNet50",
    "efficientnet_lite0": "EfficientNet-Lite0",
}
"""Names of the backbones in their papers."""


def percent(share: float) -> str:
    """Return a fraction in per cent.

    Examples:
        >>> percent(0.7102)
        '71.0%'
    """
    return f"{100 * share:.1f}%"


def time_of(facts: Facts, seconds: float) -> str:
    """Return a time in the language of the page."""
    _ = facts.words.gettext
    number, unit = duration(seconds).split()
    templates = {"s": _("{n} s"), "min": _("{n} min"), "h": _("{n} h")}
    return templates[unit].format(n=number)
