"""An explanation in words: where evidence lies, and what a layer does."""

import numpy as np

from convscope.models.geometry import LayerGeometry
from convscope.types import FloatArray
from convscope.wording import counted

LEAST_LOSS = 0.01
"""Loss of probability below which covering a part says nothing."""


def place(heat: FloatArray) -> str:
    """Describe where in the image most of a map's weight lies.

    Examples:
        >>> heat = np.zeros((4, 4), np.float32)
        >>> heat[0, 3] = 1
        >>> place(heat), place(np.ones((4, 4), np.float32))
        ('in the upper right', 'all over the image')
    """
    total = float(heat.sum())
    if total <= 0:
        return "nowhere"
    rows, columns = heat.shape
    # If half of the weight takes more than a third of the image, it has no location.
    largest = np.sort(heat.ravel())[::-1].cumsum()
    if (int(np.searchsorted(largest, total / 2)) + 1) / heat.size > 1 / 3:
        return "all over the image"
    down = float((heat.sum(axis=1) * (np.arange(rows) + 0.5)).sum() / total / rows)
    across = float((heat.sum(axis=0) * (np.arange(columns) + 0.5)).sum() / total / columns)
    vertical = "upper" if down < 0.4 else "lower" if down > 0.6 else ""
    horizontal = "left" if across < 0.4 else "right" if across > 0.6 else ""
    if not vertical and not horizontal:
        return "in the middle"
    if not vertical:
        return f"on the {horizontal}"
    return f"in the {vertical} {horizontal or 'part'}"


def loss_in_words(occlusion: FloatArray, name: str) -> str:
    """Describe what covering a part of the image takes from the probability of a class.

    Examples:
        >>> loss_in_words(np.full((4, 4), 0.4, np.float32), "cat")
        'Covering a part anywhere in the image costs cat up to 40 points of probability.'

    Args:
        occlusion: Shape (n, n), in [-1, 1]; see `explain.occlusion`.
        name: Name of the class.
    """
    most = float(occlusion.max())
    if most < LEAST_LOSS:
        return f"Covering any one part costs {name} less than 1 point of probability."
    # "A part in the upper left", but not "a part all over the image".
    where = place(np.maximum(occlusion, 0)).replace("all over", "anywhere in")
    cost = counted(round(100 * most), "point")
    return f"Covering a part {where} costs {name} up to {cost} of probability."


_VALUE_BY_VALUE = {
    "ReLU": "keeps positive values",
    "Activation": "its activation function, value by value",
}


def layer_in_words(geometry: LayerGeometry) -> str:
    """Describe a layer in a few words."""
    if geometry.kernel is None:
        return _VALUE_BY_VALUE.get(geometry.kind, geometry.kind)
    high, wide = geometry.kernel
    window = f"{high} x {wide}"
    step = (
        ""
        if geometry.stride is None or geometry.stride == (1, 1)
        else f", every {max(geometry.stride)}"
    )
    edge = ", zero padding" if geometry.padding not in (None, (0, 0)) else ""
    what = {
        "Conv2D": f"convolution with windows of {window}",
        "DepthwiseConv2D": f"convolution of each channel with windows of {window}",
        "SeparableConv2D": f"separable convolution with windows of {window}",
        "MaxPooling2D": f"the maximum of each {window}",
        "AveragePooling2D": f"the mean of each {window}",
    }.get(geometry.kind, f"{geometry.kind} with windows of {window}")
    return f"{what}{step}{edge}"
