"""The settings of a run: a recipe gives the defaults, the user overrides what they like.

`resolve` is the one place where recipe, configuration file, `--set` and options meet; what comes
out (`RunConfig`) is saved as `config.yaml` and alone reproduces the run.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from convscope.errors import ConfigError, UnknownNameError

FORMAT = 3
"""Version of the layout of `config.yaml`; raised when an older convscope could misread it."""

_RENAMED = {2: {"mirror": "tta.mirror"}}
"""By the format that brought it: settings that had other names before."""

_BEFORE = {3: {"split.version": 1}}
"""By the format that brought it: what a setting was before it could be chosen."""

_MAX_CONFIG_BYTES = 1_000_000


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OptimizerSettings(Settings):
    """How weights are updated."""

    name: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1, description="sgd and muon")
    nesterov: bool = Field(False, description="sgd and muon")
    bias_rate: float = Field(
        1.0, gt=0, description="times the learning rate, for biases and offsets of normalisations"
    )
    head_rate: float = Field(
        1.0, gt=0, description="times the learning rate, for kernels of dense layers"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled, as in AdamW")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="each stage of a backbone learns so much slower than the next",
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="judge a moving average of the weights, of this momentum; "
        "statistics of BatchNorm, averages themselves, are the newest",
    )


class ScheduleSettings(Settings):
    """How the learning rate changes over the steps of a run."""

    name: Literal["constant", "cosine", "linear"] = "constant"
    warmup_epochs: float = Field(0.0, ge=0, description="rising in a line from 0")


class AugmentSettings(Settings):
    """How training images are varied; validation and test images never are."""

    flip: bool = Field(False, description="left to right, alternately: every other time")
    crop: float = Field(
        0.0, ge=0, lt=1, description="shift by up to this share of the side, mirrored at the edges"
    )
    randaugment: int = Field(
        0, ge=0, le=10, description="random changes of colour and shape; 0: none"
    )
    randaugment_factor: float = Field(0.3, ge=0, le=1, description="how strong they are")
    mixup: float = Field(0.0, ge=0, description="alpha of MixUp; 0: none")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix; 0: none")


class FilterSettings(Settings):
    """Data filtering: learning, in the later epochs, only from images that are still hard."""

    share: float = Field(
        1.0, gt=0, le=1, description="of the training images, those of highest loss; 1: all"
    )
    start: float = Field(
        0.5, gt=0, lt=1, description="the part of the epochs that learns from all images before"
    )


class TtaSettings(Settings):
    """Test-time augmentation: judge and predict by the mean over views of an image."""

    mirror: bool = Field(False, description="the image and its mirror image")
    shift: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="and, for half of the mean, moved by this share of the side along the "
        "diagonal, both ways",
    )


class StartSettings(Settings):
    """How weights begin, beyond what a network's layers draw for themselves."""

    whiten: bool = Field(
        False, description="set a network's first layer from the patches of training images"
    )
    dirac: bool = Field(
        False, description="let convolutions begin by handing their input on, where widths allow"
    )


class HeadSettings(Settings):
    """What stands on a backbone's last feature map."""

    pooling: Literal["avg", "flatten"] = "avg"
    standardise: bool = Field(
        False, description="give each feature mean 0 and spread 1 over the training images"
    )
    hidden: tuple[PositiveInt, ...] = Field(
        (), description="units of each hidden layer; []: a linear head"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="before each dense layer")
    search: bool = Field(
        False, description="try some heads first and take the best on validation images"
    )

    @model_validator(mode="after")
    def _search_decides(self) -> Self:
        if self.search and (self.hidden or self.dropout):
            raise ValueError(
                "head.hidden and head.dropout are what the search chooses; to set them yourself: "
                "--set head.search=false"
            )
        return self


