"""Saving models as files that plain Keras reloads: float32, built-in layers, no optimizer."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.errors import ConfigError
from convscope.models import MODELS
from convscope.models.structure import as_functional
from convscope.storage import atomic_path
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras


class PortableModel:
    """The float32 twin of a registered model, for saving it again and again.

    The twin has the same weights as the model that is trained, whatever that one's style and
    precision, but it is a functional graph of Keras' own layers: `keras.saving.load_model` opens
    its file in any process, with no custom objects and without convscope. It is built once; each
    save only copies weights into it, so memory does not grow with the epochs.

    Building it leaves the precision policy and Python's random numbers as they were, so a training
    that saves its model gives the same weights as one that does not.

    Args:
        name: The registered name of the model.
        spec: The input that it was built for.
        n_classes: The number of classes that it was built for.

    Raises:
        UnknownNameError: If no model has that name.
        ConfigError: If the model cannot be built for that input.
    """

    def __init__(self, name: str, spec: InputSpec, n_classes: int) -> None:
        builder = MODELS.get(name)
        with _float32_policy(), _random_numbers_kept():
            # Weights are set on the twin as it was built: its order of weights is the model's,
            # that of the graph need not be.
            self._twin = builder(spec, n_classes)
            self.model = as_functional(self._twin)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Take over weights, in the order of `model.get_weights()` of the trained model.

        Raises:
            ConfigError: If they are those of another model.
        """
        wanted = [tuple(variable.shape) for variable in self._twin.weights]
        given = [tuple(array.shape) for array in weights]
        if wanted != given:
            raise ConfigError(
                f"these weights ({len(given)} arrays) do not fit the model '{self._twin.name}' "
                f"({len(wanted)} arrays); build it with the input and classes they were trained for"
            )
        self._twin.set_weights(list(weights))

    def save(self, weights: Sequence[Any], path: Path) -> None:
        """Write the model with these weights to `path`, whole or not at all.

        Args:
            weights: As for `set_weights`.
            path: Ends in ".keras".

        Raises:
            ConfigError: If the weights are those of another model.
            StorageError: If the file cannot be written.
        """
        self.set_weights(weights)
        with atomic_path(path) as temporary:
            self.model.save(temporary)


def portable_model(
    name: str, spec: InputSpec, n_classes: int, weights: Sequence[Any]
) -> "keras.Model":
    """Return a registered model as a float32 functional graph of Keras' own layers.

    Args:
        name: The registered name of the model.
        spec: The input that it was built for.
        n_classes: The number of classes that it was built for.
        weights: What `model.get_weights()` gave, in any style and precision of that model.

    Raises:
        UnknownNameError: If no model has that name.
        ConfigError: If the model cannot be built for that input or the weights are of another.
    """
    portable = PortableModel(name, spec, n_classes)
    portable.set_weights(weights)
    return portable.model


def save_portable(
    name: str, spec: InputSpec, n_classes: int, weights: Sequence[Any], path: Path
) -> None:
    """Save a registered model once, as `PortableModel` does.

    Args:
        name: The registered name of the model.
        spec: The input that it was built for.
        n_classes: The number of classes that it was built for.
        weights: What `model.get_weights()` gave.
        path: Ends in ".keras".

    Raises:
        UnknownNameError: If no model has that name.
        ConfigError: If the model cannot be built for that input or the weights are of another.
        StorageError: If the file cannot be written.
    """
    PortableModel(name, spec, n_classes).save(weights, path)


@contextlib.contextmanager
def _float32_policy() -> Iterator[None]:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def _random_numbers_kept() -> Iterator[None]:
    # Keras draws the seeds of its initializers from here.
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
