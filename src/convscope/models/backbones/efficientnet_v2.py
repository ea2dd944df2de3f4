"""EfficientNet V2: smaller and faster to train, with whole convolutions in its first stages."""

import math
from collections.abc import Mapping

from convscope.models.backbones import SIZES, Backbone, WeightsFile, keras_application, register

# Blocks in each of the groups that Keras numbers; the B networks multiply those of B0.
_B0 = (1, 2, 2, 3, 5, 8)
_S = (2, 4, 4, 6, 9, 15)
_M = (3, 5, 5, 7, 14, 18, 5)
_L = (4, 7, 7, 10, 19, 25, 7)


def _stages(repeats: tuple[int, ...], depth: float = 1.0) -> Mapping[str, str]:
    """Return the last block of each resolution; `depth` multiplies the number of blocks."""
    letters = [chr(ord("a") + math.ceil(depth * n) - 1) for n in repeats]
    return {
        # A block that is not repeated adds nothing to its input.
        "stage1": "block1a_project_activation" if letters[0] == "a" else f"block1{letters[0]}_add",
        "stage2": f"block2{letters[1]}_add",
        "stage3": f"block3{letters[2]}_add",
        "stage4": f"block5{letters[4]}_add",
        "stage5": "top_activation",
    }


# Name: (stages, size, parameters, features, top-1, md5).
_VARIANTS = {
    "b0": (_stages(_B0), 224, 5_919_312, 1280, 0.787, "893217f2bb855e2983157299931e43ff"),
    "b1": (_stages(_B0, 1.1), 240, 6_931_124, 1280, 0.798, "0e80663031ca32d657f9caa404b6ec37"),
    "b2": (_stages(_B0, 1.2), 260, 8_769_374, 1408, 0.805, "1dfe2e7a5d45b6632553a8961ea609eb"),
    "b3": (_stages(_B0, 1.4), 300, 12_930_622, 1536, 0.820, "f6abf7b5849ac99a89b50dd3fd532856"),
    "s": (_stages(_S), 384, 20_331_360, 1280, 0.839, "af0682fb74e8c54910f2d4393339c070"),
    "m": (_stages(_M), 480, 53_150_388, 1280, 0.853, "1b8dc055df72dde80d614482840fe342"),
    "l": (_stages(_L), 480, 117_746_848, 1280, 0.857, "b0b66b5c863aef5b46e8608fe1711615"),
}

_MULTIPLY_ADDS = {
    "b0": (15_639_072, 132_500_256, 366_222_624, 716_806_176),
    "b1": (21_879_328, 187_329_312, 518_229_280, 1_014_579_232),
    "b2": (25_324_656, 215_674_352, 596_373_744, 1_167_422_832),
    "b3": (35_087_104, 297_313_024, 821_764_864, 1_608_442_624),
    "s": (61_725_120, 526_206_912, 1_455_170_496, 2_848_615_872),
    "m": (119_039_968, 992_687_840, 2_739_983_584, 5_360_927_200),
    "l": (271_223_872, 2_264_337_984, 6_250_566_208, 12_229_908_544),
}

register(
    *(
        Backbone(
            name=f"efficientnet_v2_{variant}",
            family="EfficientNet V2",
            paper="Tan and Le, EfficientNetV2: Smaller Models and Faster Training, ICML 2021",
            build=keras_application(f"EfficientNetV2{variant.upper()}"),
            scaling="none",
            native_size=size,
            smallest_size=32,
            sensible_size=33,
            n_params=n_params,
            n_features=n_features,
            multiply_adds=dict(zip(SIZES, _MULTIPLY_ADDS[variant], strict=True)),
            top1=top1,
            top1_source="https://keras.io/api/applications/",
            weights=WeightsFile(
                name=f"efficientnetv2-{variant}_notop.h5",
                url="https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/"
                f"efficientnetv2-{variant}_notop.h5",
                digest=f"md5:{md5}",
            ),
            stages=stages,
        )
        for variant, (stages, size, n_params, n_features, top1, md5) in _VARIANTS.items()
    )
)
