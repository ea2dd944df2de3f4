import itertools
import random

import keras
import numpy as np
import pytest

from convscope.errors import ConfigError
from convscope.recipe import AugmentSettings
from convscope.training import augment
from convscope.training.augment import AugmentedView, OrientedImages, hard_targets, soft_targets
from convscope.training.batches import Batches, epoch_order
from convscope.training.objective import build_state
from convscope.training.passes import steps_on_one_device, train_epoch
from convscope.types import ImageView

N_IMAGES, HEIGHT, WIDTH = 40, 10, 20
IMAGES = np.random.default_rng(0).integers(0, 256, (N_IMAGES, HEIGHT, WIDTH, 3), dtype=np.uint8)
SQUARE = IMAGES[:, :, :HEIGHT]
ALL = AugmentSettings(flip=True, crop=0.1, cutout=0.3, randaugment=2)


def view(number=0, *, images=IMAGES, seed=83, **settings) -> AugmentedView:
    return AugmentedView(images, AugmentSettings(**settings), seed, number)


def batch(n=64, side=8, n_classes=4, seed=0):
    """Images whose pixels all say which image they are of, and labels."""
    images = np.arange(n, dtype=np.float32)[:, None, None, None] * np.ones((side, side, 2))
    return images.astype(np.float32), np.random.default_rng(seed).integers(0, n_classes, n)


# Flips, turns, shifts and Cutout.


def test_without_settings_nothing_changes():
    np.testing.assert_array_equal(view()[:], IMAGES)


def test_two_views_hold_each_image_both_ways_round():
    mirrored = IMAGES[:, :, ::-1]
    first, second, third = (view(number, flip=True)[:] for number in range(3))
    flipped = (first == mirrored).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(first[~flipped], IMAGES[~flipped])
    np.testing.assert_array_equal(second[flipped], IMAGES[flipped])
    np.testing.assert_array_equal(second[~flipped], mirrored[~flipped])
    np.testing.assert_array_equal(third, first)
    # Not all the same way at once.
    assert 8 < flipped.sum() < 32


def ways_of(changed) -> list[list[int]]:
    """Return which orientations of each image each of some views holds: quarters, then mirrored."""
    ways = [
        np.rot90(start, quarters, axes=(1, 2))
        for start in (SQUARE, SQUARE[:, :, ::-1])
        for quarters in range(4)
    ]
    return [
        [next(way for way in range(8) if np.array_equal(image, ways[way][place])) for image in rows]
        for place, rows in enumerate(zip(*changed, strict=True))
    ]


def test_four_views_hold_each_image_in_all_ways_and_with_flips_eight_in_all_orientations():
    turned = ways_of([view(number, images=SQUARE, turn=True)[:] for number in range(8)])
    for ways in turned:
        assert sorted(ways[:4]) == sorted(ways[4:]) == [0, 1, 2, 3]
        assert all(one != other for one, other in itertools.pairwise(ways))
    # Not all the same way at once.
    assert all(4 < [ways[0] for ways in turned].count(way) < 20 for way in range(4))
    both = ways_of([view(number, images=SQUARE, flip=True, turn=True)[:] for number in range(8)])
    assert all(sorted(ways) == list(range(8)) for ways in both)
    # A turn says nothing about a flip: each orientation is as frequent.
    many = np.zeros((4000, 4, 4, 1), np.uint8)
    made = view(3, images=many, flip=True, turn=True)
    shares = np.bincount(made.changes.turns + 4 * made.changes.flipped, minlength=8) / len(many)
    assert np.abs(shares - 1 / 8).max() < 0.02


def test_turns_leave_flips_shifts_and_squares_as_they_are():
    rest = {"flip": True, "crop": 0.2, "cutout": 0.3}
    without, having = (view(2, images=SQUARE, turn=turn, **rest) for turn in (False, True))
    for name in ("flipped", "shift", "corner"):
        np.testing.assert_array_equal(getattr(having.changes, name), getattr(without.changes, name))
    assert not without.changes.turns.any()
    assert not np.array_equal(having[:], without[:])


