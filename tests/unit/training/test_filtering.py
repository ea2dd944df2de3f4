import keras
import numpy as np
import pytest

from convscope.errors import RunError
from convscope.progress import Progress
from convscope.recipe import FilterSettings
from convscope.training.batches import Examples
from convscope.training.filtering import Hardest, choose_hardest, epoch_lengths

N_IMAGES = 1100
RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.ones(4), N_IMAGES).astype("float32")
LABELS = RNG.integers(0, 4, N_IMAGES)


class Told(Progress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def echo() -> keras.Model:
    """A network whose probabilities are its inputs."""
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Activation("linear")(inputs))


@pytest.mark.parametrize(
    ("share", "start", "epochs", "lengths"),
    [
        (1.0, 0.5, 3, [1, 1, 1]),
        (0.7, 0.5, 4, [1, 1, 0.7, 0.7]),
        (0.7, 0.5, 5, [1, 1, 1, 0.7, 0.7]),
        (0.25, 0.01, 3, [1, 0.25, 0.25]),
        (0.7, 0.9, 1, [1]),
    ],
)
def test_epochs_are_shorter_once_the_filter_begins(share, start, epochs, lengths):
    settings = FilterSettings(share=share, start=start)
    assert epoch_lengths(settings, epochs) == lengths


def test_when_the_filter_has_begun_that_is_settled():
    begun = Hardest(2, np.arange(3))
    settings = FilterSettings(share=0.5)
    assert epoch_lengths(settings, 8, begun) == [1, 1, *[0.5] * 6]
    assert epoch_lengths(settings, 3, begun) == [1, 1, 0.5]


def test_the_images_of_highest_loss_are_chosen():
    # In another order in each epoch: it has to be that of the epoch which is asked for.
    train = Examples(lambda epoch: np.roll(PROBS, epoch, axis=0), LABELS)
    told = Told()
    hardest = choose_hardest(echo(), train, 0.3, 5, told)
    loss = -np.log(np.roll(PROBS, 5, axis=0)[np.arange(N_IMAGES), LABELS])
    assert hardest.since == 5
    assert hardest.places.tolist() == sorted(np.argsort(-loss)[:330].tolist())
    least = loss[hardest.places].min()
    assert told.lines == [
        "From here on only the 330 hardest of 1,100 training images are used, "
        f"those with a loss of {least:.2f} or more"
    ]


def test_of_equally_hard_images_the_first_are_chosen_and_one_at_least():
    alike = Examples(lambda epoch: np.full((N_IMAGES, 4), 0.25, "float32"), LABELS)
    assert choose_hardest(echo(), alike, 0.01, 0, Progress()).places.tolist() == list(range(11))
    assert len(choose_hardest(echo(), alike, 1e-9, 0, Progress()).places) == 1


def test_what_was_chosen_can_be_kept_in_a_file():
    hardest = Hardest(3, np.array([0, 4, 9]))
    again = Hardest.from_array(hardest.as_array(), 10)
    assert again.since == 3
    assert again.places.tolist() == [0, 4, 9]


@pytest.mark.parametrize(
    "array",
    [
        np.array([3, 0, 10]),
        np.array([3, -1, 4]),
        np.array([3, 4, 4]),
        np.array([3, 4, 1]),
        np.array([3]),
        np.array([[3, 1]]),
        np.array([3.0, 1.0]),
        np.array(["3", "1"]),
    ],
)
def test_what_is_not_from_this_run_is_refused(array):
    with pytest.raises(RunError, match="train again"):
        Hardest.from_array(array, 10)
