"""Images so small that a backbone shrinks them to a point."""

from typing import Any

from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case
from convscope.models.backbones import SIZES, Backbone

_ENOUGH = 160
"""Side in pixels from which most backbones do well; see docs/transfer.md."""


@TRAPS.register("small-input")
def small_input(case: Case) -> Finding | None:
    """Input so small that the last feature map of a backbone is a single value or nearly so.

    Each stage of a backbone halves the map, made for images of about 224 pixels. At 32 pixels
    nothing of the layout of the image is left for the last stages, which hold the most useful
    features.
    """
    backbone = case.backbone
    if backbone is None:
        return None
    size = case.config.image_size
    height, width = (size, size) if size else case.dataset.image_shape[:2]
    rows, columns = _last_map(backbone, height, width)
    if rows * columns > 4:
        return None
    larger = next(side for side in SIZES if side >= max(_ENOUGH, backbone.sensible_size))
    settings: dict[str, Any] = {"image_size": larger}
    if case.config.head.pooling == "flatten":
        # A head on every pixel of a large map would have millions of weights.
        settings |= {"head.pooling": "avg"}
    shown = case.again(f"resize the images to {larger} pixels", settings)
    return Finding(
        symptom=f"The images are too small for {backbone.name}: its last feature map is "
        f"{rows} x {columns}.",
        evidence=f"From {height} x {width} pixels, {rows} x {columns} "
        f"{'value is' if rows * columns == 1 else 'values are'} left for each of "
        f"{backbone.n_features:,} features; at the {backbone.native_size} pixels of its "
        f"pretraining it is {_halved(backbone.native_size, height, rows)}.",
        remedies=(shown,),
        sure="certain" if rows * columns == 1 else "likely",
    )


def _last_map(backbone: Backbone, height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of a backbone's last feature map."""
    if min(height, width) < backbone.smallest_size:
        return 1, 1  # it cannot even be built for such images
    rows, columns = backbone.build((height, width, 3)).output.shape[1:3]
    return int(rows), int(columns)


def _halved(native: int, side: int, rows: int) -> str:
    n = max(1, round(native * rows / side))
    return f"about {n} x {n}"
