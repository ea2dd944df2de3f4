"""A picture of an architecture: each layer as a block of the size of its feature map."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.models._blocks import Block, blocks, short_count
from convscope.models.geometry import LayerGeometry, geometry
from convscope.storage import atomic_path

if TYPE_CHECKING:
    import keras

# All lengths are in inches on paper.
_TALLEST, _SHORTEST = 2.2, 0.36
_WIDEST, _NARROWEST = 0.80, 0.10
_BAR_WIDTH = 0.17
_RUN, _RISE = 0.28, 0.19  # the slant of the third axis, for each inch of it
_MARGIN, _GAP = 0.45, 0.26
_LINE, _FOOT = 0.165, 0.5
_TITLE_SIZE, _TEXT_SIZE = 8.6, 7.6  # points

_INK, _FAINT = "#22303c", "#6b7885"
_ROLES = {
    "image": ("#edb95e", "image"),
    "conv": ("#3a7ca5", "convolution"),
    "pool": ("#d9694a", "pooling"),
    "reshape": ("#9aa5b1", "reshaping"),
    "dense": ("#7d5ba6", "dense"),
    "output": ("#3a9d6e", "class probabilities"),
    "other": ("#b5a88f", "other"),
}


def draw_architecture(
    model: "keras.Model",
    path: Path,
    title: str | None = None,
    stages: Mapping[str, str] | None = None,
) -> None:
    """Draw a model's architecture into a picture file.

    Up to a dozen layers are drawn one by one, with the window that each convolution and pooling
    slides over the previous map; deeper networks by stage: the given ones, each of the size of its
    output map, otherwise one block for all layers of the same resolution. Block heights follow the
    height of the feature map and block widths the channels; extremes too far apart for paper are
    compressed.

    Args:
        model: A built model in any style.
        path: Output file; its suffix (.png, .svg, .pdf) decides the format.
        title: Title on top; None takes the model's name.
        stages: Stages of the backbone inside the model, as in `Backbone.stages`.

    Raises:
        ShapeError: If the model is not built, or takes images of any size.
        StorageError: If the file cannot be written.
    """
    # Figure without pyplot: no global state, no window, no display needed.
    from matplotlib.figure import Figure

    sheet = geometry(model)
    shown = blocks(model, sheet, stages)
    solids = _solids(shown)
    slots = [_slot_width(block, solid) for block, solid in zip(shown, solids, strict=True)]
    content = sum(slots) + _GAP * (len(slots) - 1)
    width = max(content + 2 * _MARGIN, 6.5)
    captions = _FOOT + (max(len(b.lines) + len(b.details) for b in shown) + 1) * _LINE + 0.1
    stand = max(solid.height + solid.rise for solid in solids)
    height = captions + stand + 1.25

    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")

    left, middle = (width - content) / 2, captions + 0.22 + stand / 2
    for block, solid, slot in zip(shown, solids, slots, strict=True):
        solid.x = left + (slot - solid.width - solid.run) / 2
        solid.y = middle - (solid.height + solid.rise) / 2
        _draw_solid(axes, solid, _ROLES[block.role][0], block.slices)
        _write_caption(axes, block, left + slot / 2, captions)
        left += slot + _GAP
    for i in range(1, len(shown)):
        _join(axes, shown[i - 1], solids[i - 1], shown[i], solids[i], middle)
    _write_heading(axes, title or model.name, sheet, height)
    _draw_legend(axes, shown)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


@dataclass
class _Solid:
    """A block on paper: its front face, the run and rise of its depth, and its position."""

    width: float
    height: float
    run: float
    rise: float
    x: float = 0.0
    y: float = 0.0

    def on_side(self, along: float, up: float) -> tuple[float, float]:
        """Return a point of the right face; `along` and `up` are fractions of its two sides."""
        return (
            self.x + self.width + along * self.run,
            self.y + up * self.height + along * self.rise,
        )


def _solids(shown: list[Block]) -> list[_Solid]:
    maps = [block.shape for block in shown if len(block.shape) == 3]
    side = _scale([n for shape in maps for n in shape[:2]], _SHORTEST, _TALLEST)
    thickness = _scale([shape[2] for shape in maps], _NARROWEST, _WIDEST)
    vectors = [block.shape[0] for block in shown if len(block.shape) == 1]
    length = _scale(vectors, _SHORTEST, 0.9 * _TALLEST)

    solids = []
    for shape in (block.shape for block in shown):
        if len(shape) == 3:
            width, height, depth = thickness(shape[2]), side(shape[0]), side(shape[1])
        else:
            width, height, depth = _BAR_WIDTH, length(shape[0]), _BAR_WIDTH
        solids.append(_Solid(width, height, depth * _RUN, depth * _RISE))
    return solids


def _scale(numbers: list[int], smallest: float, largest: float) -> Callable[[int], float]:
    """Return a function from numbers to inches: proportional, compressed if necessary.

    >>> _scale([8, 32], 0.5, 2.0)(16)
    1.0
    """
    high, low = max(numbers, default=1), min(numbers, default=1)
    power = 1.0
    if low * largest < high * smallest:
        power = math.log(smallest / largest) / math.log(low / high)
    return lambda n: float(largest * (n / high) ** power)


def _draw_solid(axes: Any, solid: _Solid, colour: str, slices: int) -> None:
    from matplotlib.patches import Polygon

    x, y, w, h, run, rise = solid.x, solid.y, solid.width, solid.height, solid.run, solid.rise
    front = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    top = [(x, y + h), (x + w, y + h), (x + w + run, y + h + rise), (x + run, y + h + rise)]
    side = [solid.on_side(*corner) for corner in ((0, 0), (1, 0), (1, 1), (0, 1))]
    for corners, light in ((front, 0.0), (top, 0.4), (side, -0.16)):
        face = _mixed(colour, light)
        axes.add_patch(Polygon(corners, facecolor=face, edgecolor="white", linewidth=0.8))
    # Cuts through a block of many layers, so that a deep stage looks deep.
    n_slices = min(slices, int(w / 0.05))
    for i in range(1, n_slices):
        cut = x + w * i / n_slices
        line = ([cut, cut, cut + run], [y, y + h, y + h + rise])
        axes.plot(*line, color="white", linewidth=0.6, alpha=0.75, solid_joinstyle="round")


def _join(axes: Any, before: Block, source: _Solid, after: Block, target: _Solid, y: float) -> None:
    """Draw the flow of data between two blocks: the sliding window, or an arrow."""
    from matplotlib.patches import Polygon

    end = (target.x, target.y + target.height / 2)
    if after.kernel is None or len(before.shape) != 3:
        start = source.x + source.width + source.run
        arrow: dict[str, Any] = {
            "arrowstyle": "-|>,head_length=0.35,head_width=0.18",
            "color": _FAINT,
        }
        arrow |= {"linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=(end[0] - 0.05, y), xytext=(start + 0.05, y), arrowprops=arrow)
        return
    up = min(1.0, after.kernel[0] / before.shape[0]) / 2
    along = min(1.0, after.kernel[1] / before.shape[1]) / 2
    corners = [
        source.on_side(0.5 + a * along, 0.5 + b * up)
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    axes.add_patch(
        Polygon(corners, facecolor=(1, 1, 1, 0.35), edgecolor="white", linewidth=0.9, zorder=4)
    )
    for corner in corners:
        line = ([corner[0], end[0]], [corner[1], end[1]])
        axes.plot(*line, color=_INK, linewidth=0.55, alpha=0.65, zorder=5)
    axes.plot(*end, "o", color=_INK, markersize=2.4, zorder=6)


def _write_caption(axes: Any, block: Block, x: float, top: float) -> None:
    written = [(block.title, _TITLE_SIZE, "bold", _INK)]
    written += [(line, _TEXT_SIZE, "normal", _INK) for line in block.lines]
    written += [(line, _TEXT_SIZE, "normal", _FAINT) for line in block.details]
    for i, (text, size, weight, colour) in enumerate(written):
        y = top - i * _LINE - (0.02 if i else 0.0)
        axes.text(x, y, text, size=size, weight=weight, color=colour, ha="center", va="top")


def _write_heading(axes: Any, title: str, sheet: list[LayerGeometry], height: float) -> None:
    params = sum(layer.params for layer in sheet)
    cost = short_count(sum(layer.multiply_adds for layer in sheet))
    axes.text(_MARGIN, height - 0.28, title, size=13, weight="bold", color=_INK, va="top")
    text = f"{params:,} parameters, {cost} multiply-adds for one image"
    axes.text(_MARGIN, height - 0.56, text, size=9, color=_FAINT, va="top")


def _draw_legend(axes: Any, shown: list[Block]) -> None:
    from matplotlib.patches import Rectangle

    x, y = _MARGIN, 0.22
    for role in dict.fromkeys(block.role for block in shown):
        colour, label = _ROLES[role]
        axes.add_patch(Rectangle((x, y), 0.13, 0.13, facecolor=colour, edgecolor="none"))
        axes.text(x + 0.2, y + 0.065, label, size=_TEXT_SIZE, color=_FAINT, va="center")
        x += 0.2 + _text_width(label, _TEXT_SIZE) + 0.28


def _slot_width(block: Block, solid: _Solid) -> float:
    texts = [_text_width(line, _TEXT_SIZE) for line in (*block.lines, *block.details)]
    return max(solid.width + solid.run, _text_width(block.title, _TITLE_SIZE, "bold"), *texts)


def _text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text on paper, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), text, size=size, prop=FontProperties(weight=weight))
    return float(path.get_extents().width) / 72


def _mixed(colour: str, light: float) -> tuple[float, float, float]:
    """Mix a colour with white (light > 0) or black (light < 0)."""
    from matplotlib.colors import to_rgb

    target = 1.0 if light > 0 else 0.0
    red, green, blue = (c + (target - c) * abs(light) for c in to_rgb(colour))
    return (red, green, blue)
