"""Masks beside their images are found by their names; a handful is no alarm."""

import pytest

from convscope.datasets.folders.namesakes import find_namesakes


@pytest.mark.parametrize(
    "mask",
    ["{}.png", "{}_mask.png", "{}_Mask_1.jpg", "{}-seg.png", "{}_GT.png", "{}.ground_truth.png"],
)
def test_masks_beside_their_images_are_found(mask: str) -> None:
    names = [f"cat/tile (1).v{n}{end}" for n in range(12) for end in (".jpg", "")]
    names = [name if name.endswith(".jpg") else f"{mask.format(name)}" for name in names]
    found = find_namesakes(names)
    assert found == [tuple(names[2 * n : 2 * n + 2]) for n in range(12)]


def test_several_masks_of_an_image_are_with_it() -> None:
    ends = ("_mask.jpg", "_mask.png", ".jpg", "_mask_1.png")
    found = find_namesakes([f"a/{n}{end}" for n in range(10) for end in ends])
    assert len(found) == 10
    assert sorted(found[0]) == sorted(f"a/0{end}" for end in ends)


def test_few_namesakes_and_other_names_are_none() -> None:
    both = [f"a/{n}{end}" for n in range(10) for end in (".jpg", ".png")]
    others = [f"b/{n}.jpg" for n in range(180)]
    assert len(find_namesakes(both + others)) == 10
    assert find_namesakes(both[2:]) == []
    assert find_namesakes([*both, *others, "b/180.jpg"]) == []
    # Of two classes, of two spellings of one suffix, with a word that is no mask's, or without
    # an image: none of these is told.
    for names in (
        [f"{name}/{n}.{name}" for n in range(50) for name in ("jpg", "png")],
        [f"a/{n}.{suffix}" for n in range(50) for suffix in ("jpg", "JPG")],
        [f"a/{n}{end}.jpg" for n in range(50) for end in ("", "_left", "_mask2b")],
        [f"a/{n}_mask.png" for n in range(50)],
    ):
        assert find_namesakes(names) == []
