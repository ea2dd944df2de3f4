import pytest

from convscope.errors import ConfigError
from convscope.scale.devices import ONE, Devices


@pytest.mark.parametrize(("total", "n_processes"), [(1, 1), (4, 1), (4, 2), (6, 3)])
def test_the_processes_load_each_image_of_a_batch_once(total, n_processes):
    images = list(range(24))
    parts = [images[Devices(total, n_processes, index).rows(24)] for index in range(n_processes)]
    assert [len(part) for part in parts] == [24 // n_processes] * n_processes
    assert [image for part in parts for image in part] == images


def test_a_batch_that_the_devices_cannot_share_is_loaded_whole_by_each():
    for index in range(2):
        devices = Devices(total=4, n_processes=2, index=index)
        assert not devices.divide(22)
        assert devices.rows(22) == slice(0, 22)


def test_one_device_takes_every_batch_as_it_is():
    assert ONE.divide(7)
    assert ONE.rows(7) == slice(0, 7)
    assert ONE.rounded_up(7) == 7


@pytest.mark.parametrize(
    ("batch_size", "advice"), [(128, "126 or 132"), (4, "--batch-size 6,"), (7, "6 or 12")]
)
def test_a_batch_size_that_cannot_be_divided_is_refused_with_the_nearest(batch_size, advice):
    with pytest.raises(ConfigError, match=f"of {batch_size} images .* among 6 devices") as caught:
        Devices(total=6, n_processes=3).require_divisible(batch_size)
    assert advice in str(caught.value)
    Devices(total=6, n_processes=3).require_divisible(12)


def test_sizes_are_rounded_up_to_what_can_be_divided():
    assert [Devices(total=4).rounded_up(n) for n in (1, 4, 5, 288)] == [4, 4, 8, 288]


def test_the_numbers_in_words():
    assert str(ONE) == "1 device"
    assert str(Devices(total=4)) == "4 devices"
    assert str(Devices(total=4, n_processes=2)) == "4 devices of 2 processes"
