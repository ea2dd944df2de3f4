"""What the frozen part gives, and what decides whether that is in the cache."""

import dataclasses

import numpy as np
import pytest

import convscope
from convscope import backend
from convscope.models.transfer import build_transfer
from convscope.progress import Progress
from convscope.recipe import RunConfig, resolve
from convscope.recipes import RECIPES
from convscope.training import frozen as module
from convscope.training.batches import Examples
from convscope.training.frozen import FrozenOutput, run_frozen, run_to_cut
from convscope.types import Dataset, InputSpec

PROBE = {"model": "tiny", "backbone.cut": "end"}


@pytest.fixture(autouse=True, scope="module")
def set_up(tiny):
    backend.configure()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return convscope.load("digits", progress=Progress())


class Keys:
    """Looks at the keys of all features that are asked for."""

    def __init__(self, monkeypatch):
        self.seen: list[str] = []
        compute = module.compute_features

        def noting(*arguments, **options):
            features = compute(*arguments, **options)
            self.seen.append(features.key)
            return features

        monkeypatch.setattr(module, "compute_features", noting)


def frozen(
    data: Dataset, *, size: int = 32, scaling: str = "unit", only_cut: bool = False, **changes
) -> FrozenOutput | tuple[Examples, Examples]:
    config: RunConfig = resolve(RECIPES.get("finetune")(), PROBE, changes)
    spec = InputSpec(size, size, 1, scaling)
    backbone = config.backbone
    # As `train_transfer` builds it: the same weights each time.
    import keras

    keras.utils.set_random_seed(83)
    network = build_transfer(
        config.model, spec, 10, config.head, cut=backbone.cut, precision=backbone.precision
    )
    if only_cut:
        return run_to_cut(network, config, spec, [data.train], data.val)
    return run_frozen(network, config, spec, [data.train], data.val, Progress())


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone.cut": "stage2"},
        {"backbone.cut": "stage2", "augment.randaugment": 1},
        {"backbone.cut": "start", "augment.flip": True},
    ],
    ids=str,
)
def test_what_is_behind_the_cut_gets_the_same_in_every_process(data, changes):
    whole = frozen(data, **changes)
    maps, maps_val = frozen(data, only_cut=True, **changes)
    for mine, theirs in ((maps, whole.maps), (maps_val, whole.maps_val)):
        np.testing.assert_array_equal(mine.labels, theirs.labels)
        for epoch in (0, 1):
            np.testing.assert_array_equal(mine.inputs(epoch)[:50], theirs.inputs(epoch)[:50])


def test_features_serve_another_run_that_asks_for_the_same(data, monkeypatch):
    keys = Keys(monkeypatch)
    first, again = frozen(data), frozen(data, **{"optimizer.learning_rate": 0.5, "seed": 7})
    half = len(keys.seen) // 2
    assert keys.seen[:half] == keys.seen[half:]
    assert len(set(keys.seen[:half])) == half == 3  # two views, and the validation images
    np.testing.assert_array_equal(first.features.inputs(0), again.features.inputs(0))
    # It says what they once took, and what finding them took.
    assert again.seconds == first.seconds
    assert 0 < again.spent < first.spent


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone.precision": "bfloat16"},
        {"backbone.storage": "float16"},
        {"size": 48},
        {"scaling": "tf"},
        {"head.pooling": "flatten", "size": 64},
    ],
    ids=str,
)
def test_features_of_other_settings_are_computed_anew(data, monkeypatch, changes):
    keys = Keys(monkeypatch)
    before = frozen(data, size=64 if "head.pooling" in changes else 32)
    known = set(keys.seen)
    keys.seen.clear()
    after = frozen(data, **changes)
    assert known.isdisjoint(keys.seen)
    one, other = before.features.inputs(0), after.features.inputs(0)
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize("kinds", [("flip",), ("turn",), ("flip", "turn")], ids=str)
def test_a_head_that_is_fitted_at_once_learns_an_image_in_each_orientation(data, kinds):
    head = {"head.logistic": True, "head.standardise": True, "head.dropout": 0.0}

    def features(images: np.ndarray, views: int, flip: bool, turn: bool) -> Examples:
        of_them = dataclasses.replace(data, train=dataclasses.replace(data.train, images=images))
        settings = {"augment.flip": flip, "augment.turn": turn, "backbone.views": views}
        return frozen(of_them, **head, **settings).features

    images = np.asarray(data.train.images)
    starts = (images, images[:, :, ::-1]) if "flip" in kinds else (images,)
    turns = range(4 if "turn" in kinds else 1)
    ways = [np.rot90(start, n, axes=(1, 2)) for start in starts for n in turns]
    found = features(images, len(ways), "flip" in kinds, "turn" in kinds)
    for view, way in enumerate(ways):
        plain = features(np.ascontiguousarray(way), 1, flip=False, turn=False)
        np.testing.assert_array_equal(found.inputs(view)[:], plain.inputs(0)[:])


def test_activations_of_another_cut_are_computed_anew(data, monkeypatch):
    keys = Keys(monkeypatch)
    shapes = []
    for cut in ("stage2", "stage3"):
        keys.seen.clear()
        shapes.append(frozen(data, **{"backbone.cut": cut}).maps.inputs(0).shape[1:])
        shapes.append(set(keys.seen))
    assert shapes[0::2] == [(8, 8, 8), (4, 4, 8)]
    assert shapes[1].isdisjoint(shapes[3])
