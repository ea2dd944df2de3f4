"""All uses of Keras' private interface, and of its converter's, in one place.

Keras may rename any of it in a minor version, so `pyproject.toml` allows only versions that passed
the tests of this file.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def run_through_graph(
    graph: "keras.Model", inputs: list[Any], visit: Callable[[Any, Any, Any], Any]
) -> Any:
    """Run the graph of a functional model on arbitrary objects; see `structure.run_graph`.

    Keras' public functions accept tensors only.
    """
    return graph._run_through_graph(
        inputs, operation_fn=lambda operation: lambda *a, **k: visit(operation, a, k)
    )


def schedule_of(optimizer: "keras.optimizers.Optimizer") -> Any:
    """Return the schedule that an optimiser was created with; a variable if it was a number.

    The public `learning_rate` is its value at the current step.
    """
    return optimizer._learning_rate


def moving_averages(optimizer: "keras.optimizers.Optimizer") -> list[Any]:
    """Return the moving averages that a built optimiser with `use_ema` keeps.

    In the order of the variables that it was built for. The public `finalize_variable_values`
    replaces the variables by them, permanently.
    """
    return list(optimizer._model_variables_moving_average)


def variable_index(optimizer: "keras.optimizers.Optimizer", variable: Any) -> int:
    """Return the index of a variable among those that an optimiser was built for.

    Args:
        optimizer: Built optimiser.
        variable: Keras variable, or TensorFlow's own, which `update_step` receives there.
    """
    return int(optimizer._get_variable_index(variable))


class DecayStep:
    """Base class, before Keras' own, for optimisers with their own weight decay."""

    def _apply_weight_decay(self, variables: Any) -> None:
        self.decay_weights(variables)

    def decay_weights(self, variables: Any) -> None:
        """Take the step of weight decay: by `weight_decay` times the learning rate."""
        super()._apply_weight_decay(variables)  # type: ignore[misc]


def prepare_tf2onnx() -> None:
    """Make tf2onnx work with NumPy 2, as Keras' own export does before it converts.

    It also folds constants that TensorFlow's graph leaves to the converter.
    """
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    patch_tf2onnx()


@contextlib.contextmanager
def graphs_as_they_are() -> Iterator[None]:
    """Let tf2onnx only put the operations of a graph in order, for which it has no argument."""
    from tf2onnx import optimizer

    listed = optimizer._get_optimizers
    optimizer._get_optimizers = dict
    try:
        yield
    finally:
        optimizer._get_optimizers = listed
