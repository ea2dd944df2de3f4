"""EfficientNet-Lite networks in pairs: more accurate on photos than the larger one alone."""

from convscope.models.backbones import register
from convscope.models.backbones._side_by_side import side_by_side
from convscope.models.backbones.efficientnet_lite import variant

# Numbers of both: side in pixels.
_PAIRS = {(0, 1): 240, (1, 2): 260}

register(
    *(
        side_by_side(
            f"efficientnet_lite{first}_{second}",
            (variant(first), variant(second)),
            family="EfficientNet-Lite pairs",
            native_size=side,
        )
        for (first, second), side in _PAIRS.items()
    )
)