class BackboneSettings(Settings):
    """How a backbone is used."""

    scaling: Literal["own", "none", "unit", "tf", "torch", "caffe", "lite"] = Field(
        "own", description="of the pixels; own: what its weights were trained on"
    )
    cut: str = Field(
        "end",
        description="frozen up to here: 'end' (all), 'before-last' (all but the last stage), a "
        "stage, a layer, 'start' (nothing)",
    )
    head_epochs: int = Field(
        5, ge=0, description="epochs of the head alone, before the layers after the cut join in"
    )
    head_learning_rate: float = Field(1e-3, gt=0, description="of those epochs")
    views: int = Field(
        1, ge=1, description="augmented versions of each image that pass the frozen part once each"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the frozen part's arithmetic"
    )
    storage: Literal["float32", "float16"] = Field("float32", description="of cached features")


class SplitSettings(Settings):
    """How validation and test images are told apart, where the dataset does not say."""

    val_fraction: float = Field(0.2, gt=0, lt=1, description="of the training images")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="used if there is no test part")
    seed: int = Field(83, ge=0, lt=2**32, description="not the run's seed: one split for all runs")
    stratify: bool = Field(True, description="keep the share of each class equal in all parts")
    folds: int | None = Field(
        None, ge=2, description="for cross-validation: so many equal parts of the training images"
    )
    fold: int = Field(0, ge=0, description="which of them validates, from 0")
    fold_as: Literal["val", "test"] = Field(
        "val",
        description="what the fold is for; test: it is the test part, and validation images are "
        "split off the others",
    )
    version: Literal[1, 2] = Field(
        2,
        description="2: copies of an image go to one part, and each class that has an image for "
        "each part gets one; 1, of runs before that: they need not",
    )

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(
                f"split.fold {self.fold}: with {self.folds or 'no'} folds there is none"
            )
        if self.folds is None and self.fold_as != "val":
            raise ValueError("split.fold_as says what a fold is for; set split.folds too")
        return self


class Recipe(Settings):
    """How a model is trained, apart from what on and which model.

    A registered recipe's docstring states its command, cost and expected accuracy.
    """

    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    start: StartSettings = StartSettings()
    augment: AugmentSettings = AugmentSettings()
    filter: FilterSettings = FilterSettings()
    tta: TtaSettings = TtaSettings()
    head: HeadSettings = HeadSettings()
    backbone: BackboneSettings = BackboneSettings()
    loss: Literal["sparse_categorical_crossentropy"] = "sparse_categorical_crossentropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balance: bool = Field(
        False, description="show each class equally often, whatever the number of its images"
    )
    batch_size: int = Field(128, ge=1)
    least_steps: int = Field(
        1,
        ge=1,
        description="of an epoch; above 1, batches of a new run are smaller where it takes that, "
        "and about equal",
    )
    full_batches: bool = Field(
        False,
        description="fill up an epoch's last batch with some of its first images, unless it is the "
        "only one",
    )
    epochs: int = Field(20, ge=1)
    image_size: int | None = Field(
        None, ge=1, le=4096, description="side in pixels that the network sees; None: the data's"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto measures which is faster here, once for each machine"
    )
    early_stop_patience: int | None = Field(
        None, ge=1, description="epochs without a lower validation loss; None: no early stop"
    )
    judge: Literal["best", "last"] = Field(
        "best",
        description="the weights judged at the end: of the best validation accuracy, or last",
    )


class RunConfig(Recipe):
    """Everything that decides a run: the recipe's settings, the data, the model and the seed."""

    format: int = FORMAT
    data: str = "cifar10"
    data_path: str | None = Field(None, description="the folder, if data is 'folder'")
    model: str = "cnn-sequential"
    recipe: str = "tutorial"
    weights: str | None = Field(
        None, description="a backbone's weights: a file, 'random', or None to look for ImageNet's"
    )
    weights_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of that file; another one is refused"
    )
    seed: int = Field(83, ge=0, lt=2**32)
    backend: Literal["auto", "tensorflow", "jax", "torch"] = "auto"
    split: SplitSettings = SplitSettings()

    @property
    def data_name(self) -> str:
        """What the data is called, for people and folders."""
        return Path(self.data_path).name if self.data_path else self.data


RANDOM_WEIGHTS = "random"
"""In place of a file of weights: a backbone that was not pretrained, to compare with."""


