"""Leaks that are no exact copies; exact ones are laid as a trap in the contract tests."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from convscope.diagnosis import Remedy
from convscope.diagnosis.leaks import leaks
from convscope.types import Dataset, SealedSplit, Split


def scenes(part: str, n_images: int, seed: int) -> Split:
    chance = np.random.default_rng(seed)
    images = [
        np.asarray(
            Image.fromarray(chance.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
                (48, 48), Image.Resampling.BICUBIC
            )
        )
        for _ in range(n_images)
    ]
    ids = np.array([f"{part}/{number}" for number in range(n_images)])
    return Split(np.stack(images), np.zeros(n_images, np.int64), ids)


def case_of(
    train: Split,
    val: Split,
    test: Split,
    *,
    refit: bool = False,
    data: str = "made",
    drawn: bool = True,
    near_copies: bool = False,
) -> SimpleNamespace:
    dataset = Dataset(
        "made",
        ("a", "b"),
        train,
        val,
        SealedSplit(test),
        drawn=frozenset({"val", "test"} if drawn else ()),
    )
    return SimpleNamespace(
        dataset=dataset,
        val_images=val,
        data="made",
        data_words=("--data", "made"),
        config=SimpleNamespace(
            refit=refit,
            multi_label=False,
            data=data,
            split=SimpleNamespace(near_copies=near_copies),
        ),
        again=lambda words, settings: Remedy(words, "convscope train", settings),
        predictions={},
    )


def test_parts_without_copies_have_no_leak() -> None:
    case = case_of(scenes("train", 40, 0), scenes("val", 20, 1), scenes("test", 20, 2))
    assert leaks(case) is None


@pytest.mark.parametrize(("n_leaked", "sure"), [(2, "likely"), (10, "note")])
def test_near_copies_are_counted(n_leaked: int, sure: str) -> None:
    train, val, test = scenes("train", 40, 0), scenes("val", 20, 1), scenes("test", 20, 2)
    brighter = np.clip(train.images[:n_leaked] * 0.8 + 30, 0, 255).astype(np.uint8)
    mirrored = brighter[:, :, ::-1]
    val.images[:n_leaked] = brighter
    test.images[5] = mirrored[0]
    found = leaks(case_of(train, val, test))
    assert found is not None
    assert found.sure == sure
    assert f"{n_leaked} of 20 val images look like one of train" in found.evidence
    assert "1 of 20 test images looks like one of train" in found.evidence
    assert "1 of 20 test images looks like one of val" in found.evidence
    assert "such as val/0 and train/0, test/5 and train/0, test/5 and val/0" in found.evidence
    assert ("look alike by nature" in found.evidence) == (sure == "note")


@pytest.mark.parametrize(
    ("how", "settings"),
    [
        ({}, [{"split.near_copies": True}, {}]),
        ({"near_copies": True}, [{}]),
        ({"drawn": False}, [{}]),
    ],
)
def test_near_copies_are_kept_in_one_part_by_a_setting_if_parts_are_drawn(how, settings) -> None:
    train, val, test = scenes("train", 40, 0), scenes("val", 20, 1), scenes("test", 20, 2)
    val.images[:3] = np.clip(train.images[:3] * 0.8 + 30, 0, 255).astype(np.uint8)
    found = leaks(case_of(train, val, test, **how))
    assert found is not None
    assert [remedy.settings for remedy in found.remedies] == settings
    assert found.remedies[-1].command == "convscope data check --data made"


def test_groups_in_two_parts_are_a_leak() -> None:
    train, val, test = scenes("train", 4, 0), scenes("val", 2, 1), scenes("test", 2, 2)
    named = [["ann", "ann", "ben", ""], ["cleo", ""], ["dora", "ben"]]
    parts = [
        part.in_groups(np.array(groups))
        for part, groups in zip((train, val, test), named, strict=True)
    ]
    found = leaks(case_of(*parts))
    assert found is not None
    assert found.sure == "certain"
    assert found.evidence.startswith("1 group of test also in train, such as 'ben'. ")
    assert found.remedies[0].command.startswith("convscope data check")
    assert leaks(case_of(*parts[:2], test.in_groups(np.array(["dora", ""])))) is None


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("refit", [False, True])
def test_validation_images_in_the_test_part_are_told_as_that(exact: bool, refit: bool) -> None:
    train, val, test = scenes("train", 40, 0), scenes("val", 20, 1), scenes("test", 20, 2)
    copy = val.images[3] if exact else np.clip(val.images[3] * 0.8 + 30, 0, 255).astype(np.uint8)
    test.images[5] = copy
    found = leaks(case_of(train, val, test, refit=refit))
    assert found is not None
    assert found.sure == ("certain" if exact else "likely")
    verb = "are" if exact else "look like"
    assert found.symptom.endswith(f"some test images {verb} validation images.")
    assert "1 of 20 test images" in found.evidence
    assert "train " not in found.evidence
    assert ("The validation images were trained on too" in found.evidence) == refit


def frames(spelt: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames of 25 videos, in which a camera moves over a scene, and their names."""
    wide = scenes("wide", 25, 5).images
    images = np.stack([view[:, 2 * frame : 2 * frame + 32] for view in wide for frame in range(8)])
    names = [spelt.format(video=video, frame=frame) for video in range(25) for frame in range(8)]
    return images, np.array(names)


