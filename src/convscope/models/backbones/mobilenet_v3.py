"""MobileNetV3: MobileNetV2's blocks, arranged by a search for speed on phones."""

from collections.abc import Mapping

from convscope.models.backbones import Backbone, WeightsFile, keras_application, register
from convscope.models.backbones._naming import name_output


def _mobilenet_v3(
    size: str,
    n_params: int,
    n_features: int,
    multiply_adds: Mapping[int, int],
    top1: float,
    md5: str,
    stages: Mapping[str, str],
) -> Backbone:
    file = f"weights_mobilenet_v3_{size}_224_1.0_float_no_top_v2.h5"
    base = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v3"
    return Backbone(
        name=f"mobilenet_v3_{size}",
        family="MobileNetV3",
        paper="Howard et al., Searching for MobileNetV3, ICCV 2019",
        build=name_output(keras_application(f"MobileNetV3{size.title()}"), "out_hard_swish"),
        scaling="none",
        native_size=224,
        smallest_size=32,
        sensible_size=33,
        n_params=n_params,
        n_features=n_features,
        multiply_adds=multiply_adds,
        top1=top1,
        top1_source="the docstring of keras.applications.MobileNetV3Large",
        weights=WeightsFile(name=file, url=f"{base}/{file}", digest=f"md5:{md5}"),
        stages={**stages, "stage5": "out_hard_swish"},
    )


register(
    _mobilenet_v3(
        "small",
        n_params=939_120,
        n_features=576,
        multiply_adds={32: 1_569_728, 96: 10_457_536, 160: 28_233_152, 224: 54_896_576},
        top1=0.681,
        md5="d3e8ec802a04aa4fc771ee12a9a9b836",
        stages={
            "stage1": "conv_bn",
            "stage2": "expanded_conv_project_bn",
            "stage3": "expanded_conv_2_add",
            "stage4": "expanded_conv_7_add",
        },
    ),
    _mobilenet_v3(
        "large",
        n_params=2_996_352,
        n_features=960,
        multiply_adds={32: 5_845_440, 96: 40_551_360, 160: 109_963_200, 224: 214_080_960},
        top1=0.756,
        md5="07fb09a5933dd0c8eaafa16978110389",
        stages={
            "stage1": "expanded_conv_add",
            "stage2": "expanded_conv_2_add",
            "stage3": "expanded_conv_5_add",
            "stage4": "expanded_conv_11_add",
        },
    ),
)
