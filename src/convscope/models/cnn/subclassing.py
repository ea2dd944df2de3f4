"""The tutorial's CNN in the subclassing style: a class of one's own; see `_subclassed.py`."""

from typing import TYPE_CHECKING

from convscope.models import MODELS
from convscope.models.cnn import check_input
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras


@MODELS.register("cnn-subclassing")
def build_subclassing(spec: InputSpec, n_classes: int) -> "keras.Model":
    """The tutorial's CNN as a class with a `call` method (subclassing style).

    The forward pass is plain Python and may do anything. In return Keras cannot look inside before
    an image has passed; `structure.as_functional` traces it to list shapes and to save it.

    Args:
        spec: Size, channels and scaling that the network works at; sides of 4 or more.
        n_classes: Number of classes, at least 2.

    Returns:
        A model from pixels (batch, any height, any width, channels) in 0..255 to probabilities
        (batch, n_classes), float32, rows sum to 1. 582,026 parameters at 32x32x3, 10 classes.

    Raises:
        ConfigError: If the image is too small or there are too few classes.
    """
    import keras

    # The class is in a file of its own because naming its parent needs Keras to be imported.
    from convscope.models.cnn._subclassed import SubclassedCNN

    check_input(spec, n_classes)
    model = SubclassedCNN(spec, n_classes)
    model(keras.Input((None, None, spec.channels), name="pixels"))  # creates the weights
    return model
