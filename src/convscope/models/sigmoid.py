"""Networks whose classes each have a probability of their own, for images of several classes."""

from typing import TYPE_CHECKING

from convscope.errors import ConfigError
from convscope.models.structure import as_functional, ends_in_softmax, model_of

if TYPE_CHECKING:
    import keras


def with_sigmoid(model: "keras.Model") -> "keras.Model":
    """Return a built network whose last softmax is a sigmoid; the weights are the same.

    Args:
        model: Network in any style that ends in a softmax; it may be changed itself.

    Raises:
        ConfigError: If it does not end in one.
    """
    import keras

    last = as_functional(model).layers[-1]
    if ends_in_softmax(last) and hasattr(last, "activation"):
        last.activation = keras.activations.sigmoid
        return model
    if not ends_in_softmax(last) or not hasattr(model, "inputs"):
        raise ConfigError(
            f"the network '{model.name}' does not end in a softmax, so it cannot be trained on "
            "images of several classes; choose another --model"
        )
    outputs = keras.layers.Activation("sigmoid", dtype="float32", name=last.name)(last.input)
    return model_of(model.inputs, outputs, model.name)
