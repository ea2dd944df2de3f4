"""EfficientNet-Lite1 and Lite2 on the same image: on photos more accurate than a larger network.

On four sets of photos the two at 240 pixels had a lower loss than Lite2 at 320, which takes as long
(`docs/results.md`). Other pairs, and all three networks, gained less or cost more.
"""

from convscope.models.backbones import register
from convscope.models.backbones._side_by_side import side_by_side
from convscope.models.backbones.efficientnet_lite import variant

register(
    side_by_side(
        "efficientnet_lite1_2",
        (variant(1), variant(2)),
        family="EfficientNet-Lite pair",
        native_size=240,
    )
)
