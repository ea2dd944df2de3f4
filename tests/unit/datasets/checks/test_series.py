"""Series: frames and bursts are found by their names, unrelated images are not."""

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.checks.fingerprints import Fingerprints, fingerprint, gather
from convscope.datasets.checks.series import Series, find_series
from scenes import scene

N_FRAMES = 8


def videos(n_videos: int, spelt: str) -> tuple[list[str], list[Image.Image]]:
    """Frames of a camera that moves over a scene, in the order of the videos, for two classes."""
    names, images = [], []
    for video in range(n_videos):
        wide = scene(video).resize((128, 96))
        for frame in range(N_FRAMES):
            kind = ("cat", "dog")[video % 2]
            names.append(spelt.format(kind=kind, video=video, frame=frame + 3))
            images.append(wide.crop((2 * frame, 0, 2 * frame + 96, 96)))
    return names, images


def found_in(
    names: list[str], images: list[Image.Image], parts: list[str] | None = None
) -> Series | None:
    def prints_of(places: np.ndarray) -> Fingerprints:
        return gather(fingerprint(np.asarray(images[place])) for place in places)

    classes = [name.split("/")[0] for name in names]
    return find_series(names, classes, prints_of, parts=parts)


@pytest.mark.parametrize(
    ("spelt", "group"),
    [
        ("{kind}/clip{video:03d}_{frame}.png", "(.*[^0-9])[0-9]+[.]"),
        ("{kind}/clip{video:03d}/{frame}.png", "(.*[^0-9])[0-9]+[.]"),
        ("{kind}/{video:03d}-{frame}x.png", "(.+)[-_ ][^-_ /]*[.]"),
        ("{kind}/{video:03d}_{frame}_left.png", "((?:.*/)?[^-_ ./]+)"),
        ("{kind}/{video:03d}/x{frame}x.png", "(.*)/"),
    ],
)
def test_frames_are_a_series_and_the_groups_are_told_from_their_names(spelt, group) -> None:
    names, images = videos(20, spelt)
    shuffled = np.random.default_rng(0).permutation(len(names))
    found = found_in([names[place] for place in shuffled], [images[place] for place in shuffled])
    assert found is not None
    assert found.alike > 0.75
    assert found.group == group
    # Frame 10 comes after frame 9, not after frame 1.
    number = {name: place for place, name in enumerate(names)}
    steps = [number[second] - number[first] for first, second in found.pairs]
    assert np.mean(np.array(steps) == 1) > 0.9


def test_where_no_part_of_the_names_tells_the_series_no_group_is_advised() -> None:
    names, images = videos(20, "{kind}/{video:03d}{frame:03d}.png")
    found = found_in(names, images)
    assert found is not None
    assert found.group is None


def test_a_setting_by_which_a_class_could_not_be_divided_is_not_advised() -> None:
    names, images = videos(20, "{kind}/clip{video:03d}_{frame}.png")
    # One class is a single video.
    wide = scene(99).resize((160, 96))
    for frame in range(30):
        names.append(f"owl/only_{frame}.png")
        images.append(wide.crop((2 * frame, 0, 2 * frame + 96, 96)))
    found = found_in(names, images)
    assert found is not None
    assert found.group is None


def test_the_first_digit_of_a_number_is_no_group() -> None:
    names, images = videos(20, "{video:02d}{frame}.png")
    found = find_series(
        names,
        ["all"] * len(names),
        lambda places: gather(fingerprint(np.asarray(images[place])) for place in places),
    )
    assert found is not None
    assert found.group is None


def test_unrelated_images_are_none_whatever_their_names() -> None:
    for spelt in ("{kind}/clip{video:03d}_{frame}.png", "{kind}/{video:03d}{frame:03d}.png"):
        names, _ = videos(20, spelt)
        assert found_in(names, [scene(seed) for seed in range(len(names))]) is None


@pytest.mark.parametrize("in_folders", [False, True])
def test_only_neighbours_in_different_parts_count_if_there_are_parts(in_folders) -> None:
    names, images = videos(20, "{kind}/clip{video:03d}_{frame}.png")
    kinds = [name.split("/")[0] for name in names]
    chance = np.random.default_rng(1)

    def found_of(parts: list[str]) -> Series | None:
        spelt = [f"{part}/{name}" for part, name in zip(parts, names, strict=True)]
        shown = spelt if in_folders else names
        return find_series(
            shown,
            kinds,
            lambda places: gather(fingerprint(np.asarray(images[place])) for place in places),
            parts=parts,
        )

    assert found_of(["train"] * len(names)) is None
    found = found_of(["val" if chance.random() < 0.3 else "train" for _ in names])
    assert found is not None
    assert found.alike > 0.75


def test_videos_that_are_whole_in_their_part_are_no_series_across_parts() -> None:
    # So short that there are neighbours enough in different parts.
    names, images = [], []
    for video in range(140):
        wide = scene(video).resize((120, 96))
        for frame in range(2):
            names.append(f"cat/clip{video:03d}_{frame}.png")
            images.append(wide.crop((2 * frame, 0, 2 * frame + 96, 96)))
    by_video = ["train" if place // 2 % 2 else "val" for place in range(len(names))]
    assert found_in(names, images, by_video) is None
    assert found_in(names, images, ["train" if place % 2 else "val" for place in range(280)])


@pytest.mark.parametrize("n_videos", [0, 1, 5])
def test_few_images_say_nothing(n_videos: int) -> None:
    assert found_in(*videos(n_videos, "{kind}/clip{video:03d}_{frame}.png")) is None


def test_blank_images_are_no_series() -> None:
    names, _ = videos(20, "{kind}/clip{video:03d}_{frame}.png")
    shades = [(12 * (place // N_FRAMES),) * 3 for place in range(len(names))]
    assert found_in(names, [Image.new("RGB", (64, 64), shade) for shade in shades]) is None


def test_a_name_may_end_in_more_digits_than_a_number_has() -> None:
    names, images = videos(20, "{kind}/clip{video:03d}_{frame}" + "9" * 5000 + ".png")
    assert found_in(names, images) is not None


def test_of_many_classes_enough_images_of_some_are_looked_at() -> None:
    # 300 classes of 20 images, ten videos of two frames each.
    chance = np.random.default_rng(0)
    names, places = [], []
    for kind in range(300):
        for image in range(20):
            names.append(f"{kind:03d}/{image // 2:02d}-{image % 2}.png")
            places.append(kind * 10 + image // 2)
    seen: list[int] = []

    def prints_of(wanted: np.ndarray) -> Fingerprints:
        seen.extend(wanted.tolist())
        pictures = {
            place: np.random.default_rng(place).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            for place in {places[each] for each in wanted}
        }
        return gather(
            fingerprint(
                np.asarray(Image.fromarray(pictures[places[each]]).resize((32, 32)))
                + chance.integers(0, 3, (32, 32, 3), dtype=np.uint8)
            )
            for each in wanted
        )

    found = find_series(names, [name.split("/")[0] for name in names], prints_of)
    assert found is not None
    assert 0.4 < found.alike < 0.65
    assert found.group == "(.*[^0-9])[0-9]+[.]"
    assert len(seen) <= 4_000
    assert len({names[each].split("/")[0] for each in seen}) >= 50
