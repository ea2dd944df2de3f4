"""Steps of Keras on JAX, whose state stays on the device from step to step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from convscope.models.preprocessing import Size, working_at
from convscope.training.batches import Batches
from convscope.training.resident import Resident
from convscope.training.steps import BySize, Step, StepByStep


class OnJax(StepByStep):
    """Steps of Keras, compiled by JAX: `steps.Steps` on the device of the process.

    Keras' `train_on_batch` reads all variables before each step and writes all of them after it,
    which takes 1.6 ms with `fast-medium` (two AMD cores); here that is done once in a pass. During
    a pass the state is apart from the model, which has it when the body has ended.

    Args:
        model: Compiled model with accuracy as its only metric; optimiser and metric are built.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._train = BySize(lambda: self._compiled(model.train_step))
        self._test = self._compiled(model.test_step)

    @contextmanager
    def training(self, size: Size | None = None) -> Iterator[Step]:
        """Return a step that trains; the model has the new weights when the body has ended."""
        model = self.model
        kept = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
        )
        with working_at(model, size), self._stepping(self._train[size], kept) as step:
            yield step

    @contextmanager
    def evaluating(self) -> Iterator[Step]:
        """Return a step that only evaluates."""
        kept = (self.model.trainable_variables, self.model.non_trainable_variables)
        with self._stepping(self._test, kept) as step:
            yield step

    def _compiled(self, step: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        import jax

        def of_batch(state: Any, metrics: Any, batch: Any) -> Any:
            logs, (*state, _) = step((*state, metrics), batch)
            return (logs["loss"], logs["accuracy"]), state

        compiled: Callable[..., Any] = jax.jit(of_batch, donate_argnums=0, **options)
        return compiled

    @contextmanager
    def _stepping(self, step: Callable[..., Any], kept: tuple[list[Any], ...]) -> Iterator[Step]:
        # Copies: what is handed to a step is gone afterwards.
        state = [[self._placed(np.array(v.value)) for v in group] for group in kept]
        self.model.reset_metrics()
        unused = [self._placed(np.array(v.value)) for v in self.model.metrics_variables]

        def take(inputs: Any, labels: Any, n_images: int) -> tuple[Any, Any]:
            nonlocal state
            batch = self._batch(inputs, labels, n_images)
            of_batch, state = step(state, unused, batch)
            return of_batch  # type: ignore[no-any-return]

        yield take
        for group, values in zip(kept, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(np.asarray(value))

    def _placed(self, value: Any) -> Any:
        """Return an array on the device."""
        import jax.numpy as jnp

        return jnp.array(value)

    def _batch(self, inputs: Any, labels: Any, n_images: int) -> tuple[Any, Any]:
        """Return a batch as the step takes it."""
        del n_images
        return inputs, labels


class OneDevice(OnJax):
    """Steps on one device, which need not wait for the host.

    A step is handed over before the one before has ended, and the images are in the memory of an
    accelerator, see `resident`.

    Args:
        model: See `OnJax`.
    """

    n_ahead = 2

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model)
        self._resident = Resident()

    def placed(self, batches: Batches) -> Batches:
        """Return the same batches, on an accelerator from its own memory if there is room."""
        return self._resident.placed(batches)