def resolve(recipe: Recipe, *layers: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a run.

    Args:
        recipe: The defaults.
        layers: Overrides, the later ones stronger. Keys may be dotted ("optimizer.momentum") or
            nested; a value of None under a top-level key that was not given must not be in them.

    Raises:
        UnknownNameError: If a key does not exist; the message suggests the nearest one.
        ConfigError: If a value is not allowed, or the configuration is of a newer convscope.
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
    """Read a YAML configuration: a whole `config.yaml` of a run, or a few keys of one.

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
    except (yaml.YAMLError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ConfigError(f"{path} is not valid YAML{line}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} must hold settings as 'key: value' lines")
    return content


def read_run_config(path: Path) -> RunConfig:
    """Read the resolved settings of a run, its `config.yaml`.

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
        raise ConfigError(f"--set {text}: write it as key=value, such as augment.crop=0.1")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: the value cannot be read") from None


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
    except yaml.YAMLError:
        raise ConfigError(f"--vary {text}: the values cannot be read") from None
    if not key.strip() or len(found) < 2:
        raise ConfigError(f"--vary {text}: name values, such as label_smoothing=0,0.1")
    return key.strip(), found


def dump_config(config: RunConfig) -> str:
    """Return the configuration as the text of `config.yaml`."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two configurations differ, dotted, with both values."""
    before, after = flat(old.model_dump()), flat(new.model_dump())
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def resolve_resumed(saved: RunConfig, *layers: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with which a run goes on: its own, with at most more `epochs`.

    A file of weights and a folder of images may lie elsewhere by now; whether they are the same
    ones is for the caller to see.

    Args:
        saved: The run's resolved configuration.
        layers: Overrides that were given again; they may repeat what is saved.

    Raises:
        ConfigError: If anything else differs, since the run would no longer be the one that
            its configuration describes.
    """
    wanted = resolve(saved, saved.model_dump(), *layers)
    changed = differences(saved, wanted)
    if wanted.epochs < saved.epochs:
        raise ConfigError(
            f"the run is one of {saved.epochs} epochs; --epochs may grow on --resume, not shrink "
            f"to {wanted.epochs}"
        )
    changed.pop("epochs", None)
    if None not in changed.get("data_path", (None,)):
        changed.pop("data_path")
    if RANDOM_WEIGHTS not in changed.get("weights", ()):
        changed.pop("weights", None)
    for key, (before, after) in changed.items():
        raise ConfigError(
            f"the run has {key} {before!r}, not {after!r}; on --resume only --epochs may change, "
            "so omit the option or start a new run"
        )
    return wanted


def setting_names() -> list[str]:
    """Return every key that `--set` accepts, dotted."""
    return sorted(flat(RunConfig().model_dump()))


def _in_this_format(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by the names that they have today.

    Raises:
        ConfigError: If they are of a newer format, which may hold what is unknown here.
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
    return then | {renamed.get(key, key): value for key, value in layer.items() if key != "format"}


def _override(target: dict[str, Any], key: str, value: Any) -> None:
    # What is no group is not looked into: YAML's aliases make a few lines a million settings.
    if isinstance(value, Mapping) and any(n.startswith(f"{key}.") for n in setting_names()):
        for inner, inner_value in value.items():
            _override(target, f"{key}.{inner}", inner_value)
        return
    if key not in setting_names():
        groups = [name for name in setting_names() if name.startswith(f"{key}.")]
        if groups:
            raise ConfigError(f"'{key}' is a group; set one of: {', '.join(groups)}")
        # A bare name of a nested key ("momentum") is the likeliest slip: match on the last part.
        ends = [name for name in setting_names() if name.rpartition(".")[2] == key]
        ends += ["optimizer.learning_rate"] if key == "lr" else []
        if ends:
            raise ConfigError(f"unknown setting '{key}'; did you mean '{ends[0]}'?")
        near = difflib.get_close_matches(key, setting_names(), n=1, cutoff=0.5)
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


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":  # one of our own, which says it all
        return first["msg"].removeprefix("Value error, ")
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{key}: {message}, not {first['input']!r}"
