"""Everything that can be told about a model before it is trained."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscope.models.geometry import LayerGeometry, geometry
from convscope.models.structure import LayerRow, layer_table

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ModelSheet:
    """A model's layers and the arithmetic of its sizes.

    Attributes:
        layers: A row for each layer, as in Keras' summary.
        geometry: What each layer does to the feature map.
        n_params: Numbers that the model holds.
        n_trainable: Those of them that training changes.
        n_multiply_adds: For one image.
    """

    layers: list[LayerRow]
    geometry: list[LayerGeometry]
    n_params: int
    n_trainable: int
    n_multiply_adds: int


def model_sheet(model: "keras.Model") -> ModelSheet:
    """Return the sheet of a built model, in any style.

    Raises:
        ShapeError: If the model is not built.
    """
    sheet = geometry(model)
    return ModelSheet(
        layers=layer_table(model),
        geometry=sheet,
        n_params=model.count_params(),
        n_trainable=sum(math.prod(weight.shape) for weight in model.trainable_weights),
        n_multiply_adds=sum(layer.multiply_adds for layer in sheet),
    )
