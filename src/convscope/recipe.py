"""The settings of a run: a recipe gives the defaults, the user overrides them.

`resolve` is the single place where recipe, configuration file, `--set` and options are merged; the
result (`RunConfig`) is saved as `config.yaml` and alone reproduces the run.
"""

import contextlib
import difflib
import functools
import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from convscope.errors import ConfigError, UnknownNameError

FORMAT = 3
"""Version of the layout of `config.yaml`; raised when an older convscope could misread it."""

_RENAMED = {2: {"mirror": "tta.mirror"}}
"""Renamed settings by the format that renamed them: old and new names."""

_BEFORE = {3: {"split.version": 1}}
"""Values, by the format that introduced a setting, that earlier runs had implicitly."""

_MAX_CONFIG_BYTES = 1_000_000

UNREADABLE_YAML = (yaml.YAMLError, ValueError)
"""What YAML raises for text that it cannot read; the second for a date that does not exist."""


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OptimizerSettings(Settings):
    """Optimizer and learning rate."""

    name: Literal["adam", "adamw", "sgd", "muon"] = Field(
        "adam", description="optimizer: adam, adamw, sgd or muon"
    )
    learning_rate: float = Field(1e-3, gt=0, description="learning rate, also --lr")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd and muon")
    nesterov: bool = Field(False, description="Nesterov momentum, for sgd and muon")
    bias_rate: float = Field(
        1.0, gt=0, description="factor on the learning rate of biases and offsets of normalisations"
    )
    head_rate: float = Field(
        1.0, gt=0, description="factor on the learning rate of kernels of dense layers"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay, as in AdamW")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor on the learning rate per backbone stage, counted from the head",
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="evaluate an exponential moving average of the weights with this momentum; "
        "statistics of BatchNorm, averages themselves, are the newest",
    )


class ScheduleSettings(Settings):
    """Schedule of the learning rate over the steps of a run."""

    name: Literal["constant", "cosine", "linear"] = Field(
        "constant",
        description="constant, or falling to 0 over the run: cosine or linear",
    )
    warmup_epochs: float = Field(0.0, ge=0, description="linear warm-up from 0")


class AugmentSettings(Settings):
    """Augmentation of training images; validation and test images never change."""

    flip: bool = Field(False, description="mirror each image left to right in every second epoch")
    turn: bool = Field(
        False,
        description="turn each image by quarters of a circle, another way in each epoch; for "
        "square images without an upright direction",
    )
    crop: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="random shift by up to this share of the side, mirrored at the edges",
    )
    cutout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="side, as a share of the image's, of a random square that takes its mean "
        "colour (Cutout); 0: none",
    )
    randaugment: int = Field(
        0,
        ge=0,
        le=10,
        description="number of random changes of colour and shape (RandAugment); 0: none",
    )
    randaugment_factor: float = Field(0.3, ge=0, le=1, description="strength of RandAugment")
    mixup: float = Field(0.0, ge=0, description="alpha of MixUp; 0: none")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix; 0: none")

    @property
    def varies(self) -> bool:
        """Whether each epoch has its own version of an image, before images are mixed."""
        return bool(self.flip or self.turn or self.crop or self.cutout or self.randaugment)


class FilterSettings(Settings):
    """Data filtering: the later epochs train only on images that are still hard."""

    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the training images to keep, those of highest loss; 1: all",
    )
    start: float = Field(
        0.5, gt=0, lt=1, description="share of the epochs that train on all images first"
    )


class ProgressiveSettings(Settings):
    """Progressive resizing: the first epochs train on smaller images, which take less time."""

    scale: float = Field(
        1.0,
        gt=0,
        le=1,
        description="sides of the smaller images, as a share of the network's own size, but at "
        "least 16 pixels; 1: none are smaller",
    )
    until: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="share of the epochs, rounded down, that train on smaller images",
    )


class TtaSettings(Settings):
    """Test-time augmentation: evaluate and predict by the mean over views of an image."""

    mirror: bool = Field(False, description="average over the image and its mirror image")
    turn: bool = Field(
        False,
        description="average over the image turned by quarters of a circle, with tta.mirror over "
        "all eight orientations; for square images without an upright direction",
    )
    shift: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="average also over the image moved by this share of the side along the "
        "diagonal, both ways, with half of the weight",
    )

    @property
    def several(self) -> bool:
        """Whether there are views besides the image itself."""
        return self != TtaSettings()


