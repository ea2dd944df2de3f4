"""Steps of one model on several devices and hosts, each computing its part of every batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from convscope.scale.devices import Devices
from convscope.training.on_jax import OnJax

if TYPE_CHECKING:
    import jax


class ManyDevices(OnJax):
    """Steps on all devices of a training: `steps.Steps` for Keras on JAX.

    Between passes the model is an ordinary one on a single device, alike in each process; during a
    pass its variables are on all devices. Loss, gradients, metrics and the statistics of
    BatchNormalization are those of the whole batch, as on one device: JAX partitions the very
    step of Keras, and inserts the sums over devices. No step is handed over ahead of its turn, so
    that a process that is lost is noticed in its step.

    Args:
        model: Compiled model with accuracy as its only metric; optimiser and metric are built.
        devices: Devices of the training.
    """

    def __init__(self, model: keras.Model, devices: Devices) -> None:
        self._devices = devices
        self._parallel = keras.distribution.DataParallel(
            devices=keras.distribution.list_devices(), auto_shard_dataset=False
        )
        super().__init__(model)

    def _compiled(self, step: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        everywhere = self._layout(np.zeros(()), divided=False)
        return super()._compiled(step, out_shardings=everywhere, **options)

    def _placed(self, value: Any) -> "jax.Array":
        """Return an array over all devices, whole on each."""
        return self._over_devices(value, divided=False)

    def _batch(self, inputs: Any, labels: Any, n_images: int) -> tuple[Any, Any]:
        """Return a batch of which each device has a part, if it can be divided."""
        divided = self._devices.divide(n_images)
        return (
            self._over_devices(inputs, divided=divided),
            self._over_devices(labels, divided=divided),
        )

    def _over_devices(self, value: Any, *, divided: bool) -> "jax.Array":
        """Return an array over all devices.

        Args:
            value: Rows of this process if they are divided, otherwise the whole.
            divided: Whether each device has a part of it.
        """
        import jax

        layout = self._layout(value, divided=divided)
        return jax.make_array_from_process_local_data(layout, value)

    def _layout(self, value: Any, *, divided: bool) -> Any:
        if divided:
            return self._parallel.get_data_layout(value.shape).backend_layout
        mesh = self._parallel.device_mesh
        return keras.distribution.TensorLayout([None] * value.ndim, mesh).backend_layout
