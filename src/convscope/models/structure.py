"""Structure of a model: its graph of layers, whichever style it was written in."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from convscope.errors import ShapeError
from convscope.models.keras_private import run_through_graph

if TYPE_CHECKING:
    import keras

RESIZE = "resize"
"""Name of the step that resizes, in every model."""

# Tracing adds connections to the layers of a model, so each model is traced only once.
_TRACES: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


class LayerRow(NamedTuple):
    """A line of a model's summary.

    Attributes:
        name: Name of the layer.
        kind: Class of the layer ("Conv2D").
        output_shape: Shape without the batch axis; None where the size depends on the image.
        params: Number of parameters, trainable or not; a shared layer counts once.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    params: int


def as_functional(model: "keras.Model") -> "keras.Model":
    """Return the model as a functional graph that shares the model's layers and weights.

    A functional model is returned as it is. A Sequential one is re-wrapped. The `call` method of a
    subclassed one is run once on symbolic pixels and recorded; it must consist of Keras layers and
    `keras.ops`.

    Args:
        model: Model that is built, that is, has its weights.

    Raises:
        ShapeError: If the model is not built, so that the shape of its input is unknown.
    """
    import keras

    if model in _TRACES:
        return _TRACES[model]
    if isinstance(model, keras.Sequential) and hasattr(model, "inputs"):
        graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    elif hasattr(model, "inputs"):
        return model
    else:
        shape = (model.get_build_config() or {}).get("input_shape")
        if shape is None:
            raise ShapeError(
                f"model '{model.name}' is not built; call it on an image or a keras.Input first"
            )
        pixels = keras.Input(shape[1:], name="pixels")
        graph = keras.Model(pixels, model.call(pixels), name=model.name)
    _TRACES[model] = graph
    return graph


def layer_table(model: "keras.Model") -> list[LayerRow]:
    """Return the layers of a model in the order of the data, as in Keras' `summary`.

    A model inside the model, such as a backbone, is one row.

    Args:
        model: Built model in any style.

    Raises:
        ShapeError: If the model is not built.
    """
    import keras

    graph = as_functional(model)
    rows: list[LayerRow] = []
    counted: set[int] = set()

    def visit(operation: Any, args: Any, kwargs: Any) -> Any:
        output = operation.compute_output_spec(*args, **kwargs)
        shape = tuple(keras.tree.flatten(output)[0].shape[1:])
        params = new_params(operation, counted)
        rows.append(LayerRow(operation.name, kind_of(operation), shape, params))
        return output

    run_graph(graph, graph.inputs, visit)
    return rows


def image_shape(model: "keras.Model") -> tuple[int, int, int]:
    """Return (height, width, channels) of the images that the network works at.

    That is the size of the input or, if the model takes any size, the size after its first layer
    that fixes one.

    Raises:
        ShapeError: If the model is not built, or works at any size.
    """
    graph = as_functional(model)
    shape = tuple(graph.inputs[0].shape[1:])
    channels = shape[-1]
    if None in shape:
        shapes = (row.output_shape for row in layer_table(model))
        shape = next((s for s in shapes if len(s) == 3 and None not in s), ())
    if len(shape) != 3:
        raise ShapeError(
            f"model '{model.name}' works at any image size; state the size to inspect it at"
        )
    return (shape[0], shape[1], channels)


def inner_model(operation: Any) -> "keras.Model | None":
    """Return the model that an operation inside a model is, as a graph.

    Args:
        operation: Layer or operation of a graph.

    Returns:
        None for a single step: layers, operations, and the resizing at the start, which is a model
        of plain operations.
    """
    import keras

    if not isinstance(operation, keras.Model) or is_resizing(operation):
        return None
    return as_functional(operation)


def is_resizing(operation: Any) -> bool:
    """Return whether a layer or operation is the resizing at the start of a model.

    Files of earlier versions have Keras' layer there, newer ones a model of plain operations.
    """
    import keras

    if isinstance(operation, keras.layers.Resizing):
        return True
    named = isinstance(operation, keras.Model) and operation.name == RESIZE
    return named and not operation.weights


def ends_in_softmax(operation: Any) -> bool:
    """Return whether a layer or operation is a softmax over the classes, or ends in one."""
    import keras

    if type(operation).__name__ == "Softmax":  # the layer, and the operation of `keras.ops`
        return operation.axis in (-1, 1)
    return (
        isinstance(operation, keras.layers.Dense | keras.layers.Activation)
        and operation.activation is keras.activations.softmax
    )


def ends_in_sigmoid(operation: Any) -> bool:
    """Return whether a layer is a sigmoid, or a dense layer that ends in one."""
    import keras

    return (
        isinstance(operation, keras.layers.Dense | keras.layers.Activation)
        and operation.activation is keras.activations.sigmoid
    )


def logits_of_softmax(operation: Any, inputs: Any) -> Any:
    """Return the logits: the input of the softmax or sigmoid that ends a layer."""
    import keras

    if not isinstance(operation, keras.layers.Dense):
        return inputs
    output = keras.ops.matmul(inputs, operation.kernel)
    return output + operation.bias if operation.use_bias else output


def kind_of(operation: Any) -> str:
    """Return the name of a layer or operation in tables: its class ("Conv2D")."""
    return "Resizing" if is_resizing(operation) else type(operation).__name__


def model_of(inputs: list[Any], outputs: Any, name: str | None = None) -> "keras.Model":
    """Return the functional model between tensors, one that takes an array if it has one input.

    A list of one is another structure, of which Keras warns on torch at each call with an array.
    """
    import keras

    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name=name)


def run_graph(
    graph: "keras.Model", inputs: list[Any], visit: Callable[[Any, Any, Any], Any]
) -> Any:
    """Walk a functional model from its inputs to its outputs.

    Args:
        graph: Functional model; see `as_functional`.
        inputs: Object for each of the model's inputs: tensors, shapes, anything.
        visit: Function called as `visit(operation, args, kwargs)` for each layer or operation once
            its inputs are ready, with the results of earlier visits in place of tensors. A layer
            that is used twice is visited twice.

    Returns:
        The result of visiting the output operation.
    """
    return run_through_graph(graph, inputs, visit)


def sole_readers(model: "keras.Model") -> dict[Any, Any]:
    """Return the operations whose output one other operation reads and nobody else, with that.

    None of either is used a second time.

    Args:
        model: Functional model; see `as_functional`.
    """
    import keras

    visited: list[Any] = []
    read: list[tuple[Any, Any]] = []

    def visit(operation: Any, args: Any, kwargs: Any) -> _Output:
        visited.append(operation)
        read.extend((each, operation) for each in keras.tree.flatten([args, kwargs]))
        return _Output(operation)

    outputs = run_graph(model, [_Output(None) for _ in model.inputs], visit)
    read.extend((each, None) for each in keras.tree.flatten(outputs))
    readers: dict[Any, list[Any]] = {}
    for source, reader in read:
        if isinstance(source, _Output) and source.operation is not None:
            readers.setdefault(source.operation, []).append(reader)
    n_uses = Counter(visited)
    return {
        operation: those[0]
        for operation, those in readers.items()
        if len(those) == 1 and n_uses[operation] == n_uses[those[0]] == 1
    }


class _Output:
    """Stands for the output of an operation; of None, for an input of the model."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation


def new_params(operation: Any, counted: set[int]) -> int:
    """Return the number of parameters of a layer, 0 if it was counted before; remember it."""
    if id(operation) in counted or not hasattr(operation, "count_params"):
        return 0
    counted.add(id(operation))
    return int(operation.count_params())
