import pytest

from convscope.errors import ConfigError
from convscope.planning.settle import Request, settle_batches
from convscope.planning.sharing import require_trainable
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.scale.devices import ONE, Devices

ON_JAX = RunConfig(backend="jax", batch_size=126)


@pytest.mark.parametrize(
    ("changes", "devices", "problem"),
    [
        ({"model": "mobilenet_v2"}, Devices(2), "mobilenet_v2 is a pretrained backbone"),
        ({"backend": "tensorflow"}, Devices(2), "and the run has tensorflow"),
        ({"refit": True}, Devices(2, 2), "several processes cannot train once more"),
        ({"batch_size": 128}, Devices(6, 3), "128 images cannot be divided among 6 devices"),
    ],
)
def test_what_several_devices_cannot_train_is_refused(changes, devices, problem):
    config = ON_JAX.model_copy(update=changes)
    with pytest.raises(ConfigError, match=problem):
        require_trainable(config, devices)
    require_trainable(config, ONE)
    require_trainable(ON_JAX, devices)


def test_one_host_can_train_once_more_at_the_end():
    require_trainable(ON_JAX.model_copy(update={"refit": True}), Devices(2))


def test_batches_made_smaller_for_few_images_can_still_be_divided():
    config = RunConfig(batch_size=500, least_steps=5)
    sizes = [
        settle_batches(Request({}, n_devices=n), config, 1149, Progress()).batch_size
        for n in (1, 4, 7)
    ]
    assert sizes == [230, 232, 231]
