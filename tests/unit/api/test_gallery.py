"""What the picture of a gallery says that it shows."""

import pytest

from convscope.api.gallery import _shown


@pytest.mark.parametrize(
    ("of", "split", "several", "said"),
    [
        (
            *("losses", "val", False),
            "the hardest validation images (captions: label?, then the answer and its probability)",
        ),
        (
            *("right", "test", False),
            "the most confident correct answers to test images (captions: label and probability)",
        ),
        (
            *("losses", "test", True),
            "the hardest test images (captions: the classes, then an answer that differs)",
        ),
    ],
)
def test_the_title_says_what_the_images_are_and_how_to_read_below_them(of, split, several, said):
    assert _shown(of, split, several=several) == said
