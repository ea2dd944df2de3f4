"""Which images are corrupted."""

import numpy as np
import pytest

from convscope.api.gallery import gallery
from convscope.api.robustness import _taken, robustness
from convscope.errors import ConfigError, DataError
from convscope.run import Run
from convscope.types import Dataset, SealedSplit, Split


def images_of(labels: np.ndarray) -> Split:
    ids = np.arange(len(labels)).astype(str)
    return Split(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, ids)


def test_images_without_any_class_are_refused_before_the_test_images_are_opened():
    labels = np.zeros((9, 2), np.uint8)
    labels[1] = 1
    part, none = images_of(labels), images_of(np.zeros((3, 2), np.uint8))
    data = Dataset("some", ("cat", "dog"), part, none, SealedSplit(part), {})
    assert len(_taken(data, "test", 9)) == 9
    with pytest.raises(DataError, match="none of the 3 test images that would be taken"):
        _taken(data, "test", 3)
    with pytest.raises(DataError, match="no validation image of some has any class"):
        _taken(data, "val", 3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"severities": 0}, "severity must be one of 1, 2, 3, 4, 5, not 0"),
        ({"severities": np.array([1, 9])}, "severity must be one of .*, not 9"),
        ({"severities": []}, "name at least one corruption and one severity"),
        ({"corruptions": ()}, "name at least one corruption and one severity"),
        ({"severities": np.array([1, 2]), "n_images": 0}, "n_images must be at least 1, not 0"),
    ],
)
def test_what_is_named_is_taken_even_if_it_is_nothing(settings, says, tmp_path):
    run = Run(tmp_path / "run")
    run.record(status="finished")
    with pytest.raises(ConfigError, match=says):
        robustness(run, **settings)


@pytest.mark.parametrize("verb", [robustness, gallery])
def test_a_run_is_judged_on_no_other_part_than_validation_and_test_images(verb, tmp_path):
    run = Run(tmp_path / "nothing is read from here")
    with pytest.raises(ConfigError, match="split must be val or test, not 'train'"):
        verb(run, split="train")
