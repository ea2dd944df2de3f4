"""Models as files that plain Keras loads: float32, Keras' own layers, no optimizer."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.backend import precision_policy
from convscope.errors import ConfigError
from convscope.models import MODELS
from convscope.models._checksum import add_checksum, require_whole
from convscope.models._weights_file import require_own_values
from convscope.models.sigmoid import with_sigmoid
from convscope.models.structure import as_functional, is_resizing
from convscope.storage import atomic_path
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras


class PortableModel:
    """The float32 twin of a model, for saving it repeatedly.

    The twin has the same weights as the trained model, whatever the style and precision of that,
    but it is a functional graph of Keras' own layers and operations: `keras.saving.load_model`
    opens its file in any process, with no custom objects and without convscope, and a plain call of
    it, `model(x)`, is inference. It is built once; each save only copies weights into it, so memory
    does not grow with the epochs.

    Building it leaves the precision policy and Python's random state unchanged, so a training that
    saves its model gives the same weights as one that does not.

    Args:
        build: Function that builds the model again and returns the trained part, built exactly like
            the original, and the whole model to save. The two share their layers.
    """

    def __init__(self, build: "Callable[[], tuple[keras.Model, keras.Model]]") -> None:
        with precision_policy("float32"), _random_numbers_kept():
            # Weights are set on the part as it was built: its order of weights is that of the
            # trained model, which that of the graph may not be.
            self._part, whole = build()
            self.model = as_functional(whole)

    @classmethod
    def of(
        cls, name: str, spec: InputSpec, n_classes: int, *, multi_label: bool = False
    ) -> "PortableModel":
        """Return the twin of a registered network that is trained as a whole.

        Args:
            name: Registered name.
            spec: Input of the network.
            n_classes: Number of classes.
            multi_label: Whether each class has a probability of its own.

        Raises:
            UnknownNameError: If no model has that name.
            ConfigError: If the model cannot be built for that input.
        """
        builder = MODELS.get(name)

        def build() -> "tuple[keras.Model, keras.Model]":
            network = builder(spec, n_classes)
            network = with_sigmoid(network) if multi_label else network
            return network, network

        return cls(build)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights, in the order of `model.get_weights()` of the trained model.

        Raises:
            ConfigError: If they belong to another model.
        """
        wanted = [tuple(variable.shape) for variable in self._part.weights]
        given = [tuple(array.shape) for array in weights]
        if wanted != given:
            raise ConfigError(
                f"these weights ({len(given)} arrays) do not match the model '{self._part.name}' "
                f"({len(wanted)} arrays); build it with the input and classes they were trained for"
            )
        self._part.set_weights(list(weights))

    def save(self, weights: Sequence[Any], path: Path) -> None:
        """Write the model with these weights to `path`, whole or not at all.

        Args:
            weights: Weights, as for `set_weights`.
            path: File whose name ends in ".keras".

        Raises:
            ConfigError: If the weights belong to another model.
            StorageError: If the file cannot be written.
        """
        self.set_weights(weights)
        with atomic_path(path) as temporary:
            self.model.save(temporary)
            add_checksum(temporary)


def load_portable(path: Path) -> "keras.Model":
    """Load a saved model; images that have the right size already are not resized.

    Its outputs are those of the model that `keras.saving.load_model` returns, which does resize
    them, up to float32 rounding. For a file from an earlier version they are those of its
    `predict`; see `resave`.

    Raises:
        IntegrityError: If the file does not match the checksum in it.
        RunError: If its weights are in another file.
        Exception: Any kind of exception, if the file is damaged.
    """
    import keras

    from convscope.models._resizing import with_shortcuts

    require_whole(path)
    require_own_values(path)
    # Safe mode is Keras' default: a file from elsewhere cannot run code here.
    model = keras.saving.load_model(path, compile=False)
    if any(isinstance(layer, keras.layers.Resizing) for layer in model.layers):
        return _without_resizing_layer(model)
    for layer in model.layers:
        if is_resizing(layer):
            with_shortcuts(layer)
    return model


def resave(old: Path, new: Path) -> None:
    """Rewrite a saved model of an earlier version for plain Keras.

    In such a file Keras' Resizing layer makes a plain call, `model(x)`, run the network in training
    mode; only `predict` and `model(x, training=False)` are correct. A run keeps its own file, which
    convscope reads correctly: its temperature and predictions belong to that file.

    Args:
        old: Any file that `load_portable` opens.
        new: Output file; its name ends in ".keras".

    Raises:
        StorageError: If the file cannot be written.
        Exception: Any kind of exception, if the old file is damaged.
    """
    model = load_portable(old)
    with atomic_path(new) as temporary:
        model.save(temporary)
        add_checksum(temporary)


def _without_resizing_layer(model: "keras.Model") -> "keras.Model":
    import keras

    from convscope.models._resizing import build_resizing

    def clone(operation: Any) -> Any:
        if isinstance(operation, keras.layers.Resizing):
            return build_resizing(operation.height, operation.width, operation.input.shape[-1])
        return type(operation).from_config(operation.get_config())

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if is_resizing(operation):
            kwargs = {}  # else "training=True", which Keras has put into the file
        return operation(*args, **kwargs)

    with _random_numbers_kept():
        rebuilt = keras.models.clone_model(model, clone_function=clone, call_function=call)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


@contextlib.contextmanager
def _random_numbers_kept() -> Iterator[None]:
    # Keras draws the seeds of its initializers from Python's random state.
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
