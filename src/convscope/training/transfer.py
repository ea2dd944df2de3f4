"""Training on a pretrained backbone: what is frozen runs once, what learns uses its output."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from convscope.models.backbones import BACKBONES
from convscope.models.folding import fold_batch_norm
from convscope.models.saving import PortableModel
from convscope.models.transfer import (
    END,
    POOL,
    START,
    TransferModel,
    build_transfer,
    feature_statistics,
)
from convscope.models.weights import FoundWeights
from convscope.progress import Progress
from convscope.recipe import HeadSettings, RunConfig, ScheduleSettings
from convscope.run import Run
from convscope.training.augment import AugmentedView, augmented
from convscope.training.batches import Examples
from convscope.training.features import Features, Source, batch_size_for, compute_features
from convscope.training.fit import Phase, fit
from convscope.training.heads import choose_head
from convscope.training.snapshot import read_history
from convscope.types import Dataset, FloatArray, InputSpec, Split

HEAD = "head"
"""The phase in which the head learns alone."""

_VIEW_SEED = 83
"""Views are the same for every seed of a run, so that they are computed once for all of them."""


def train_transfer(
    config: RunConfig,
    spec: InputSpec,
    dataset: Dataset,
    weights: FoundWeights | None,
    run: Run,
    *,
    log_row: Callable[[dict[str, Any]], None],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Train a head on a backbone, then the layers behind the cut, from where the run stands.

    Args:
        config: Resolved settings; `backbone.cut` says what stays frozen.
        spec: What the backbone sees.
        dataset: Divided into parts.
        weights: The backbone's; None leaves random ones.
        run: Where everything goes.
        log_row: Told of each new row of results.
        progress: Told of features and epochs.

    Returns:
        The history, as `fit` gives it.

    Raises:
        ConfigError: If the backbone cannot be built or cut like that.
        TrainingError: If the loss is not finite.
        StorageError: If something cannot be written.
    """
    assert dataset.val is not None
    n_classes, train = len(dataset.class_names), dataset.train
    if config.augment.randaugment:
        # It changes the images of a batch alike, and a folder's lie class by class: in that order
        # the change would give the class away.
        train = train.select(np.random.default_rng(_VIEW_SEED).permutation(len(train)))
    keras.utils.set_random_seed(config.seed)
    frozen = _build(config, spec, n_classes, config.head, weights, config.backbone.precision)
    _warn_of_single_pixel(frozen, spec, progress)
    cached = _run_frozen(frozen, config, spec, train, dataset.val, progress)
    run.record(feature_seconds=cached.seconds)
    statistics = feature_statistics(cached.features.inputs(0))
    head = choose_head(
        config, cached.features, cached.features_val, statistics, n_classes, run, progress
    )

    keras.utils.set_random_seed(config.seed)
    network = _build(config, spec, n_classes, head, weights, config.precision)
    network.standardise(*statistics)
    twin = _build(config, spec, n_classes, head, weights, "float32")
    if weights is None:
        # Random weights are drawn anew; the frozen ones have to be the network's.
        twin.trunk.set_weights(network.trunk.get_weights())
    history = read_history(run.snapshot_file) if run.snapshot_file.exists() else []

    head_first = network.cut == END or config.backbone.head_epochs > 0
    if head_first and (not history or history[-1]["phase"] == HEAD):
        history = fit(
            Phase(
                network.head,
                cached.features,
                cached.features_val,
                config if network.cut == END else _head_alone(config),
                PortableModel(lambda: (twin.head, twin.whole)).save,
                HEAD,
            ),
            run,
            log_row=log_row,
            progress=progress,
        )
    if network.cut == END:
        return history
    decay = config.optimizer.layer_decay
    return fit(
        Phase(
            network.upper(),
            cached.maps,
            cached.maps_val,
            config,
            PortableModel(lambda: (twin.upper(), twin.whole)).save,
            "whole network" if network.cut == START else f"after {network.cut}",
            {path: decay**depth for path, depth in network.stage_of().items()},
        ),
        run,
        log_row=log_row,
        progress=progress,
    )