def test_images_that_are_not_square_are_not_turned():
    message = r"augment\.turn needs square images, and these are 20 x 10; --image-size 10 makes"
    with pytest.raises(ConfigError, match=message):
        view(turn=True)


def test_images_in_an_orientation_are_as_a_view_has_them():
    for way in range(8):
        images = OrientedImages(SQUARE, way)
        assert ways_of([images[:]]) == [[way]] * len(images)
        np.testing.assert_array_equal(images[np.array([5, 3])], images[:][[5, 3]])


def test_shifts_stay_within_reach_use_all_of_it_and_mirror_the_edges():
    # By 0.2 of the side: 2 rows, 4 columns.
    shifts = set()
    for number in range(30):
        moved = view(number, crop=0.2)[:]
        for image, result in zip(IMAGES, moved, strict=True):
            # Reference: mirror at the edges, without repeating fewer than all pixels.
            wide = np.concatenate([image[::-1], image, image[::-1]])
            wide = np.concatenate([wide[:, ::-1], wide, wide[:, ::-1]], axis=1)
            found = [
                (up, left)
                for up in range(-2, 3)
                for left in range(-4, 5)
                if np.array_equal(
                    result,
                    wide[HEIGHT + up : 2 * HEIGHT + up, WIDTH + left : 2 * WIDTH + left],
                )
            ]
            assert len(found) == 1
            shifts.add(found[0])
    assert len(shifts) == 5 * 9


def test_a_shift_of_almost_the_whole_side_is_possible():
    assert view(crop=0.99)[:].shape == IMAGES.shape


@pytest.mark.parametrize("key", [slice(7, 23), np.array([5, 3, 30]), np.array([4]), slice(36, 99)])
def test_flips_turns_shifts_and_squares_are_the_same_whatever_the_batch(key):
    settings = {"images": SQUARE, "flip": True, "turn": True, "crop": 0.2, "cutout": 0.3}
    whole = view(3, **settings)[:]
    np.testing.assert_array_equal(view(3, **settings)[key], whole[key])