class StartSettings(Settings):
    """Initial weights, beyond those that a network's layers draw."""

    whiten: bool = Field(
        False, description="set the first layer from patches of training images (whitening)"
    )
    dirac: bool = Field(False, description="start convolutions as the identity, where widths allow")


class HeadSettings(Settings):
    """Head on a backbone's last feature map."""

    pooling: Literal["avg", "flatten", "stages"] = Field(
        "avg",
        description="avg: means of the last feature map; flatten: all of its values; stages: its "
        "means, and means and standard deviations of earlier maps",
    )
    standardise: bool = Field(
        False,
        description="give each feature mean 0 and standard deviation 1 over the training images",
    )
    hidden: tuple[PositiveInt, ...] = Field(
        (), description="units of each hidden layer; []: a linear head"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate before each dense layer")
    search: bool = Field(
        False, description="try several heads and take the best on validation images"
    )
    logistic: bool = Field(
        False,
        description="a linear head at the optimum of logistic regression, in place of epochs",
    )
    penalty: float | None = Field(
        None,
        gt=0,
        description="L2 penalty of the logistic head; null: chosen by folds of the training images",
    )
    last_map: float | None = Field(
        None,
        gt=0,
        description="size of the features of the last map, relative to those of earlier ones "
        "(head.pooling stages); null: chosen together with the penalty, 1 if you set that",
    )

    @model_validator(mode="after")
    def _logistic_is_linear(self) -> Self:
        if self.logistic and (self.hidden or self.dropout or self.search):
            raise ValueError(
                "head.logistic is a linear head without dropout or a search; to train another: "
                "--set head.logistic=false"
            )
        if self.logistic and not self.standardise:
            raise ValueError(
                "head.logistic penalises all features alike and needs them standardised: --set "
                "head.standardise=true; to train another head: --set head.logistic=false"
            )
        return self

    @model_validator(mode="after")
    def _search_decides(self) -> Self:
        if self.search and (self.hidden or self.dropout):
            raise ValueError(
                "head.hidden and head.dropout are chosen by the search; to set them yourself: "
                "--set head.search=false"
            )
        return self


class BackboneSettings(Settings):
    """Use of a pretrained backbone."""

    scaling: Literal["own", "none", "unit", "tf", "torch", "caffe", "lite"] = Field(
        "own",
        description="scaling of the pixels: own (that of its pretraining), none, unit, tf, torch, "
        "caffe or lite",
    )
    cut: str = Field(
        "end",
        description="last frozen place: 'end' (all), 'before-last' (all but the last stage), a "
        "stage, a layer, 'start' (nothing)",
    )
    head_epochs: int = Field(
        5,
        ge=0,
        description="epochs of the head alone, before the layers after the cut are trained too",
    )
    head_learning_rate: float = Field(1e-3, gt=0, description="learning rate of the head epochs")
    views: int = Field(
        1, ge=1, description="augmented versions of each image that pass the frozen part once each"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="precision of the frozen part: float32 or bfloat16"
    )
    storage: Literal["float32", "float16"] = Field(
        "float32", description="data type of cached features: float32 or float16"
    )


class SplitSettings(Settings):
    """Division into training, validation and test images, where the dataset does not decide it."""

    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the remaining images, after the test part is taken"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of all images, if there is no test part"
    )
    seed: int = Field(
        83, ge=0, lt=2**32, description="seed of the split, not of the run: one split for all runs"
    )
    stratify: bool = Field(True, description="keep the share of each class equal in all parts")
    group: str | None = Field(
        None,
        description="regular expression for the names of images: those of which it matches the "
        "same text, or whose brackets do, go to one part together, such as the frames of a video: "
        "'(.*)/' is the folder of an image",
    )
    near_copies: bool = Field(
        False,
        description="keep near copies, such as shots of a burst or cropped and mirrored versions "
        "of an image, in one part; they are searched for as 'convscope data check' does",
    )
    images: int | None = Field(
        None,
        ge=1,
        description="number of images to use, drawn from all parts in proportion, so a few more or "
        "less; null: all",
    )
    folds: int | None = Field(
        None, ge=2, description="number of equal parts of the training images, for cross-validation"
    )
    fold: int = Field(0, ge=0, description="index of the held-out part, from 0")
    fold_as: Literal["val", "val_of_all", "test"] = Field(
        "val",
        description="role of the held-out part; val_of_all: validation too, and validation images "
        "of their own are divided with the training images; test: it is the test part, and "
        "validation images are split off the others",
    )
    version: Literal[1, 2] = Field(
        2,
        description="2: copies of an image go to one part, and each class with an image for "
        "each part gets one; 1, in earlier runs: neither is ensured",
    )

    @field_validator("group")
    @classmethod
    def _is_a_pattern(cls, group: str | None) -> str | None:
        try:
            re.compile(group or "")
        except re.error as error:
            raise ValueError(f"split.group is no regular expression ({error})") from None
        return group or None

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(
                f"split.fold is {self.fold} but split.folds is "
                + (f"{self.folds}; folds count from 0" if self.folds else "not set")
            )
        if self.folds is None and self.fold_as != "val":
            raise ValueError("split.fold_as needs split.folds; set that too")
        return self

    @property
    def part_of_fold(self) -> Literal["val", "test"] | None:
        """Part that the held-out fold becomes; None without folds."""
        if self.folds is None:
            return None
        return "test" if self.fold_as == "test" else "val"


