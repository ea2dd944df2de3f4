"""Blocks of an architecture picture: the layers of a model, gathered into a few."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscope.models.geometry import LayerGeometry
from convscope.models.stages import by_stage
from convscope.models.structure import as_functional

if TYPE_CHECKING:
    import keras

# A backbone with fewer stages than this is better shown by resolution.
_FEWEST_STAGES = 3

# More blocks do not fit side by side on a page; then layers are gathered by resolution.
MOST_BLOCKS = 14

# Layers that prepare the image, and those that only modify the layer before them.
_PREPARING = {
    "Concatenate": "grey as colour",
    "Normalization": "normalised",
    "Rescaling": "rescaled",
    "Resizing": "resized",
    "Take": "blue first",
}
_DRESSING = {
    "Activation": "activation",
    "BatchNormalization": "norm",
    "Dropout": "dropout",
    "GaussianNoise": "noise",
    "LayerNormalization": "norm",
    "LeakyReLU": "leaky relu",
    "ReLU": "relu",
    "Softmax": "softmax",
    "SpatialDropout2D": "dropout",
}
_WINDOWS = {
    "Conv2D": "conv",
    "DepthwiseConv2D": "depthwise conv",
    "SeparableConv2D": "separable conv",
    "MaxPooling2D": "max pool",
    "AveragePooling2D": "average pool",
}
_OTHERS = {
    "GlobalAveragePooling2D": "average of the map",
    "GlobalMaxPooling2D": "maximum of the map",
    "Flatten": "map to vector",
    "Dense": "dense",
    "ZeroPadding2D": "zero padding",
    "Reshape": "reshape",
}


@dataclass
class Block:
    """One block of the picture.

    Attributes:
        role: "image", "conv", "pool", "reshape", "dense", "output" or "other"; decides its colour.
        title: Name, in bold.
        lines: Description, below the title.
        details: Cost and receptive field, in a fainter ink below that.
        shape: (height, width, channels) or (n,); decides the size of the block.
        kernel: Rows and columns of the window that it slides over the previous block.
        slices: Number of layers with weights that it stands for; at least 1.
    """

    role: str
    title: str
    lines: list[str]
    details: list[str]
    shape: tuple[int, ...]
    kernel: tuple[int, int] | None = None
    slices: int = 1


def blocks(
    model: "keras.Model", sheet: list[LayerGeometry], stages: Mapping[str, str] | None = None
) -> list[Block]:
    """Return the blocks of a model's picture, in the order of the data.

    Args:
        model: Built model.
        sheet: Geometry of the model.
        stages: Stages of the backbone inside it, as in `Backbone.stages`.
    """
    image, body = _image_block(sheet)
    activations = _activations(model)
    groups = _dressed(body)
    if stages and len(stages) >= _FEWEST_STAGES:
        shown = _backbone_blocks(body, stages, activations, image.shape)
    elif len(groups) < MOST_BLOCKS:
        shown = [_layer_block(group, activations, image.shape) for group in groups]
    else:
        shown = _stage_blocks(body, activations, image.shape)
    if shown and shown[-1].role == "dense":
        shown[-1].role = "output"
    return [image, *shown]


def _image_block(sheet: list[LayerGeometry]) -> tuple[Block, list[LayerGeometry]]:
    """Gather the preprocessing at the start into the block of the image; return the rest too."""
    n_preparing = 0
    while n_preparing < len(sheet) and sheet[n_preparing].kind in _PREPARING:
        n_preparing += 1
    preparing, body = sheet[:n_preparing], sheet[n_preparing:]
    shape = preparing[-1].output_shape if preparing else sheet[0].input_shape
    prepared = ", ".join(_PREPARING[layer.kind] for layer in preparing)
    return Block("image", "image", [_shape(shape)], [prepared] if prepared else [], shape), body


def _dressed(layers: Iterable[LayerGeometry]) -> list[list[LayerGeometry]]:
    """Group each activation, normalisation and dropout with the layer before it."""
    groups: list[list[LayerGeometry]] = []
    for layer in layers:
        if groups and layer.kind in _DRESSING:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return groups


def _layer_block(
    group: list[LayerGeometry], activations: dict[str, str], image: tuple[int, ...]
) -> Block:
    layer, dressing = group[0], group[1:]
    what = _WINDOWS.get(layer.kind) or _OTHERS.get(layer.kind) or layer.kind
    if layer.kernel:
        what += f" {_shape(layer.kernel)}"
        if layer.stride != (1, 1) and layer.stride != layer.kernel:
            what += f" step {max(layer.stride or (1,))}"
    extras = [
        activations.get(layer.name, ""),
        *(activations.get(d.name) or _DRESSING[d.kind] for d in dressing),
    ]
    what = ", ".join(dict.fromkeys(text for text in [what, *extras] if text))
    details = _costs(group)
    if layer.kernel:
        details.append(_sees(layer, image))
    return Block(
        role=_role(layer),
        title=layer.name.rsplit("/", 1)[-1],
        lines=[what, _shape(layer.output_shape)],
        details=[line for line in details if line],
        shape=layer.output_shape,
        kernel=layer.kernel,
    )


def _backbone_blocks(
    body: list[LayerGeometry],
    stages: Mapping[str, str],
    activations: dict[str, str],
    image: tuple[int, ...],
) -> list[Block]:
    """Draw each stage at the size of its output map, and only the layers of the head singly."""
    shown = []
    around: list[LayerGeometry] = []
    for stage in by_stage(body, stages):
        if stage.name not in stages:
            around.append(stage.output)
            continue
        details = [*_costs(stage.layers), _sees(stage.output, image)]
        shape = stage.output.output_shape
        shown.append(
            Block(
                role="conv",
                title=stage.name,
                lines=[_shape(shape), f"{len(stage.layers)} layers, {stage.n_convolutions} conv"],
                details=[line for line in details if line],
                shape=shape,
                slices=max(1, stage.n_convolutions),
            )
        )
    return shown + [_layer_block(group, activations, image) for group in _dressed(around)]


def _stage_blocks(
    body: list[LayerGeometry], activations: dict[str, str], image: tuple[int, ...]
) -> list[Block]:
    """Gather the layers of one resolution into one block; the layers of the head stay single."""
    spatial = [i for i, layer in enumerate(body) if layer.jump != (0, 0)]
    head_start = spatial[-1] + 1 if spatial else 0
    stages: dict[tuple[int, ...], list[LayerGeometry]] = {}
    size: tuple[int, ...] = image[:2]
    waiting: list[LayerGeometry] = []
    for layer in body[:head_start]:
        waiting.append(layer)
        if layer.kind in {"ZeroPadding2D", "Cropping2D"}:
            continue  # it is drawn with the layer that it pads
        if layer.jump != (0, 0):  # else it pools the map to one value within a stage
            size = layer.output_shape[:2]
        stages.setdefault(size, []).extend(waiting)
        waiting = []
    shown = []
    for number, (size, stage) in enumerate(stages.items(), start=1):
        dressed = _dressed(stage)
        if len(dressed) == 1:
            shown.append(_layer_block(dressed[0], activations, image))
        else:
            shown.append(_stage_block(number, size, stage, image))
    head = _dressed(body[head_start:])
    return shown + [_layer_block(group, activations, image) for group in head]


def _stage_block(
    number: int, size: tuple[int, ...], stage: list[LayerGeometry], image: tuple[int, ...]
) -> Block:
    convolutions = [layer for layer in stage if layer.multiply_adds]
    on_size = [layer for layer in stage if layer.output_shape[:2] == size]
    channels = [layer.output_shape[-1] for layer in on_size]
    few, many = min(channels), max(channels)
    widest = max(on_size, key=lambda layer: layer.receptive_field or (0, 0))
    details = [*_costs(stage), _sees(widest, image)]
    return Block(
        role="conv" if convolutions else "pool",
        title=f"stage {number}",
        lines=[
            _shape(size),
            f"{few:,} to {many:,} channels" if few != many else f"{many:,} channels",
            f"{len(stage)} layers, {len(convolutions)} conv",
        ],
        details=[line for line in details if line],
        shape=(*size, many),
        slices=max(1, len(convolutions)),
    )


def _costs(group: Sequence[LayerGeometry]) -> list[str]:
    params = sum(layer.params for layer in group)
    multiply_adds = sum(layer.multiply_adds for layer in group)
    lines = []
    if params:
        lines.append(f"{params:,} params")
    if multiply_adds:
        lines.append(f"{short_count(multiply_adds)} multiply-adds")
    return lines


def _sees(layer: LayerGeometry, image: tuple[int, ...]) -> str:
    field = layer.receptive_field
    if field is None:
        return ""
    if field[0] >= image[0] and field[1] >= image[1]:
        return "sees the whole image"
    return f"sees {_shape(field)} px"


def short_count(number: int) -> str:
    """Return a large number in the usual short form.

    >>> short_count(8_488_192)
    '8.49 M'
    >>> short_count(1_280)
    '1,280'
    """
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= size:
            unit = 1000 if letter == "k" else size
            return f"{number / unit:.3g} {letter}"
    return f"{number:,}"


def _activations(model: "keras.Model") -> dict[str, str]:
    """Return the activation within each layer of the model that has one."""
    named = {}
    for layer in as_functional(model).layers:
        name = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if name != "linear":
            named[layer.name] = name
    return named


def _role(layer: LayerGeometry) -> str:
    if layer.kind == "Dense":
        return "dense"
    if "Conv" in layer.kind:
        return "conv"
    if "Pooling" in layer.kind:
        return "pool"
    if layer.kind in {"Flatten", "Reshape", "ZeroPadding2D", "Cropping2D"}:
        return "reshape"
    return "other"


def _shape(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{numbers[0]:,} values"
    return "\N{MULTIPLICATION SIGN}".join(f"{n:,}" for n in numbers)
