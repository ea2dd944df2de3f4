"""What a time limit or a wanted accuracy refuses."""

import pytest

from convscope.errors import ConfigError
from convscope.planning.budget import Budget


def test_an_accuracy_is_known_only_for_about_as_many_training_images():
    wanted = Budget(None, 94)
    for n_images in (50_000, 49_000, 39_200):  # four fifths
        wanted.require_enough(n_images)
    with pytest.raises(ConfigError, match="with 49,000 training images, and here are 4,900"):
        wanted.require_enough(4_900)
    with pytest.raises(ConfigError, match="here are 39,000"):
        wanted.require_enough(39_000)
    Budget(5, None).require_enough(4_900)