class Recipe(Settings):
    """Settings of the training, apart from data and model.

    A registered recipe's docstring states its command, cost and expected accuracy.
    """

    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    start: StartSettings = StartSettings()
    augment: AugmentSettings = AugmentSettings()
    filter: FilterSettings = FilterSettings()
    progressive: ProgressiveSettings = ProgressiveSettings()
    tta: TtaSettings = TtaSettings()
    head: HeadSettings = HeadSettings()
    backbone: BackboneSettings = BackboneSettings()
    loss: Literal["sparse_categorical_crossentropy", "binary_crossentropy"] = Field(
        "sparse_categorical_crossentropy",
        description="the data decides it: binary where an image may have any number of classes",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each label that is spread over all classes"
    )
    balance: bool = Field(
        False, description="show each class equally often, whatever its number of images"
    )
    class_weights: Literal["none", "sqrt", "balanced"] = Field(
        "none",
        description="weights of the classes in the loss, inverse to their numbers of images "
        "(balanced) or to the square roots of these",
    )
    batch_size: int = Field(128, ge=1, description="images per step")
    least_steps: int = Field(
        1,
        ge=1,
        description="least number of steps per epoch; above 1, batches of a new run are made "
        "smaller if needed, and about equal",
    )
    full_batches: bool = Field(
        False,
        description="fill up the last batch of an epoch with some of its first images, unless it "
        "is the only one",
    )
    epochs: int = Field(20, ge=1, description="passes over the training images")
    image_size: int | None = Field(
        None, ge=1, le=4096, description="side in pixels of the network's input; null: the data's"
    )
    fit: Literal["squash", "crop", "pad"] = Field(
        "squash",
        description="treatment of image files of another aspect ratio: squash, crop to the centre, "
        "or pad with grey bars",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="float32, bfloat16, or auto: the faster one, measured once per machine",
    )
    early_stop_patience: int | None = Field(
        None,
        ge=1,
        description="epochs without a lower validation loss before stopping; null: never",
    )
    judge: Literal["best", "last"] = Field(
        "best",
        description="evaluated weights: best (by validation accuracy; where an image may have any "
        "number of classes, by validation loss), or last (after the last epoch)",
    )
    accepted: float = Field(
        0.95,
        gt=0,
        le=1,
        description="share of validation images that predict --reject accepts; decides its "
        "threshold",
    )
    refit: bool = Field(
        False,
        description="train once more at the end, on training and validation images together, for "
        "the epochs that these chose (judge, early_stop_patience); the validation images are still "
        "evaluated by the network that did not learn them",
    )

    @model_validator(mode="after")
    def _classes_count_in_one_way(self) -> Self:
        if self.balance and self.class_weights != "none":
            raise ValueError(
                "balance and class_weights both make up for unequal classes; set one of them"
            )
        return self


