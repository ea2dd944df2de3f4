"""Small drawings as SVG, in the colours of the page, light or dark: curves, and what is calibrated.

Written here and not by matplotlib, which takes a second to start, or by a script in the browser.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 440, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 22, 12, 38
_APART = 5.5
"""Distance in pixels from which on each point of a curve gets a dot."""

_ABOVE = 18
"""Height in pixels of the name of a vertical axis, above it."""

N_COLOURS = 8
"""Number of colours of curves; they repeat after it, in lines of other dashes."""

_DASHES = ((14, 0), (7, 4), (2, 3))
"""Lengths in pixels of the strokes and gaps of curves: of the first colours, of their repeats."""


@dataclass(frozen=True)
class Curve:
    """A line through points.

    Attributes:
        name: Name, in its tooltip.
        points: Points (x, y); at least one.
        colour: Index of its colour.
        dashed: Whether it is dashed.
        sizes: Radius of the dot at each point, in pixels; empty for small dots.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dashed: bool = False
    sizes: Sequence[float] = ()

    @property
    def dash(self) -> tuple[int, int]:
        """Lengths in pixels of its strokes and gaps."""
        return (5, 4) if self.dashed else _DASHES[self.colour // N_COLOURS % len(_DASHES)]


def chart(
    curves: Sequence[Curve],
    *,
    about: str,
    x: str,
    y: str,
    percent: bool = False,
    square: bool = False,
) -> str:
    """Return a chart of curves as SVG.

    Args:
        curves: Curves in one pair of axes.
        about: Description for readers who cannot see it.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        percent: Whether the vertical axis is a fraction, shown in per cent.
        square: Whether both axes go from 0 to 1, with the diagonal.
    """
    points = [point for curve in curves for point in curve.points if _finite(point)]
    if not points:
        return f'<p class="cs-quiet">{escape(about)}</p>'
    # Other charts have a heading with the name of their vertical axis.
    top = _TOP + _ABOVE * square
    height = 318 + top if square else _HEIGHT
    if square:
        x_low, x_high, y_low, y_high = 0.0, 1.0, 0.0, 1.0
    else:
        x_low, x_high = min(p[0] for p in points), max(p[0] for p in points)
        y_low, y_high = min(p[1] for p in points), max(p[1] for p in points)
        room = (y_high - y_low) * 0.06 or abs(y_high) * 0.1 or 0.1
        y_low, y_high = y_low - room, y_high + room
        if percent:
            y_low, y_high = max(0.0, y_low), min(1.0, y_high)
        if x_low == x_high:
            x_low, x_high = x_low - 0.5, x_high + 0.5
    across = (_WIDTH - _LEFT - _RIGHT) / (x_high - x_low)
    down = (height - top - _BOTTOM) / (y_high - y_low)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return _LEFT + (point[0] - x_low) * across, height - _BOTTOM - (point[1] - y_low) * down

    parts = []
    for tick in _ticks(y_low, y_high, 5):
        _, place = at((x_low, tick))
        text = f"{100 * tick:g} %" if percent or square else f"{tick:g}"
        parts.append(
            f'<line class="cs-grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place:.1f}" '
            f'y2="{place:.1f}"/><text x="{_LEFT - 7}" y="{place + 4:.1f}" '
            f'text-anchor="end">{text}</text>'
        )
    for tick in _ticks(x_low, x_high, 6):
        if not square and tick != round(tick):
            continue
        place, _ = at((tick, y_low))
        text = f"{100 * tick:g} %" if square else f"{tick:g}"
        parts.append(
            f'<text x="{place:.1f}" y="{height - _BOTTOM + 17}" text-anchor="middle">{text}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{height - 4}" text-anchor="middle">'
        f"{escape(x)}</text>"
    )
    if square:
        parts.append(f'<text x="0" y="13">{escape(y)}</text>')
        (x1, y1), (x2, y2) = at((0, 0)), at((1, 1))
        parts.append(f'<line class="cs-diagonal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    several = sum(not curve.dashed for curve in curves) > 1
    for curve in curves:
        places = [(at(point), point) for point in curve.points if _finite(point)]
        parts.append(_drawn(curve, places, percent=percent, several=several))
    return (
        f'<svg class="cs-chart" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(about)}"><title>{escape(y)}</title>{"".join(parts)}</svg>'
    )


def _drawn(
    curve: Curve,
    places: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    *,
    percent: bool,
    several: bool,
) -> str:
    line = " ".join(f"{x:.1f},{y:.1f}" for (x, y), _ in places)
    # Dots that would touch each other hide the line.
    apart = (places[-1][0][0] - places[0][0][0]) / max(1, len(places) - 1) if places else 0
    sizes = curve.sizes or [2.5 if len(places) == 1 or apart > _APART else 0] * len(places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"><title>{escape(curve.name)}, '
        f"{at:g}: {f'{100 * value:.1f} %' if percent else f'{value:.4g}'}</title></circle>"
        for ((x, y), (at, value)), size in zip(places, sizes, strict=True)
        if size
    )
    # Thinner from curve to curve: of equal ones each is seen.
    width = max(1.6, 6.4 - 1.6 * curve.colour) if several else 2
    look = "stroke-width:{:g};stroke-dasharray:{} {}".format(width, *curve.dash)
    return (
        f'<g class="cs-c{curve.colour % N_COLOURS}"><polyline points="{line}" style="{look}">'
        f"<title>{escape(curve.name)}</title></polyline>{dots}</g>"
    )


def _finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers in a range, at most `most` + 1 of them.

    Examples:
        >>> _ticks(0.31, 0.74, 5)
        [0.4, 0.5, 0.6, 0.7]
    """
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]
