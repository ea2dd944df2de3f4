"""EfficientNet: one small network, scaled up in depth, width and image size together.

Keras scales the pixels inside the network, and when it loads its ImageNet weights it divides them
by the square root of the deviation once more, which the original code did and the layers alone do
not (https://github.com/tensorflow/tensorflow/issues/49930). A network that is built without weights
and loaded later lacks that step; here it is folded into the first convolution.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from convscope.models.backbones import SIZES, Backbone, WeightsFile, keras_application, register

if TYPE_CHECKING:
    import keras

_STD = (0.229, 0.224, 0.225)
_REPEATS = (1, 2, 2, 3, 3, 4, 1)


def _divide_by_root_of_std(trunk: "keras.Model") -> None:
    """Fold Keras' extra factor for each colour into the first convolution.

    Only padding with zeros lies between the two, and the convolution has no bias, so the network
    computes the same.
    """
    convolution = trunk.get_layer("stem_conv")
    (kernel,) = convolution.get_weights()  # (rows, columns, colours, filters)
    for colour, std in enumerate(_STD):
        kernel[:, :, colour] /= math.sqrt(std)
    convolution.set_weights([kernel])


def _stages(depth: float) -> Mapping[str, str]:
    """Return the last block of each resolution; `depth` multiplies the number of blocks."""
    letters = [chr(ord("a") + math.ceil(depth * n) - 1) for n in _REPEATS]
    return {
        # A block that is not repeated adds nothing to its input.
        "stage1": "block1a_project_bn" if letters[0] == "a" else f"block1{letters[0]}_add",
        "stage2": f"block2{letters[1]}_add",
        "stage3": f"block3{letters[2]}_add",
        "stage4": f"block5{letters[4]}_add",
        "stage5": "top_activation",
    }


# Number: (depth, size, parameters, features, top-1, md5).
_VARIANTS = {
    0: (1.0, 224, 4_049_571, 1280, 0.771, "50bc09e76180e00e4465e1a485ddc09d"),
    1: (1.1, 240, 6_575_239, 1280, 0.791, "74c4e6b3e1f6a1eea24c589628592432"),
    2: (1.2, 260, 7_768_569, 1408, 0.801, "111f8e2ac8aa800a7a99e3239f7bfb39"),
    3: (1.4, 300, 10_783_535, 1536, 0.816, "af6d107764bb5b1abb91932881670226"),
    4: (1.8, 380, 17_673_823, 1792, 0.829, "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    5: (2.2, 456, 28_513_527, 2048, 0.836, "38879255a25d3c92d5e44e04ae6cec6f"),
    6: (2.6, 528, 40_960_143, 2304, 0.840, "9ecce42647a20130c1f39a5d4cb75743"),
    7: (3.1, 600, 64_097_687, 2560, 0.843, "cbcfe4450ddf6f3ad90b1b398090fe4a"),
}

_MULTIPLY_ADDS = {
    0: (8_462_048, 71_140_832, 196_498_400, 384_534_752),
    1: (12_685_280, 105_299_680, 290_528_480, 568_371_680),
    2: (14_706_416, 121_847_920, 336_130_928, 657_555_440),
    3: (21_437_456, 178_059_920, 491_304_848, 961_172_240),
    4: (33_705_184, 278_407_392, 767_811_808, 1_501_918_432),
    5: (53_096_320, 436_654_464, 1_203_770_752, 2_354_445_184),
    6: (75_856_320, 622_857_408, 1_716_859_584, 3_357_862_848),
    7: (117_112_256, 958_811_072, 2_642_208_704, 5_167_305_152),
}

register(
    *(
        Backbone(
            name=f"efficientnet_b{number}",
            family="EfficientNet",
            paper="Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural "
            "Networks, ICML 2019",
            build=keras_application(f"EfficientNetB{number}"),
            scaling="none",
            native_size=size,
            smallest_size=32,
            sensible_size=33,
            n_params=n_params,
            n_features=n_features,
            multiply_adds=dict(zip(SIZES, _MULTIPLY_ADDS[number], strict=True)),
            top1=top1,
            top1_source="https://keras.io/api/applications/",
            weights=WeightsFile(
                name=f"efficientnetb{number}_notop.h5",
                url="https://storage.googleapis.com/keras-applications/"
                f"efficientnetb{number}_notop.h5",
                digest=f"md5:{md5}",
            ),
            stages=_stages(depth),
            after_loading=_divide_by_root_of_std,
        )
        for number, (depth, size, n_params, n_features, top1, md5) in _VARIANTS.items()
    )
)
