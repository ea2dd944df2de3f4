"""Facts about a model that are known before it is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscope.models.geometry import LayerGeometry, geometry
from convscope.models.stages import StageGeometry, by_stage
from convscope.models.structure import (
    LayerRow,
    as_functional,
    image_shape,
    inner_model,
    layer_table,
)

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ModelSheet:
    """Layers of a model and the arithmetic of its sizes.

    Attributes:
        layers: Row for each layer, as in Keras' summary.
        geometry: Effect of each layer on the feature map.
        stages: The same by stage of the backbone; empty if there is none.
        learning: Number of trainable parameters of each layer, by its name in `geometry`.
        image_shape: (height, width, channels) that the network works at.
        n_params: Number of parameters of the model.
        n_trainable: Number of them that are trainable.
        n_multiply_adds: Multiply-adds for one image.
    """

    layers: list[LayerRow]
    geometry: list[LayerGeometry]
    stages: list[StageGeometry]
    learning: dict[str, int]
    image_shape: tuple[int, int, int]
    n_params: int
    n_trainable: int
    n_multiply_adds: int


def model_sheet(model: "keras.Model", stages: Mapping[str, str] | None = None) -> ModelSheet:
    """Return the sheet of a built model, in any style.

    Args:
        model: Built model.
        stages: Stages of the backbone inside it, as in `Backbone.stages`.

    Raises:
        ShapeError: If the model is not built.
    """
    sheet = geometry(model)
    return ModelSheet(
        layers=layer_table(model),
        geometry=sheet,
        stages=by_stage(sheet, stages) if stages else [],
        learning=_learning(model),
        image_shape=image_shape(model),
        n_params=model.count_params(),
        n_trainable=sum(math.prod(weight.shape) for weight in model.trainable_weights),
        n_multiply_adds=sum(layer.multiply_adds for layer in sheet),
    )


def _learning(model: "keras.Model", prefix: str = "") -> dict[str, int]:
    numbers: dict[str, int] = {}
    for layer in as_functional(model).layers:
        name = prefix + layer.name
        inner = inner_model(layer)
        if inner is not None:
            numbers |= _learning(inner, f"{name}/")
        else:
            numbers[name] = sum(math.prod(weight.shape) for weight in layer.trainable_weights)
    return numbers