class RunConfig(Recipe):
    """All settings that decide a run: those of the recipe, the data, the model and the seed."""

    format: int = Field(FORMAT, description="version of the layout of this file")
    data: str = Field(
        "cifar10", description="built-in dataset, or 'folder' or 'shards'; --data sets it"
    )
    data_path: str | None = Field(
        None,
        description="folder or archive of images, if data is 'folder'; folder or address of shards",
    )
    labels: str | None = Field(
        None,
        description="table of the images' labels, in place of class folders; relative to the "
        "folder: labels.csv, or labels.csv:file=COLUMN,label=COLUMN,split=COLUMN,group=COLUMN",
    )
    multi_label: bool = Field(
        False,
        description="whether an image may have any number of classes; the data decides it",
    )
    model: str = Field("cnn-sequential", description="model, see 'convscope models'")
    recipe: str = Field("tutorial", description="recipe, see 'convscope recipes'")
    weights: str | None = Field(
        None, description="weights of a backbone: a file, or 'random'; null: ImageNet's"
    )
    weights_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the weights file; any other file is refused",
    )
    seed: int = Field(
        83, ge=0, lt=2**32, description="seed of the initial weights and the order of images"
    )
    backend: Literal["auto", "tensorflow", "jax", "torch"] = Field(
        "auto",
        description="backend of Keras; auto: JAX if it has CUDA and a GPU, or else TensorFlow",
    )
    split: SplitSettings = SplitSettings()

    @property
    def activation(self) -> str:
        """Activation that turns the network's logits into probabilities."""
        return "sigmoid" if self.multi_label else "softmax"

    @property
    def trains_at_once(self) -> bool:
        """Whether all that is trained on a backbone is a head that takes no epochs."""
        return self.head.logistic and self.backbone.cut == "end"

    @property
    def data_name(self) -> str:
        """Name of the data, for people and folders."""
        return Path(self.data_path).name if self.data_path else self.data


RANDOM_WEIGHTS = "random"
"""Value in place of a file of weights: a backbone that was not pretrained, to compare with."""

PLACES = ("data_path", "labels", "weights")
"""Settings that say where images, the table of their labels and weights are; all may move."""

OF_A_RUN = ("seed", "format", "backend", "data", *PLACES)
"""Settings in which runs of one training configuration may differ: the seed, and where things are;
whether images and weights are the same ones, their hashes say."""


