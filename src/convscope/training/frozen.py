"""Outputs of the frozen part of a pretrained classifier, through the cache."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from convscope.classifier.classify import batch_size_for
from convscope.datasets.division.draw import Together, keys_of
from convscope.images.orientation import orientations, spell_way
from convscope.models.backbones import BACKBONES
from convscope.models.folding import fold_batch_norm
from convscope.models.transfer import END, START, TransferModel
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.training.augment import AugmentedView, OrientedImages, augmented
from convscope.training.batches import Examples
from convscope.training.features import Features, Source, compute_features
from convscope.types import InputSpec, Split, Stacked

_VIEW_SEED = 83
"""Views are the same for every seed of a run, so that they are computed once for all seeds."""


@dataclass(frozen=True)
class FrozenOutput:
    """Outputs of the frozen part.

    Attributes:
        features: Pooled features of the training images, for the head.
        features_val: Pooled features of the validation images.
        maps: Activations at the cut for the training images, for the layers behind it; pixels if
            nothing is frozen. At "end", the features.
        maps_val: The same for the validation images.
        images: Training images in this order.
        seconds: Time that computing them took, including those found in the cache.
        spent: Time that this call spent on them: next to none for those found.
    """

    features: Examples
    features_val: Examples
    maps: Examples
    maps_val: Examples
    images: Split
    seconds: float
    spent: float

    @cached_property
    def together(self) -> Together:
        """Return which training images folds keep together."""
        keys = keys_of(self.images.hashes, self.images.groups)
        return Together(keys, self.images.groups is not None)


def run_frozen(
    network: TransferModel,
    config: RunConfig,
    spec: InputSpec,
    train: Sequence[Split],
    val: Split,
    progress: Progress,
) -> FrozenOutput:
    """Run the frozen part of a classifier on all images once.

    Args:
        network: Network with the weights of the backbone, in the precision of the frozen part.
        config: Settings of the run.
        spec: Input of the backbone.
        train: Training images in the order of training; several parts, one after another, are
            looked up in the cache one by one.
        val: Validation images.
        progress: Called with each batch.

    Raises:
        ConfigError: If a feature is too large for `backbone.storage`.
        StorageError: If the disk is too small.
    """
    extract = _Extractor(config, spec, network, progress)
    train = _in_order(train, config)
    labels = np.concatenate([part.labels for part in train])
    versions = _versions(train, config)
    judged = _as_it_is(val, "validation images")
    if network.cut == START:
        features = [
            _stacked(
                extract(_PIXELS_TO_FEATURES, _as_it_is(part, "training images")).array
                for part in train
            )
        ]
        features_val = extract(_PIXELS_TO_FEATURES, judged)
        maps, maps_val = _augmented_pixels(train, val, config)
    elif network.cut == END:
        features = [
            _stacked(extract(_PIXELS_TO_FEATURES, version).array for version in view)
            for view in versions
        ]
        features_val = extract(_PIXELS_TO_FEATURES, judged)
        maps = Examples.alternating(features, labels)
        maps_val = Examples.alternating([features_val.array], val.labels)
    else:
        cut, cut_val = _to_cut(extract, versions, judged)
        features = [
            _stacked(
                extract(_CUT_TO_FEATURES, _Version(each.array, each.key, version.label)).array
                for each, version in zip(parts, view, strict=True)
            )
            for parts, view in zip(cut, versions, strict=True)
        ]
        features_val = extract(_CUT_TO_FEATURES, _Version(cut_val.array, cut_val.key, judged.label))
        maps, maps_val = _maps(cut, cut_val, labels, val)
    return FrozenOutput(
        Examples.alternating(features, labels),
        Examples.alternating([features_val.array], val.labels),
        maps,
        maps_val,
        Split.joined(train),
        round(extract.seconds, 3),
        round(extract.spent, 3),
    )


def run_to_cut(
    network: TransferModel,
    config: RunConfig,
    spec: InputSpec,
    train: Sequence[Split],
    val: Split,
) -> tuple[Examples, Examples]:
    """Return only what the layers behind the cut get, for training and validation images.

    The same as in `run_frozen`, whose arguments these are.
    """
    train = _in_order(train, config)
    if network.cut == START:
        return _augmented_pixels(train, val, config)
    extract = _Extractor(config, spec, network, Progress())
    judged = _as_it_is(val, "validation images")
    cut, cut_val = _to_cut(extract, _versions(train, config), judged)
    return _maps(cut, cut_val, np.concatenate([part.labels for part in train]), val)


def _in_order(train: Sequence[Split], config: RunConfig) -> Sequence[Split]:
    """Return the training images in the order in which the frozen part sees them."""
    if not config.augment.randaugment:
        return train
    # RandAugment transforms the images of a batch alike, and those of a folder are sorted by
    # class: in that order the transformation would give the class away.
    return [part.select(np.random.default_rng(_VIEW_SEED).permutation(len(part))) for part in train]


def _versions(train: Sequence[Split], config: RunConfig) -> "list[tuple[_Version, ...]]":
    """Return, for each view, its version of each part."""
    return list(zip(*(_views(part, config) for part in train), strict=True))


def _as_it_is(split: Split, label: str) -> "_Version":
    return _Version(split.images, _split_key(split), label, _row_keys(split))


def _to_cut(
    extract: "_Extractor", versions: "list[tuple[_Version, ...]]", judged: "_Version"
) -> tuple[list[list[Features]], Features]:
    """Return activations at the cut: of each view of each training part, and for validation."""
    cut = [[extract(_PIXELS_TO_CUT, version) for version in view] for view in versions]
    return cut, extract(_PIXELS_TO_CUT, judged)


def _augmented_pixels(
    train: Sequence[Split], val: Split, config: RunConfig
) -> tuple[Examples, Examples]:
    return augmented(Split.joined(train), config.augment, config.seed), Examples.of(val)


def _maps(
    cut: Sequence[Sequence[Features]], cut_val: Features, labels: npt.NDArray[Any], val: Split
) -> tuple[Examples, Examples]:
    maps = Examples.alternating([_stacked(each.array for each in parts) for parts in cut], labels)
    return maps, Examples.alternating([cut_val.array], val.labels)


def pooled_features(
    lower: keras.Model,
    config: RunConfig,
    spec: InputSpec,
    split: Split,
    label: str,
    progress: Progress,
) -> Features:
    """Return the float32 features of a split, computed or from the cache.

    Args:
        lower: Model from pixels to features, with BatchNorm folded.
        config: Settings of the run.
        spec: Input of the network.
        split: Images.
        label: Name of the work in progress output.
        progress: Called with each batch.
    """
    return compute_features(
        lower,
        split.images,
        _split_key(split),
        about=_about(config, spec, _PIXELS_TO_FEATURES, "float32"),
        batch_size=batch_size_for(spec.height),
        storage="float32",
        label=label,
        progress=progress,
        row_keys=_row_keys(split),
    )


_PIXELS_TO_FEATURES, _PIXELS_TO_CUT = "pixels to features", "pixels to cut"
_CUT_TO_FEATURES = "cut to features"


def _about(config: RunConfig, spec: InputSpec, kind: str, precision: str) -> dict[str, Any]:
    """Return the facts that decide features and do not show in the weights."""
    return {
        "kind": kind,
        "backbone": config.model,
        # If all is frozen, features do not depend on where it could be cut.
        "cut": None
        if kind == _PIXELS_TO_FEATURES
        else BACKBONES.get(config.model).cut_at(config.backbone.cut),
        "pooling": config.head.pooling,
        "input": [*spec.shape, spec.scaling],
        "precision": precision,
    }


class _Extractor:
    """Computes features with the frozen network, through the cache.

    Attributes:
        seconds: Time that all of them took, including those found in the cache.
        spent: Time that was spent on them here.
    """

    def __init__(
        self, config: RunConfig, spec: InputSpec, network: TransferModel, progress: Progress
    ) -> None:
        self._config = config
        self._spec = spec
        self._network = network
        self._progress = progress
        self._pieces: dict[str, keras.Model] = {}
        self.seconds = self.spent = 0.0

    def __call__(self, kind: str, version: "_Version") -> Features:
        if kind not in self._pieces:
            pieces: dict[str, Callable[[], keras.Model]] = {
                _PIXELS_TO_FEATURES: lambda: self._network.lower(END),
                _PIXELS_TO_CUT: self._network.lower,
                _CUT_TO_FEATURES: lambda: self._network.between(self._network.cut),
            }
            self._pieces[kind] = fold_batch_norm(pieces[kind]())
        from_maps = kind == _CUT_TO_FEATURES
        began = time.monotonic()
        features = compute_features(
            self._pieces[kind],
            version.source,
            version.key,
            about=_about(self._config, self._spec, kind, self._config.backbone.precision),
            batch_size=256 if from_maps else batch_size_for(self._spec.height),
            storage="float32" if from_maps else self._config.backbone.storage,
            label=f"{'Activations' if kind == _PIXELS_TO_CUT else 'Features'} of {version.label}",
            progress=self._progress,
            row_keys=version.row_keys,
        )
        self.seconds += features.seconds
        self.spent += time.monotonic() - began
        return features


class _Version(NamedTuple):
    """Version of some images for the frozen part.

    Attributes:
        source: Images, or activations of them.
        key: Hash of their contents.
        label: Name in progress output.
        row_keys: Hash of the contents of each row; None if they depend on its position.
    """

    source: Source
    key: str
    label: str
    row_keys: list[str] | None = None


def _views(train: Split, config: RunConfig) -> list[_Version]:
    """Return the versions of the training images for the frozen part."""
    augment, n_views, key = config.augment, config.backbone.views, _split_key(train)
    plain = _as_it_is(train, "training images")
    if not augment.varies:
        return [plain]
    only_orients = not augment.model_copy(update={"flip": False, "turn": False}).varies
    ways = orientations(mirrored=augment.flip, turned=augment.turn)
    if only_orients and n_views == len(ways) and config.trains_at_once:
        # All views are learnt from at once: the images as they are, which are mostly in the cache,
        # and in each other orientation.
        return [plain, *(_oriented(train, key, way) for way in ways[1:])]
    # MixUp and CutMix come later: they mix the outputs.
    done = augment.model_dump(exclude={"mixup", "cutmix"})
    return [
        _Version(
            AugmentedView(train.images, augment, _VIEW_SEED, view),
            f"{key} {json.dumps(done, sort_keys=True)} {_VIEW_SEED} view {view}",
            f"training images, view {view + 1} of {n_views}",
        )
        for view in range(n_views)
    ]


def _oriented(train: Split, key: str, way: int) -> _Version:
    said = spell_way(way)
    return _Version(
        OrientedImages(train.images, way),
        f"{key} {said}",
        f"training images, {said}",
        [f"{each} {said}" for each in _row_keys(train)],
    )


def _stacked(parts: Iterable[Any]) -> Any:
    first, *others = parts
    return Stacked([first, *others]) if others else first


def _row_keys(split: Split) -> list[str]:
    # With the shape, as below.
    return [f"{tuple(split.images.shape[1:])} {each}" for each in split.hashes]


def _split_key(split: Split) -> str:
    # With the shape: the same bytes in other rows and columns are another image.
    digest = hashlib.sha256("".join(split.hashes).encode()).hexdigest()
    return f"{split.images.shape} {digest}"