def test_cutout_gives_a_rectangle_within_each_image_its_mean_colour():
    # 0.3 of the sides: 3 rows, 6 columns.
    corners = set()
    for number in range(30):
        changed = view(number, cutout=0.3)
        for image, result in zip(IMAGES, changed[:], strict=True):
            colour = np.floor(image.mean(axis=(0, 1)) + 0.5)
            rows, columns = np.nonzero((result != image).any(axis=-1))
            assert (np.ptp(rows), np.ptp(columns)) == (2, 5)
            inside = result[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (inside == colour).all()
            corners.add((rows.min(), columns.min()))
    # Of 1,200 squares over 8 x 15 places, to the very edges.
    assert {row for row, _ in corners} == set(range(8))
    assert {column for _, column in corners} == set(range(15))


def test_a_flip_says_nothing_about_a_shift():
    images = np.zeros((2000, 10, 10, 3), np.uint8)
    for number in (0, 1):
        made = view(number, images=images, flip=True, crop=0.2)
        for shift in range(-2, 3):
            for axis in (0, 1):
                assert 0.4 < made.changes.flipped[made.changes.shift[:, axis] == shift].mean() < 0.6


def test_cutout_leaves_flips_and_shifts_as_they_are():
    without, having = (view(2, flip=True, crop=0.2, cutout=share)[:] for share in (0, 0.3))
    same = (without == having).all(axis=-1)
    # Outside of rectangles of 3 x 6 of the 10 x 20 pixels; some of theirs may match by chance.
    assert (same.mean(axis=(1, 2)) >= 0.91).all()
    assert same.mean() < 0.92


def test_a_square_smaller_than_a_pixel_is_none():
    np.testing.assert_array_equal(view(cutout=0.04)[:], IMAGES)


def test_the_originals_are_not_changed():
    before = IMAGES.copy()
    view(flip=True, crop=0.2, cutout=0.3, randaugment=2)[:]
    view(flip=True)[np.arange(5)]
    view(images=SQUARE, turn=True)[:]
    np.testing.assert_array_equal(IMAGES, before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["memory-mapped", "view"])
def test_images_that_stay_on_the_disk_give_the_same(tmp_path, kind, channels):
    images = IMAGES[..., :channels]
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    expected = AugmentedView(images, ALL, 83, 0)
    if kind == "view":
        rows = np.arange(N_IMAGES)[::-1]
        mapped = ImageView(mapped, rows)
        expected = AugmentedView(images[rows], ALL, 83, 0)
    found = AugmentedView(mapped, ALL, 83, 0)
    assert len(found) == N_IMAGES
    for key in (slice(0, 16), np.array([9, 2])):
        result = found[key]
        np.testing.assert_array_equal(result, expected[key])
        assert result.dtype == np.uint8
        assert result.shape[1:] == (HEIGHT, WIDTH, channels)


def test_seed_and_view_decide_and_nothing_else_does():
    first = AugmentedView(IMAGES, ALL, 83, 1)[:16]
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generator must not matter
    keras.utils.set_random_seed(5)
    AugmentedView(IMAGES, ALL, 1, 7)[:16]
    np.testing.assert_array_equal(AugmentedView(IMAGES, ALL, 83, 1)[:16], first)
    for seed, number in ((83, 2), (84, 1), (1, 83)):
        assert (AugmentedView(IMAGES, ALL, seed, number)[:16] != first).mean() > 0.2


# RandAugment.


def test_randaugment_is_the_same_after_a_restart(monkeypatch):
    first = view(randaugment=2)[:16]
    # As in a new process: the layer is made anew.
    monkeypatch.setattr(augment, "_LAYERS", {})
    np.testing.assert_array_equal(view(randaugment=2)[:16], first)
    assert first.dtype == np.uint8
    assert (first != IMAGES[:16]).mean() > 0.1


def test_randaugment_leaves_the_shared_random_numbers_alone(monkeypatch):
    monkeypatch.setattr(augment, "_LAYERS", {})
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - that one is meant
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    view(randaugment=2)[:4]
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_randaugment_does_different_things_to_different_batches():
    # A flat image shows which brightness it was given.
    flat = np.full((64, 8, 8, 3), 128, np.uint8)
    changed = {view(images=flat, randaugment=2)[start : start + 1].tobytes() for start in range(64)}
    assert len(changed) > 15


def test_each_generator_of_a_layer_gets_its_own_state_anew():
    layer = keras.layers.RandAugment(seed=0)
    states = [v for v in layer.variables if v.path.endswith("seed_generator_state")]
    # One of its own, and one in each layer inside it that draws numbers.
    assert len(states) == 10
    augment._reseeded(layer, [83, 0, 0])
    first = [tuple(keras.ops.convert_to_numpy(state).tolist()) for state in states]
    assert len(set(first)) == len(first)
    layer(IMAGES[:4].astype("float32"), training=True)
    augment._reseeded(layer, [83, 0, 0])
    assert [tuple(keras.ops.convert_to_numpy(state).tolist()) for state in states] == first
    augment._reseeded(layer, [83, 0, 1])
    assert tuple(keras.ops.convert_to_numpy(states[0]).tolist()) not in first


def test_randaugment_is_as_strong_as_asked():
    plain = IMAGES[:16].astype(float)
    weak, strong = (
        np.mean(
            [
                np.abs(view(n, randaugment=1, randaugment_factor=factor)[:16] - plain).mean()
                for n in range(20)
            ]
        )
        for factor in (0.05, 0.9)
    )
    assert weak < strong


def test_grey_images_stay_grey_and_are_changed():
    grey = IMAGES[..., :1]
    changed = AugmentedView(grey, ALL, 83, 0)[:16]
    assert changed.shape == grey[:16].shape
    assert (changed != grey[:16]).any()


def test_randaugment_computes_in_float32_under_every_policy(monkeypatch):
    expected = view(randaugment=2)[:8]
    monkeypatch.setattr(augment, "_LAYERS", {})
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = view(randaugment=2)[:8]
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(found, expected)


# Labels.


def test_plain_labels_stay_indices():
    settings = AugmentSettings(flip=True, crop=0.1, randaugment=2)
    assert soft_targets(settings, 0.0, 4, 83, 0) is None


def test_smoothing_spreads_its_share_over_all_classes():
    finish = soft_targets(AugmentSettings(), 0.1, 4, 83, 0)
    inputs, labels = batch(3)
    same, soft = finish(inputs, labels, 0)
    assert same is inputs
    assert soft.dtype == np.float32
    expected = np.full((3, 4), 0.025)
    expected[np.arange(3), labels] = 0.925
    np.testing.assert_allclose(soft, expected, rtol=1e-6)


def test_hard_targets_are_one_hot():
    inputs, labels = batch(5)
    same, hard = hard_targets(4)(inputs, labels, 0)
    assert same is inputs
    np.testing.assert_array_equal(hard, np.eye(4)[labels])


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 8.0])
def test_mixup_mixes_labels_as_it_mixes_pixels(alpha):
    # A channel for each image, so that a mixed one shows what it is made of.
    n = 64
    images = np.zeros((n, 2, 2, n), np.float32)
    images[np.arange(n), :, :, np.arange(n)] = 1
    labels = np.random.default_rng(0).integers(0, 4, n)
    mixed, soft = soft_targets(AugmentSettings(mixup=alpha), 0.0, 4, 83, 0)(images, labels, 0)
    shares = mixed[:, 0, 0]  # (image, origin)
    np.testing.assert_array_equal(mixed, np.broadcast_to(shares[:, None, None], mixed.shape))
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert ((shares > 0).sum(axis=1) <= 2).all()
    np.testing.assert_allclose(soft, shares @ np.eye(4)[labels], atol=1e-6)
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-6)
    # Every image is given away once.
    assert ((shares > 0).sum(axis=0) <= 2).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_share_is_that_of_the_paper(alpha):
    # Beta(alpha, alpha): mean 1/2, variance 1 / (4 (2 alpha + 1)).
    images, labels = np.zeros((400, 2, 2, 1), np.float32), np.zeros(400, int)
    images[1::2], labels[1::2] = 1, 1
    finish = soft_targets(AugmentSettings(mixup=alpha), 0.0, 2, 83, 0)
    kept = []
    for index in range(20):
        _, soft = finish(images, labels, index)
        own = soft[np.arange(400), labels]
        kept.append(own[own < 1])  # The others were mixed with their like.
    kept = np.concatenate(kept)
    assert kept.mean() == pytest.approx(0.5, abs=0.03)
    assert kept.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0])
