"""Choice of the layers whose outputs are worth showing."""

from typing import TYPE_CHECKING

from convscope.models import is_backbone
from convscope.models.backbones import BACKBONES

if TYPE_CHECKING:
    from convscope.models.geometry import LayerGeometry

_BENDING = ("ReLU", "Activation")
"""Kinds of layers that change what each value means."""


def shown_layers(sheet: "list[LayerGeometry]", model: str) -> "list[LayerGeometry]":
    """Return the layers that are shown: for a backbone, the ends of its stages.

    Args:
        sheet: All layers of the network.
        model: Registered name of the model.
    """
    maps = [row for row in sheet if len(row.output_shape) == 3]
    if is_backbone(model):
        ends = set(BACKBONES.get(model).stages.values())
        return [row for row in maps if row.name.rpartition("/")[2] in ends]
    # Layers that neither look around nor change the size have little to show.
    return [row for row in maps if row.kernel is not None or row.kind in _BENDING]