@dataclass(frozen=True)
class _Cached:
    """What comes out of the frozen part.

    Attributes:
        features: Pooled, of the training images: what the head learns from.
        features_val: Of the validation images.
        maps: Activations at the cut, of the training images, or the pixels where nothing is
            frozen: what the layers behind the cut learn from. At "end", the features.
        maps_val: Of the validation images.
        seconds: What it cost, those found in the cache included.
    """

    features: Examples
    features_val: Examples
    maps: Examples
    maps_val: Examples
    seconds: float


def _run_frozen(
    frozen: TransferModel,
    config: RunConfig,
    spec: InputSpec,
    train: Split,
    val: Split,
    progress: Progress,
) -> _Cached:
    extract = _Extractor(config, spec, frozen, progress)
    versions = _views(train, config)
    judged = (val.images, _split_key(val), "validation images")
    if frozen.cut == START:
        features = [
            extract(_PIXELS_TO_FEATURES, train.images, _split_key(train), "training images")
        ]
        features_val = extract(_PIXELS_TO_FEATURES, *judged)
        maps = augmented(train, config.augment, config.seed)
        maps_val = Examples.of(val)
    elif frozen.cut == END:
        features = [extract(_PIXELS_TO_FEATURES, *version) for version in versions]
        features_val = extract(_PIXELS_TO_FEATURES, *judged)
        maps = Examples.alternating([each.array for each in features], train.labels)
        maps_val = Examples.alternating([features_val.array], val.labels)
    else:
        cut = [extract(_PIXELS_TO_CUT, *version) for version in versions]
        cut_val = extract(_PIXELS_TO_CUT, *judged)
        features = [
            extract(_CUT_TO_FEATURES, each.array, each.key, version[2])
            for each, version in zip(cut, versions, strict=True)
        ]
        features_val = extract(_CUT_TO_FEATURES, cut_val.array, cut_val.key, judged[2])
        maps = Examples.alternating([each.array for each in cut], train.labels)
        maps_val = Examples.alternating([cut_val.array], val.labels)
    return _Cached(
        Examples.alternating([each.array for each in features], train.labels),
        Examples.alternating([features_val.array], val.labels),
        maps,
        maps_val,
        round(extract.seconds, 1),
    )


def predict_from_features(
    model: keras.Model,
    config: RunConfig,
    spec: InputSpec,
    split: Split,
    name: str,
    *,
    batch_size: int,
    progress: Progress,
) -> FloatArray:
    """Return what a saved classifier with a frozen backbone says, by way of the features' cache.

    The backbone is the saved model's own; where training or another run with the same backbone has seen
    the same images, it need not run again. The answers are those of the model on the pixels, to
    float32 rounding.

    Args:
        model: Loaded from the run; float32.
        config: The run's settings, with `backbone.cut` "end".
        spec: What the backbone sees.
        split: The images.
        name: Of the split, for progress.
        batch_size: Features at a time.
        progress: Told of each batch.

    Returns:
        Shape (n_images, n_classes), float32, rows sum to 1.
    """
    pool = model.get_layer(POOL)
    lower = fold_batch_norm(keras.Model(model.inputs, pool.output))
    head = keras.Model(pool.output, model.outputs[0])
    features = compute_features(
        lower,
        split.images,
        _split_key(split),
        about=_about(config, spec, _PIXELS_TO_FEATURES, "float32"),
        batch_size=batch_size_for(spec.height),
        storage="float32",
        label=f"Features of {name} images",
        progress=progress,
    )
    parts = [
        np.asarray(head.predict_on_batch(features.array[start : start + batch_size]))
        for start in range(0, len(split), batch_size)
    ]
    return np.concatenate(parts).astype(np.float32)


_PIXELS_TO_FEATURES, _PIXELS_TO_CUT = "pixels to features", "pixels to cut"
_CUT_TO_FEATURES = "cut to features"