def resolve(recipe: Recipe, *layers: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a run.

    Args:
        recipe: Default settings.
        layers: Overrides, the later ones stronger. Keys may be dotted ("optimizer.momentum") or
            nested; a top-level key that was not given must be absent, not None.

    Raises:
        UnknownNameError: If a key does not exist; the message suggests the nearest one.
        ConfigError: If a value is not allowed, or the configuration was written by a newer
            convscope.
    """
    merged: dict[str, Any] = recipe.model_dump()
    for layer in layers:
        for key, value in _in_this_format(layer).items():
            _override(merged, key, value)
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML configuration, a run's whole `config.yaml` or a few keys, by dotted names.

    Raises:
        ConfigError: If the file is missing, is not YAML or holds no mapping.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} is too large for a configuration")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from None
    except (*UNREADABLE_YAML, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ConfigError(f"{path} is not valid YAML{line}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} must hold settings as 'key: value' lines")
    return dotted(content)


def read_run_config(path: Path) -> RunConfig:
    """Read the resolved settings of a run from its `config.yaml`.

    Raises:
        ConfigError: If the file is missing or holds something else.
    """
    return resolve(Recipe(), read_config(path))


def parse_setting(text: str) -> tuple[str, Any]:
    """Split one `--set key=value`; the value is read as YAML.

    Examples:
        >>> parse_setting("augment.crop=0.1")
        ('augment.crop', 0.1)

    Raises:
        ConfigError: If there is no "=" or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: must have the form key=value, such as augment.crop=0.1")
    try:
        return key.strip(), yaml.safe_load(value)
    except UNREADABLE_YAML:
        raise ConfigError(f"--set {text}: the value cannot be read") from None


def spell_setting(key: str, value: Any) -> str:
    """Return the word after `--set` that `parse_setting` reads as a key and this value.

    Examples:
        >>> spell_setting("augment.crop", 0.1), spell_setting("split.group", "(.*)/")
        ('augment.crop=0.1', 'split.group=(.*)/')
        >>> spell_setting("split.group", "[^_]*_")
        'split.group="[^_]*_"'
    """
    if isinstance(value, str):
        with contextlib.suppress(ConfigError):
            if parse_setting(plain := f"{key}={value}") == (key, value):
                return plain
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def parse_alternatives(text: str) -> tuple[str, list[Any]]:
    """Split one `--vary key=a,b`; the values are read as YAML, so that each may be a list.

    Examples:
        >>> parse_alternatives("label_smoothing=0,0.1")
        ('label_smoothing', [0, 0.1])
        >>> parse_alternatives("head.hidden=[128,64],[256],[]")
        ('head.hidden', [[128, 64], [256], []])

    Raises:
        ConfigError: If there is no "=", the values are not YAML or there is one value alone.
    """
    key, _, values = text.partition("=")
    try:
        found = yaml.safe_load(f"[{values}]")
    except UNREADABLE_YAML:
        raise ConfigError(f"--vary {text}: the values cannot be read") from None
    if not key.strip() or len(found) < 2:
        raise ConfigError(f"--vary {text}: name values, such as label_smoothing=0,0.1")
    return key.strip(), found


def value_of(key: str, value: Any) -> Any:
    """Return a value as the setting holds it.

    Args:
        key: Dotted name of a setting.
        value: Value as a user wrote it.

    Examples:
        >>> value_of("optimizer.learning_rate", "1e-3"), value_of("head.hidden", [128])
        (0.001, (128,))

    Raises:
        ConfigError: If the setting does not take it.
    """
    *groups, last = key.split(".")
    model: type[BaseModel] = RunConfig
    for group in groups:
        model = type(model.model_fields[group].default)
    field = model.model_fields[last]
    kind: Any = Annotated[field.annotation, field]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise ConfigError(f"{key}: {said[0].lower()}{said[1:]}, not {value!r}") from None


def with_descriptions(settings: Mapping[str, Any], prefix: str = "") -> str:
    """Return nested settings as the text of a configuration, with what each is as a comment.

    Examples:
        >>> print(with_descriptions({"optimizer": {"momentum": 0.9}}), end="")
        optimizer:
          momentum: 0.9  # momentum of sgd and muon

    Args:
        settings: Values by name.
        prefix: Dotted names of the groups around them.
    """
    text = ""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            own = with_descriptions(value, f"{prefix}{key}.")
            text += f"{key}:\n" + textwrap.indent(own, "  ")
        else:
            first, *more = yaml.safe_dump({key: value}).splitlines()
            text += "\n".join([f"{first}  # {setting_descriptions()[f'{prefix}{key}']}", *more, ""])
    return text


def dump_config(config: RunConfig) -> str:
    """Return the configuration as the text of `config.yaml`."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two configurations differ, dotted, with both values."""
    before, after = flat(old.model_dump()), flat(new.model_dump())
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def is_one_configuration(one: RunConfig, other: RunConfig) -> bool:
    """Return whether runs count as one training configuration: all but `OF_A_RUN` is the same."""
    return differences(one, other).keys() <= {*OF_A_RUN}


def differences_in_kind(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Return `differences`, except another place of images, their table or weights.

    All may have moved; the caller checks whether they are the same ones.
    """
    changed = differences(old, new)
    for place in ("data_path", "labels"):
        if None not in changed.get(place, (None,)):
            changed.pop(place)
    if RANDOM_WEIGHTS not in changed.get("weights", ()):
        changed.pop("weights", None)
    return changed


def resolve_resumed(saved: RunConfig, *layers: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a resumed run: its own, with at most more `epochs` or a refit.

    A file of weights and a folder of images may be elsewhere by now; the caller checks whether they
    are the same ones.

    Args:
        saved: Resolved configuration of the run.
        layers: Overrides that were given again; they may repeat saved values.

    Raises:
        ConfigError: If anything else differs, since the configuration would no longer describe the
            run, or if there are more epochs of what takes none.
    """
    wanted = resolve(saved, saved.model_dump(), *layers)
    changed = differences_in_kind(saved, wanted)
    if wanted.epochs < saved.epochs:
        raise ConfigError(
            f"the run has {saved.epochs} epochs; --resume can increase --epochs, not reduce them "
            f"to {wanted.epochs}"
        )
    if "epochs" in changed and saved.trains_at_once:
        raise ConfigError(
            f"epochs {wanted.epochs} has no effect here: the run trained its head at once "
            "(head.logistic); omit --epochs, or start a new run with --recipe probe"
        )
    changed.pop("epochs", None)
    if changed.get("refit") == (False, True):  # one more training at the end
        changed.pop("refit")
    for key, (before, after) in changed.items():
        raise ConfigError(
            f"the run has {key} {before!r}, not {after!r}; on --resume only --epochs may be "
            "raised and --refit added, so omit the option or start a new run"
        )
    return wanted


@functools.cache
def default_settings() -> Mapping[str, Any]:
    """Return the settings as they are where nobody chose them, by dotted name."""
    return MappingProxyType(flat(RunConfig().model_dump()))


@functools.cache
def setting_names() -> tuple[str, ...]:
    """Return every key that `--set` accepts, dotted."""
    return tuple(sorted(default_settings()))


@functools.cache
def setting_descriptions() -> Mapping[str, str]:
    """Return what each setting is, by dotted name."""
    found: dict[str, str] = {}
    for name, field in RunConfig.model_fields.items():
        fields = {name: field}
        if isinstance(field.default, Settings):
            own = type(field.default).model_fields
            fields = {f"{name}.{key}": each for key, each in own.items()}
        found |= {key: each.description or "" for key, each in fields.items()}
    return found


def _in_this_format(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their current names, by dotted names.

    Raises:
        ConfigError: If they have a newer format, which may hold unknown settings.
    """
    found = layer.get("format", FORMAT)
    if not isinstance(found, int) or found > FORMAT:
        raise ConfigError(
            f"this configuration has format {found}, written by a newer convscope; "
            f"this one reads up to format {FORMAT}: upgrade convscope"
        )
    renamed: dict[str, str] = {}
    for since, names in _RENAMED.items():
        renamed |= names if found < since else {}
    then: dict[str, Any] = {}
    for since, values in _BEFORE.items():
        then |= values if found < since else {}
    given = dotted(layer).items()
    return then | {renamed.get(key, key): value for key, value in given if key != "format"}


def dotted(settings: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings of a file, nested or dotted, by dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        # A value that is not a group is not searched: YAML's aliases make a few lines a million
        # settings.
        if isinstance(value, Mapping) and f"{prefix}{key}" in _groups():
            found |= dotted(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


@functools.cache
def _groups() -> frozenset[str]:
    return frozenset(name.rpartition(".")[0] for name in setting_names() if "." in name)


def _override(target: dict[str, Any], key: str, value: Any) -> None:
    if key not in setting_names():
        groups = [name for name in setting_names() if name.startswith(f"{key}.")]
        if groups:
            raise ConfigError(f"'{key}' is a group; set one of: {', '.join(groups)}")
        # The bare name of a nested key ("momentum") is the likeliest slip: match on the last part.
        ends = [name for name in setting_names() if name.rpartition(".")[2] == key]
        ends += ["optimizer.learning_rate"] if key.rpartition(".")[2] == "lr" else []
        if ends:
            raise ConfigError(f"unknown setting '{key}'; did you mean '{ends[0]}'?")
        # Names of as many parts first, groups too.
        n_parts = key.count(".") + 1
        alike = {".".join(name.split(".")[:n_parts]) for name in setting_names()}
        near = difflib.get_close_matches(key, sorted(alike), n=1, cutoff=0.6)
        near = near or difflib.get_close_matches(key, setting_names(), n=1, cutoff=0.5)
        raise UnknownNameError("setting", key, near or setting_names())
    *groups, last = key.split(".")
    for group in groups:
        target = target.setdefault(group, {})
    target[last] = value


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def require_settable(
    settings: Iterable[str], not_to_set: Mapping[str, str], option: str = "--set"
) -> None:
    """Reject settings of the user that a study decides.

    Args:
        settings: Dotted names of the settings, as from `flat`.
        not_to_set: Names that cannot be set, and why.
        option: Option with which they are given.

    Raises:
        ConfigError: If one of them is set.
    """
    for key in settings:
        if key in not_to_set:
            raise ConfigError(f"'{key}' cannot be given with {option} here: {not_to_set[key]}")


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":  # one of our own, which is complete
        return first["msg"].removeprefix("Value error, ")
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{key}: {message}, not {first['input']!r}"
