"""Near copies are kept in one part where that is wanted."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from convscope.datasets.checks.near_copies import NearCopies
from convscope.datasets.division import near
from convscope.datasets.division.near import SIDE, near_copies_of
from convscope.datasets.division.splits import divide, in_recorded_groups, write_split
from convscope.progress import Progress
from convscope.types import Dataset, SealedSplit, Split
from scenes import scene

N_THINGS, N_SHOTS = 20, 4


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))


def shots(first: int, n_things: int = N_THINGS) -> Split:
    """Some things, each from a few sides, under names that do not tell which belong together."""
    chance = np.random.default_rng(first)
    images, things = [], []
    for thing in range(first, first + n_things):
        for shot in range(N_SHOTS):
            picture = (
                scene(thing).resize((SIDE + 6, SIDE + 6)).crop((shot, shot, *[SIDE + shot] * 2))
            )
            images.append(np.asarray(picture))
            things.append(thing)
    order = chance.permutation(len(images))
    ids = np.array([f"{things[place] % 2}/{first}-{number}" for number, place in enumerate(order)])
    labels = np.array(things)[order] % 2
    return Split(np.stack(images)[order], labels.astype(np.int64), ids)


def things_of(split: Split) -> list[int]:
    """Return the thing that each image shows, of those that `shots` drew from 0 on."""
    known = {
        np.asarray(
            scene(thing).resize((SIDE + 6, SIDE + 6)).crop((shot, shot, *[SIDE + shot] * 2))
        ).tobytes(): thing
        for thing in range(N_THINGS)
        for shot in range(N_SHOTS)
    }
    return [known[image.tobytes()] for image in split.images]


def test_shots_of_one_thing_are_a_group_of_the_first_of_their_names() -> None:
    train = shots(0)
    alike = near_copies_of(Dataset("made", ("a", "b"), train), Progress())
    things = things_of(train)
    assert list(alike) == train.ids.tolist()
    first_of = {thing: str(train.ids[things.index(thing)]) for thing in things}
    assert list(alike.values()) == [first_of[thing] for thing in things]


def test_images_that_are_alike_by_chance_only_are_of_no_group() -> None:
    images = np.stack([np.asarray(scene(seed).resize((SIDE, SIDE))) for seed in range(40)])
    split = Split(images, np.zeros(40, np.int64), np.arange(40).astype(str))
    assert near_copies_of(Dataset("made", ("a",), split), Progress()) == {}


def test_groups_reach_over_all_parts_and_exact_copies_have_that_of_their_original() -> None:
    train, test = shots(0), shots(0)
    copies = dataclasses.replace(test, ids=np.array([f"test/{each}" for each in test.ids]))
    alike = near_copies_of(Dataset("made", ("a", "b"), train, test=SealedSplit(copies)), Progress())
    assert [alike[f"test/{each}"] for each in train.ids] == [alike[str(each)] for each in train.ids]


def test_what_was_found_is_kept_and_found_again_if_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset("made", ("a", "b"), shots(0))
    found = near_copies_of(dataset, Progress())
    (file,) = (tmp_path / "cache" / "divisions").glob("*.npz")
    searches = []

    def search(*args, **kwargs):
        searches.append(args)
        return original(*args, **kwargs)

    original = near.find_near_copies
    monkeypatch.setattr(near, "find_near_copies", search)
    assert near_copies_of(dataset, Progress()) == found
    assert not searches
    # In another order with other names: the same pixels.
    back = np.arange(len(dataset.train))[::-1]
    turned = dataclasses.replace(dataset, train=dataset.train.select(back))
    assert near_copies_of(turned, Progress()).keys() == found.keys()
    assert not searches
    for damage in (b"", b"no archive", file.read_bytes()[:-30]):
        file.write_bytes(damage)
        assert near_copies_of(dataset, Progress()) == found
    assert len(searches) == 3


def test_near_copies_go_to_one_part() -> None:
    dataset = Dataset("made", ("a", "b"), shots(0))
    for alike in (None, near_copies_of(dataset, Progress())):
        divided = divide(dataset, alike)
        parts = {
            name: part if isinstance(part, Split) else part.open(lambda _: None)
            for name, part in divided.parts.items()
        }
        things = {name: set(things_of(part)) for name, part in parts.items()}
        torn = things["train"] & things["test"] | things["train"] & things["val"]
        assert bool(torn) == (alike is None)
        assert (parts["test"].groups is None) == (alike is None)
    assert "80 images have near copies, and are in a group with them" in divided.notes
    assert "images of a group are kept together" in divided.notes[-1]


def test_near_copies_join_the_groups_that_they_are_in() -> None:
    ids = np.array(list("abcdefgh"))
    groups = np.array(["ann", "ann", "ben", "ben", "", "", "cleo", ""])
    images = np.arange(8 * 4 * 4 * 3, dtype=np.uint8).reshape(8, 4, 4, 3)
    split = Split(images, np.zeros(8, np.int64), ids).in_groups(groups)
    alike = {"b": "b", "c": "b", "d": "d", "e": "d", "f": "f", "h": "f"}
    divided = divide(Dataset("made", ("all",), split), alike, val_fraction=0.4, test_fraction=0.4)
    group_of = {
        image_id: group
        for part in divided.parts.values()
        for image_id, group in zip(part.ids.tolist(), part.groups.tolist(), strict=True)
    }
    assert len({group_of[each] for each in "abcde"}) == 1
    assert group_of["f"] == group_of["h"] == "f"
    assert group_of["g"] == "cleo"
    assert len(set(group_of.values())) == 3


def test_a_picture_that_more_than_two_groups_have_joins_none_of_them() -> None:
    ids = np.array(list("abcdefgh"))
    groups = np.array(["ann", "ann", "ben", "ben", "cleo", "cleo", "", ""])
    images = np.arange(8 * 4 * 4 * 3, dtype=np.uint8).reshape(8, 4, 4, 3)
    split = Split(images, np.zeros(8, np.int64), ids).in_groups(groups)
    alike = dict.fromkeys("acegh", "a")
    divided = divide(Dataset("made", ("all",), split), alike, val_fraction=0.4, test_fraction=0.4)
    group_of = {
        image_id: group
        for part in divided.parts.values()
        for image_id, group in zip(part.ids.tolist(), part.groups.tolist(), strict=True)
    }
    assert [group_of[each] for each in "abcdef"] == groups[:6].tolist()
    # Those of no group are one.
    assert group_of["g"] == group_of["h"] == "a"


def test_what_was_recorded_are_the_groups_of_a_later_division(tmp_path: Path) -> None:
    dataset = Dataset("made", ("a", "b"), shots(0))
    divided = divide(dataset, near_copies_of(dataset, Progress()), val_fraction=0.3)
    write_split(divided, tmp_path / "split.csv")
    again = divide(in_recorded_groups(dataset, tmp_path / "split.csv"), val_fraction=0.3)
    for name, part in divided.parts.items():
        assert part.ids.tolist() == again.parts[name].ids.tolist()
        assert part.groups.tolist() == again.parts[name].groups.tolist()
    # Without near copies there were no groups.
    plain = divide(dataset, {})
    write_split(plain, tmp_path / "split.csv")
    assert in_recorded_groups(dataset, tmp_path / "split.csv").train.groups is None
    assert "no near copies were found" in plain.notes


def test_images_that_are_equal_when_small_are_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        near,
        "find_near_copies",
        lambda prints, **more: NearCopies(
            np.empty((0, 2), np.intp), np.empty(0, np.intp), complete=False
        ),
    )
    images = np.stack([np.asarray(scene(seed).resize((SIDE, SIDE))) for seed in (1, 2, 1, 3, 3)])
    split = Split(images, np.zeros(5, np.int64), np.array(list("abcde")))
    said: list[str] = []
    progress = Progress()
    progress.say = said.append  # type: ignore[method-assign]
    found = near_copies_of(Dataset("made", ("a",), split), progress)
    assert found == {"a": "a", "c": "a", "d": "d", "e": "d"}
    assert len(said) == 1
    assert said[0].startswith("made: there are so many images")


def test_nearly_blank_images_are_no_copies_of_each_other() -> None:
    images = np.full((6, SIDE, SIDE, 3), 255, np.uint8)
    for number, image in enumerate(images):
        image[10 * number + 3, 30] = 200  # one grey pixel, each elsewhere
    split = Split(images, np.zeros(6, np.int64), np.arange(6).astype(str))
    assert near_copies_of(Dataset("made", ("a",), split), Progress()) == {}