@pytest.mark.parametrize("data", ["folder", "made"])
def test_frames_of_a_video_in_two_parts_are_a_leak_of_ones_own_images(data: str) -> None:
    images, names = frames("a/{video:02d}-{frame}.png")
    order = np.random.default_rng(0).permutation(len(names))
    cuts = np.split(order, [120, 160])
    parts = [Split(images[rows], np.zeros(len(rows), np.int64), names[rows]) for rows in cuts]
    found = leaks(case_of(*parts, data=data))
    if data == "made":
        # Names of registered images are numbers.
        assert found is None or "series" not in found.symptom
        return
    assert found is not None
    assert found.sure == "likely"
    assert found.symptom == "Possible data leak: images of one series are in different parts."
    assert "% of the pairs of neighbours by name that are in different parts" in found.evidence
    assert found.remedies[0].settings == {"split.group": "(.*[^0-9])[0-9]+[.]"}
    # Parts that are given are not changed by a setting.
    found = leaks(case_of(*parts, data=data, drawn=False))
    assert found is not None
    assert found.remedies[0].words == "list them; give each series to one part"
    assert found.remedies[0].command == "convscope data check --data made"


def test_near_copies_and_series_are_both_told() -> None:
    images, names = frames("a/{video:02d}-{frame}.png")
    order = np.random.default_rng(0).permutation(len(names))
    cuts = np.split(order, [120, 160])
    parts = [Split(images[rows], np.zeros(len(rows), np.int64), names[rows]) for rows in cuts]
    bright = np.clip(parts[0].images[:3] * 0.8 + 30, 0, 255).astype(np.uint8)
    parts[1].images[:3] = bright
    found = leaks(case_of(*parts, data="folder"))
    assert found is not None
    assert "neighbours by name" in found.evidence
    assert "look like one of train" in found.evidence
    assert [list(remedy.settings) for remedy in found.remedies] == [
        ["split.group"],
        ["split.near_copies"],
        [],
    ]


def test_without_groups_in_the_names_the_remedy_is_a_table() -> None:
    images, names = frames("a/{video:02d}{frame}.png")
    rows = [np.flatnonzero(np.arange(len(names)) % 3 == part) for part in range(3)]
    parts = [Split(images[at], np.zeros(len(at), np.int64), names[at]) for at in rows]
    found = leaks(case_of(*parts, data="folder"))
    assert found is not None
    assert "--labels TABLE:group=COLUMN" in found.remedies[0].words
    assert found.remedies[0].command == "convscope data check --data made"


def test_videos_that_are_whole_in_a_part_are_no_leak() -> None:
    images, names = frames("a/{video:02d}-{frame}.png")
    cuts = np.split(np.arange(len(names)), [120, 160])
    parts = [Split(images[rows], np.zeros(len(rows), np.int64), names[rows]) for rows in cuts]
    assert leaks(case_of(*parts, data="folder")) is None
