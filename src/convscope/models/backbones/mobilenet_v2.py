"""MobileNetV2: inverted residuals between thin bottlenecks, for phones."""

from convscope.models.backbones import Backbone, WeightsFile, keras_application, register

_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"

register(
    Backbone(
        name="mobilenet_v2",
        family="MobileNetV2",
        paper="Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018",
        build=keras_application("MobileNetV2"),
        scaling="tf",
        native_size=224,
        smallest_size=32,
        sensible_size=33,
        n_params=2_257_984,
        n_features=1280,
        multiply_adds={32: 6_112_128, 96: 55_009_152, 160: 152_803_200, 224: 299_494_272},
        top1=0.713,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=_FILE,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/{_FILE}",
        ),
        stages={
            "stage1": "expanded_conv_project_BN",
            "stage2": "block_2_add",
            "stage3": "block_5_add",
            "stage4": "block_12_add",
            "stage5": "out_relu",
        },
        pooled=(
            *(f"block_{number}_add" for number in (2, 5, 9, 12, 15)),
            *("block_16_project_BN", "out_relu"),
        ),
    )
)
