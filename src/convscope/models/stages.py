"""The geometry sheet of a deep network, gathered by the stages of its backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from convscope.models.geometry import LayerGeometry


@dataclass(frozen=True)
class StageGeometry:
    """Combined effect of the layers between two places where a backbone can be cut.

    Attributes:
        name: Name of the stage; for single layers before and after the backbone, their own.
        layers: Layers in the order of the data; at least one.
    """

    name: str
    layers: tuple[LayerGeometry, ...]

    @property
    def output(self) -> LayerGeometry:
        """Last layer, whose output shape and receptive field are those of the stage."""
        return self.layers[-1]

    @property
    def n_convolutions(self) -> int:
        """Number of layers that multiply: convolutions and dense layers."""
        return sum(1 for layer in self.layers if layer.multiply_adds)

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(layer.params for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return sum(layer.multiply_adds for layer in self.layers)


def by_stage(sheet: Sequence[LayerGeometry], stages: Mapping[str, str]) -> list[StageGeometry]:
    """Gather the layers of a backbone by its stages; those around it stay single.

    Args:
        sheet: Geometry of a backbone, or of a classifier with one inside.
        stages: Name of each stage in the order of the data, and of the layer (or the model inside
            the backbone) that ends it, as in `Backbone.stages`. All data passes through those, so
            the layers of a stage are consecutive in the sheet.

    Raises:
        KeyError: If there is no such layer.
    """
    # The last entry with each name: a model inside has several.
    last = {part: i for i, layer in enumerate(sheet) for part in layer.name.split("/")}
    first_end = next(iter(stages.values()))
    # The backbone's name with a slash, or nothing if the sheet is the backbone's own.
    inside = f"/{sheet[last[first_end]].name}".partition(f"/{first_end}")[0].lstrip("/")
    inside += "/" if inside else ""
    start = next(i for i, layer in enumerate(sheet) if layer.name.startswith(inside))
    gathered = [_single(layer) for layer in sheet[:start]]
    for name, end in stages.items():
        after = last[end] + 1
        gathered.append(StageGeometry(name, tuple(sheet[start:after])))
        start = after
    return gathered + [_single(layer) for layer in sheet[start:]]


def _single(layer: LayerGeometry) -> StageGeometry:
    return StageGeometry(layer.name, (layer,))