@pytest.mark.parametrize("side", [4, 7, 32])
def test_cutmix_labels_are_the_shares_of_the_pixels(alpha, side):
    images, labels = batch(side=side)
    finish = soft_targets(AugmentSettings(cutmix=alpha), 0.0, 4, 83, 0)
    patched = 0
    for index in range(10):
        mixed, soft = finish(images, labels, index)
        assert mixed.dtype == soft.dtype == np.float32
        assert np.isfinite(soft).all()
        for number, image in enumerate(mixed):
            np.testing.assert_array_equal(image[..., 0], image[..., 1])
            values, counts = np.unique(image[..., 0], return_counts=True)
            assert len(values) <= 2
            expected = np.zeros(4)
            np.add.at(expected, labels[values.astype(int)], counts / side**2)
            np.testing.assert_allclose(soft[number], expected, atol=1e-6)
            strange = image[..., 0] != number
            if 0 < strange.sum() < side**2:
                patched += 1
                rows, columns = strange.any(axis=1), strange.any(axis=0)
                # A rectangle.
                assert strange.sum() == rows.sum() * columns.sum()
                for line in (rows, columns):
                    assert np.diff(np.flatnonzero(line)).max(initial=1) == 1
    assert patched > 5


def test_cutmix_takes_about_the_share_that_was_drawn():
    # Beta(1, 1) is uniform: half on average, less what reaches over the edge.
    images, labels = batch(500, side=32)
    mixed, _ = soft_targets(AugmentSettings(cutmix=1.0), 0.0, 4, 83, 0)(images, labels, 0)
    own = (mixed[..., 0] == np.arange(500)[:, None, None]).mean()
    assert 0.5 < own < 0.75


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_same_seed_epoch_and_batch_give_the_same(kind):
    inputs, labels = batch(16)

    def mixed(seed, epoch, index):
        settings = AugmentSettings(**{kind: 1.0})
        return soft_targets(settings, 0.1, 4, seed, epoch)(inputs, labels, index)

    first = mixed(83, 2, 5)
    for mine, theirs in zip(mixed(83, 2, 5), first, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(first[1].sum(axis=1), 1, atol=1e-6)
    for other in ((83, 2, 6), (83, 3, 5), (84, 2, 5)):
        assert (mixed(*other)[0] != first[0]).any()
    np.testing.assert_array_equal(inputs, batch(16)[0])


def test_with_both_each_batch_draws_one():
    inputs, labels = batch()
    finish = soft_targets(AugmentSettings(mixup=1.0, cutmix=1.0), 0.0, 4, 83, 0)
    # Only CutMix leaves whole pixels.
    whole = [(finish(inputs, labels, n)[0] % 1 == 0).all() for n in range(40)]
    assert 8 < sum(whole) < 32


def test_patches_are_cut_out_of_maps_only_and_no_image_is_mixed_alone():
    features, labels = np.eye(6, 9, dtype=np.float32), np.arange(6) % 4
    finish = soft_targets(AugmentSettings(cutmix=1.0), 0.0, 4, 83, 0)
    same, soft = finish(features, labels, 0)
    assert same is features
    np.testing.assert_array_equal(soft, np.eye(4)[labels])
    finish = soft_targets(AugmentSettings(mixup=1.0, cutmix=1.0), 0.0, 4, 83, 0)
    mixed, soft = finish(features, labels, 0)
    # Feature n is image n's share, and labels are shared alike.
    np.testing.assert_allclose(mixed[:, :6] @ np.eye(4)[labels], soft, atol=1e-6)
    assert 0 < mixed[0, 0] < 1
    image, label = batch(1)
    same, soft = finish(image, label, 0)
    assert same is image
    np.testing.assert_array_equal(soft, np.eye(4)[label])


def test_pixels_and_float16_maps_are_mixed_as_float32():
    finish = soft_targets(AugmentSettings(mixup=1.0), 0.0, 4, 83, 0)
    labels = np.arange(N_IMAGES) % 4
    for inputs in (IMAGES, IMAGES.astype(np.float16)):
        mixed, _ = finish(inputs, labels, 0)
        assert mixed.dtype == np.float32
        assert mixed.min() >= 0
        assert mixed.max() <= 255


def test_keras_learns_from_all_of_it_at_once():
    settings = AugmentSettings(flip=True, crop=0.1, randaugment=1, mixup=0.2, cutmix=1.0)
    labels = np.arange(N_IMAGES) % 4

    def learnt():
        keras.utils.set_random_seed(0)
        pixels = keras.Input((HEIGHT, WIDTH, 3))
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
        model = keras.Model(pixels, keras.layers.Dense(4, activation="softmax")(x))
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
        build_state(model, 4, flags=True)
        steps = steps_on_one_device(model)
        for epoch in range(2):
            finish = soft_targets(settings, 0.1, 4, 83, epoch)
            source = AugmentedView(IMAGES, settings, 83, epoch)
            batches = Batches(source, labels, 16, epoch_order(N_IMAGES, 83, epoch), finish)
            train_epoch(steps, batches)
        return model.get_weights()

    for mine, theirs in zip(learnt(), learnt(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert np.isfinite(mine).all()
