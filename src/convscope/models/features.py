"""Features of images: what the head of a classifier gets, which is in two pieces there."""

from typing import TYPE_CHECKING, Any

from convscope.models.structure import as_functional, inner_model, model_of, run_graph
from convscope.models.transfer import POOL

if TYPE_CHECKING:
    import keras


def split_at_features(model: "keras.Model", *, backbone: bool) -> "tuple[keras.Model, keras.Model]":
    """Return a classifier in two pieces: from pixels to features, from features to probabilities.

    The features of a pretrained backbone are its pooled ones. Those of any other network are the
    input of its last dense layer or, if it has none, of its last layer with weights.

    Args:
        model: Built classifier in any style.
        backbone: Whether it is a pretrained backbone with a head.

    Returns:
        Two functional models that share the layers of the classifier: from pixels (batch, height,
        width, channels) to features (batch, ...), and from those to its outputs.
    """
    import keras

    graph = as_functional(model)
    if backbone:
        features = graph.get_layer(POOL).output
        return model_of(graph.inputs, features), keras.Model(features, graph.outputs[0])
    dense: list[Any] = []
    weighted: list[Any] = []

    def visit(operation: Any, args: Any, kwargs: Any) -> Any:
        # Models inside are opened: the last dense layer may be in one of them.
        if (inner := inner_model(operation)) is not None:
            tensors = [
                each for each in keras.tree.flatten(args) if isinstance(each, keras.KerasTensor)
            ]
            return run_graph(inner, tensors, visit)
        if isinstance(operation, keras.layers.Dense):
            dense.append(args[0])
        if getattr(operation, "weights", None):
            weighted.append(args[0])
        return operation(*args, **kwargs)

    inputs = [keras.Input(batch_shape=each.shape, dtype=each.dtype) for each in graph.inputs]
    outputs = run_graph(graph, inputs, visit)
    features = (dense or weighted)[-1]
    return model_of(inputs, features), keras.Model(features, outputs)
