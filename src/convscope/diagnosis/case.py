"""What a trap may look at: settings, run, data and network, as far as they exist."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.datasets.source import moved, words_of
from convscope.diagnosis import Remedy, Unknown
from convscope.evaluation.grouping import n_effective, units_of
from convscope.evaluation.predictions import read_predictions
from convscope.models import is_backbone
from convscope.models.backbones import BACKBONES, Backbone
from convscope.recipe import RunConfig, flat, spell_setting
from convscope.run import Run
from convscope.training.results import HEAD, read_results
from convscope.types import Dataset, Predictions, Split
from convscope.wording import command_line

if TYPE_CHECKING:
    import keras

    from convscope.training.range_test import RangeTest

_OPTIONS = {
    "model": "--model",
    "recipe": "--recipe",
    "epochs": "--epochs",
    "batch_size": "--batch-size",
    "image_size": "--image-size",
    "optimizer.learning_rate": "--lr",
}


@dataclass
class Case:
    """A trained run, or settings for one.

    Attributes:
        config: Settings of the run.
        config_path: Path of the settings.
        run: Run folder; None if there are only settings.
        load_dataset: Function that loads the images, divided into parts.
        load_network: Function that loads the trained network, from raw pixels to probabilities.
        load_backbone: Function that loads the backbone as it was pretrained.
        try_rates: Function that runs a learning-rate range test; None if that is not wanted.
        data: Current place of the images; None if they have not moved.
        labels: Current place of the table of their labels; None if it has not moved.
    """

    config: RunConfig
    config_path: str
    run: Run | None
    load_dataset: Callable[[], Dataset]
    load_network: "Callable[[Run], keras.Model]"
    load_backbone: "Callable[[], keras.Model]"
    try_rates: "Callable[[], RangeTest] | None" = None
    data: Path | str | None = None
    labels: Path | str | None = None

    @property
    def trained(self) -> Run:
        """The run.

        Raises:
            Unknown: If there are only settings.
        """
        if self.run is None:
            raise Unknown("there are settings, but no run yet")
        return self.run

    @cached_property
    def dataset(self) -> Dataset:
        """The images, divided into parts; loaded when a trap looks at them."""
        return self.load_dataset()

    @property
    def trains_at_once(self) -> bool:
        """Whether all that is trained is a head without epochs or a learning rate."""
        return self.backbone is not None and self.config.trains_at_once

    def require_one_class(self) -> None:
        """Leave the trap unchecked where an image may have any number of classes.

        Raises:
            Unknown: If it may.
        """
        if self.config.multi_label:
            raise Unknown("it looks at images of exactly one class, and these may have several")

    @property
    def decisions(self) -> str:
        """What the column "accuracy" of `results.csv` is, in words."""
        return "right decisions" if self.config.multi_label else "accuracy"

    @property
    def judged(self) -> str:
        """Name of the weights behind its predictions, one of `run.WEIGHTS`."""
        return str(self.trained.metrics["weights"])

    @property
    def backbone(self) -> Backbone | None:
        """The pretrained backbone; None if the network was trained from scratch."""
        return BACKBONES.get(self.config.model) if is_backbone(self.config.model) else None

    @property
    def rolled_back(self) -> bool:
        """Whether fine-tuning was undone, so that the frozen backbone and its head were kept."""
        return bool(self.trained.state.get("rolled_back"))

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """A row for each epoch that trained all that is kept and can be, as in `results.csv`."""
        rows = self.all_phases
        phase = HEAD if self.rolled_back else rows[-1]["phase"]
        return [row for row in rows if row["phase"] == phase]

    @property
    def whole_epochs(self) -> list[dict[str, Any]]:
        """The rows of `history` whose training loss is that of all training images.

        With data filtering the later epochs train on the hardest images alone.

        Raises:
            Unknown: If it is not known since when.
        """
        chosen = self.config.filter
        if chosen.share == 1:
            return self.history
        if self.trained.state.get("epochs_changed"):
            raise Unknown("its epochs changed, so those on the hardest images are not known")
        return self.history[: math.ceil(chosen.start * self.config.epochs)]

    @cached_property
    def all_phases(self) -> list[dict[str, Any]]:
        """A row for each epoch, those of a head alone included."""
        file = self.trained.results_file
        if not file.exists():
            raise Unknown("no epoch has been finished")
        return read_results(file)

    @cached_property
    def predictions(self) -> dict[str, Predictions]:
        """Predictions by split: "val" and (if it was opened) "test"."""
        file = self.trained.predictions_file
        if not file.exists():
            raise Unknown(f"it has not been evaluated; run: {self.evaluation}")
        return read_predictions(file)[0]

    @property
    def val(self) -> Predictions:
        """Predictions on the validation images."""
        return self.predictions["val"]

    @cached_property
    def n_val(self) -> float:
        """Number of validation images; of images in groups, how many of their own tell as much."""
        part: Split | Predictions
        try:
            part = self.val  # for which no image has to be loaded
        except Unknown:
            part = self.val_images
        if isinstance(part, Predictions) and not part.multi_label:
            return n_effective(part.right, part.groups)
        units = None if part.groups is None else units_of(part.groups)
        return float(len(part.labels) if units is None else units.max() + 1)

    def over_groups(self, error: float) -> float:
        """Return a standard error over validation images as that over their groups, if in some.

        A single group shows nothing of others: infinite.
        """
        return error * math.sqrt(len(self.val.labels) / self.n_val) if self.n_val else math.inf

    @property
    def test(self) -> Predictions:
        """Predictions on the test images.

        Raises:
            Unknown: If there are none.
        """
        if "test" not in self.predictions:
            raise Unknown(
                "the test images are sealed"
                if self.is_sealed
                else "these weights were not evaluated on the test images"
            )
        return self.predictions["test"]

    @property
    def data_words(self) -> tuple[str, ...]:
        """Options of a command line that name the data where it is now."""
        return words_of(moved(self.config, self.data, self.labels).model_dump())

    @property
    def moved_words(self) -> tuple[str, ...]:
        """`data_words` for a command that has the data's place from the run; empty if it holds."""
        return () if self.data is None and self.labels is None else self.data_words

    @property
    def val_images(self) -> Split:
        """The validation images."""
        return self.dataset.validation

    @cached_property
    def network(self) -> "keras.Model":
        """The trained network."""
        return self.load_network(self.trained)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in the order of the labels."""
        return self.run.class_names if self.run else list(self.dataset.class_names)

    @property
    def is_sealed(self) -> bool:
        """Whether there is a run, and it has never been evaluated on test images."""
        return self.run is not None and not self.run.state.get("test_openings")

    def again(self, words: str, settings: Mapping[str, Any]) -> Remedy:
        """Return the remedy that trains again with some settings changed.

        Test images that the run left sealed stay so.

        Args:
            words: Short instruction.
            settings: Changed settings by dotted names.
        """
        command = ["train", "--config", self.config_path, *self.moved_words]
        if self.is_sealed and self.trained.state.get("test") is False:
            command.append("--no-test")
        for key, value in settings.items():
            if key in _OPTIONS:
                command += [_OPTIONS[key], value if isinstance(value, str) else json.dumps(value)]
            else:
                command += ["--set", spell_setting(key, value)]
        return Remedy(words, command_line(*command), dict(settings))

    def changed(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the settings, by dotted name, that the run does not have already."""
        known = flat(self.config.model_dump())
        return {key: value for key, value in settings.items() if known[key] != value}

    def other_rate(self, factor: float) -> Remedy:
        """Return the remedy that trains again with the learning rate times a factor."""
        rate = float(f"{factor * self.config.optimizer.learning_rate:.2g}")
        words = "lower the learning rate" if factor < 1 else "raise the learning rate"
        return self.again(words, {"optimizer.learning_rate": rate})

    def other_rates(self) -> tuple[Remedy, ...]:
        """Return the remedies where the learning rate is wrong, and either way is possible."""
        if self.trains_at_once:
            more = command_line("data", "show", *self.data_words)
            return (Remedy("check that the labels belong to the images", more),)
        if self.backbone is not None:  # which the range test does not take
            return (self.other_rate(10), self.other_rate(0.1))
        tried = f"{self.command('doctor')} --range-test"
        return (Remedy("try learning rates to see which ones train", tried),)

    @property
    def evaluation(self) -> str:
        """A command line that evaluates the run, and opens no test images that are sealed."""
        return self.command("evaluate") + " --no-test" * self.is_sealed

    def command(self, *words: str) -> str:
        """Return a command line about the run."""
        return command_line(*words, self.trained.path, *self.moved_words)
