"""Steps of one model on several devices and hosts, each computing its part of every batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from convscope.scale.devices import Devices
from convscope.training.passes import Step

if TYPE_CHECKING:
    import jax


class ManyDevices:
    """Steps on all devices of a training: `passes.Steps` for Keras on JAX.

    Between passes the model is an ordinary one on a single device, alike in each process; during a
    pass its variables are on all devices. Loss, gradients, metrics and the statistics of
    BatchNormalization are those of the whole batch, as on one device: JAX partitions the very
    step of Keras, and inserts the sums over devices.

    Args:
        model: Compiled model with a built optimiser and accuracy as its only metric.
        devices: Devices of the training.
    """

    def __init__(self, model: keras.Model, devices: Devices) -> None:
        import jax

        self._model = model
        self._devices = devices
        self._parallel = keras.distribution.DataParallel(
            devices=keras.distribution.list_devices(), auto_shard_dataset=False
        )
        everywhere = self._layout(np.zeros(()), divided=False)
        self._train = jax.jit(model.train_step, donate_argnums=0, out_shardings=everywhere)
        self._test = jax.jit(model.test_step, donate_argnums=0, out_shardings=everywhere)

    @contextmanager
    def training(self) -> Iterator[Step]:
        """Return a step that trains; the model has the new weights when the body has ended."""
        model = self._model
        kept = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
        )
        with self._stepping(self._train, kept) as step:
            yield step

    @contextmanager
    def evaluating(self) -> Iterator[Step]:
        """Return a step that only evaluates."""
        kept = (self._model.trainable_variables, self._model.non_trainable_variables)
        with self._stepping(self._test, kept) as step:
            yield step

    @contextmanager
    def _stepping(self, step: Callable[..., Any], kept: tuple[list[Any], ...]) -> Iterator[Step]:
        state = [[self._placed(np.array(v.value)) for v in group] for group in kept]
        self._model.reset_metrics()
        unused = [np.array(variable.value) for variable in self._model.metrics_variables]

        def take(inputs: Any, labels: Any, n_images: int) -> tuple[float, float]:
            nonlocal state
            divided = self._devices.divide(n_images)
            batch = tuple(self._placed(part, divided=divided) for part in (inputs, labels))
            metrics = [self._placed(value) for value in unused]
            logs, (*state, _) = step((*state, metrics), batch)
            return float(logs["loss"]), float(logs["accuracy"])

        yield take
        for group, values in zip(kept, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(np.asarray(value))

    def _placed(self, value: Any, *, divided: bool = False) -> "jax.Array":
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