def _about(config: RunConfig, spec: InputSpec, kind: str, precision: str) -> dict[str, Any]:
    """Return what decides features and is not seen in the weights."""
    return {
        "kind": kind,
        "backbone": config.model,
        # Where all is frozen, features do not depend on where it could be cut.
        "cut": None
        if kind == _PIXELS_TO_FEATURES
        else BACKBONES.get(config.model).cut_at(config.backbone.cut),
        "pooling": config.head.pooling,
        "input": [*spec.shape, spec.scaling],
        "precision": precision,
    }


class _Extractor:
    """Computes features with the frozen network, by way of the cache.

    Attributes:
        seconds: What all of them cost, those found in the cache included.
    """

    def __init__(
        self, config: RunConfig, spec: InputSpec, frozen: TransferModel, progress: Progress
    ) -> None:
        self._config = config
        self._spec = spec
        self._frozen = frozen
        self._progress = progress
        self._networks: dict[str, keras.Model] = {}
        self.seconds = 0.0

    def __call__(self, kind: str, source: Source, key: str, label: str) -> Features:
        if kind not in self._networks:
            pieces: dict[str, Callable[[], keras.Model]] = {
                _PIXELS_TO_FEATURES: lambda: self._frozen.lower(END),
                _PIXELS_TO_CUT: self._frozen.lower,
                _CUT_TO_FEATURES: lambda: self._frozen.between(self._frozen.cut),
            }
            self._networks[kind] = fold_batch_norm(pieces[kind]())
        from_maps = kind == _CUT_TO_FEATURES
        features = compute_features(
            self._networks[kind],
            source,
            key,
            about=_about(self._config, self._spec, kind, self._config.backbone.precision),
            batch_size=256 if from_maps else batch_size_for(self._spec.height),
            storage="float32" if from_maps else self._config.backbone.storage,
            label=f"{'Activations' if kind == _PIXELS_TO_CUT else 'Features'} of {label}",
            progress=self._progress,
        )
        self.seconds += features.seconds
        return features


def _warn_of_single_pixel(frozen: TransferModel, spec: InputSpec, progress: Progress) -> None:
    rows, columns, _ = frozen.map_shape
    if (rows, columns) == (1, 1):
        name, sensible = frozen.backbone.name, max(96, frozen.backbone.sensible_size)
        progress.say(
            f"Note: at {spec.height}x{spec.width} pixels the last feature map of {name} is a "
            "single pixel, too little to tell things apart; "
            f"--image-size {sensible} or more is better"
        )


def _build(
    config: RunConfig,
    spec: InputSpec,
    n_classes: int,
    head: HeadSettings,
    weights: FoundWeights | None,
    precision: str,
) -> TransferModel:
    return build_transfer(
        config.model,
        spec,
        n_classes,
        head,
        cut=config.backbone.cut,
        weights=weights,
        precision=precision,
    )


def _views(train: Split, config: RunConfig) -> list[tuple[Source, str, str]]:
    """Return the versions of the training images that pass the frozen part, with key and name."""
    augment, n_views, key = config.augment, config.backbone.views, _split_key(train)
    if not (augment.flip or augment.crop or augment.randaugment):
        return [(train.images, key, "training images")]
    # MixUp and CutMix come later: they mix what was computed.
    done = augment.model_dump(exclude={"mixup", "cutmix"})
    return [
        (
            AugmentedView(train.images, augment, _VIEW_SEED, view),
            f"{key} {json.dumps(done, sort_keys=True)} {_VIEW_SEED} {view}",
            f"training images, view {view + 1} of {n_views}",
        )
        for view in range(n_views)
    ]


def _head_alone(config: RunConfig) -> RunConfig:
    optimizer = config.optimizer.model_copy(
        update={"learning_rate": config.backbone.head_learning_rate, "ema": None}
    )
    return config.model_copy(
        update={
            "epochs": config.backbone.head_epochs,
            "optimizer": optimizer,
            "schedule": ScheduleSettings(name="cosine"),
            "early_stop_patience": None,
        }
    )


def _split_key(split: Split) -> str:
    # With the shape: the same bytes in other rows and columns are another image.
    digest = hashlib.sha256("".join(split.hashes).encode()).hexdigest()
    return f"{split.images.shape} {digest}"
