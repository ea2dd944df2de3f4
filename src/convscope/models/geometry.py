"""The geometry sheet of a network: output size, receptive field and cost of each layer.

The size of an output follows from the input by one formula,

    N_out = floor((N_in + 2p - k) / s) + 1

with kernel k, padding p on each side and stride s. If the two sides are padded differently, as
"same" padding does for even kernels and larger strides, 2p is the sum of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convscope.errors import ShapeError
from convscope.models.structure import (
    as_functional,
    image_shape,
    inner_model,
    kind_of,
    new_params,
    run_graph,
)

if TYPE_CHECKING:
    import keras

    from convscope.models._measure import Feature


@dataclass(frozen=True)
class LayerGeometry:
    """Effect of one layer on the feature map. Pairs are (rows, columns).

    Attributes:
        name: Name of the layer, with the names of the models around it ("mobilenetv2/Conv1").
        kind: Class of the layer ("Conv2D").
        input_shape: Input shape without the batch axis; the first of several inputs.
        output_shape: Output shape without the batch axis.
        kernel: Window in pixels of its input; None for a layer without a window.
        stride: Step of the window; None for a layer without a window.
        padding: Number of added zeros: top plus bottom, left plus right. None for a layer that does
            not pad.
        formula: Output size with its numbers, "floor((32 + 2*1 - 3)/1) + 1 = 32"; rows and columns
            separately if they differ; empty if the size does not change.
        receptive_field: Part of the image, in pixels, that one output value depends on. It may be
            larger than the image: then it extends into the padding. After a dense or global layer
            it is the whole image. None if unknown. Pixels are those that the network sees: the
            count restarts at resizing.
        jump: Distance, in pixels of the image, between the receptive fields of two neighbouring
            outputs; 0 if outputs have no neighbours.
        params: Number of parameters; 0 at the second use of a shared layer.
        multiply_adds: Multiplications, each with its addition, for one image. As usual,
            convolutions and dense layers count; biases, normalisation and activations do not.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    padding: tuple[int, int] | None
    formula: str
    receptive_field: tuple[int, int] | None
    jump: tuple[int, int]
    params: int
    multiply_adds: int


def geometry(model: "keras.Model", input_shape: Sequence[int] | None = None) -> list[LayerGeometry]:
    """Return the geometry sheet of a model, one entry per layer in the order of the data.

    Models inside the model are opened. Branches are followed; where they join, the largest
    receptive field counts.

    Args:
        model: Built model in any style, with one image as its input.
        input_shape: (height, width, channels) of the input image; None takes the size that the
            network works at.

    Raises:
        ShapeError: If the model is not built, has several inputs, does not take that shape, or
            takes any size and none is given.
    """
    from convscope.models._measure import Feature

    graph = as_functional(model)
    shape = tuple(input_shape) if input_shape is not None else image_shape(model)
    wanted = tuple(graph.inputs[0].shape[1:])
    fits = len(shape) == len(wanted) == 3 and all(
        w in (None, n) for w, n in zip(wanted, shape, strict=True)
    )
    if len(graph.inputs) != 1 or not fits:
        raise ShapeError(
            f"model '{model.name}' takes {len(graph.inputs)} input of shape {wanted} "
            f"(height, width, channels), not one of shape {shape}"
        )
    sheet: list[LayerGeometry] = []
    image = Feature(shape, (shape[0], shape[1]), field=(1, 1), jump=(1, 1))
    _walk(graph, [image], "", sheet, set())
    return sheet


def _walk(
    graph: "keras.Model",
    features: "list[Feature]",
    prefix: str,
    sheet: list[LayerGeometry],
    counted: set[int],
) -> Any:
    import keras

    from convscope.models._measure import Feature, measure

    def visit(operation: Any, args: Any, kwargs: Any) -> Any:
        leaves = keras.tree.flatten((args, kwargs))
        inputs = [leaf for leaf in leaves if isinstance(leaf, Feature)]
        inner = inner_model(operation)
        if inner is not None:
            return _walk(inner, inputs, f"{prefix}{operation.name}/", sheet, counted)
        step = measure(operation, inputs, args, kwargs)
        sheet.append(
            LayerGeometry(
                name=prefix + operation.name,
                kind=kind_of(operation),
                input_shape=inputs[0].shape,
                output_shape=step.output.shape,
                kernel=step.kernel,
                stride=step.stride,
                padding=step.padding,
                formula=step.formula,
                receptive_field=step.output.field,
                jump=step.output.jump,
                params=new_params(operation, counted),
                multiply_adds=step.multiply_adds,
            )
        )
        return step.output

    return run_graph(graph, features, visit)
