"""MobileNet: convolutions split into one per channel and one across channels, for phones."""

from convscope.models.backbones import Backbone, WeightsFile, keras_application, register

_FILE = "mobilenet_1_0_224_tf_no_top.h5"

register(
    Backbone(
        name="mobilenet",
        family="MobileNet",
        paper="Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile "
        "Vision Applications, arXiv 1704.04861, 2017",
        build=keras_application("MobileNet"),
        scaling="tf",
        native_size=224,
        smallest_size=32,
        sensible_size=63,
        n_params=3_228_864,
        n_features=1024,
        multiply_adds={32: 11_586_048, 96: 104_274_432, 160: 289_651_200, 224: 567_716_352},
        top1=0.704,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=_FILE,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/{_FILE}",
        ),
        stages={
            "stage1": "conv_pw_1_relu",
            "stage2": "conv_pw_3_relu",
            "stage3": "conv_pw_5_relu",
            "stage4": "conv_pw_11_relu",
            "stage5": "conv_pw_13_relu",
        },
    )
)
