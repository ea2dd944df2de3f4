"""Xception: Inception taken to its limit, every convolution split into channels and a mixture."""

from typing import TYPE_CHECKING

from convscope.models.backbones import Backbone, WeightsFile, keras_application, register

if TYPE_CHECKING:
    import keras

_FILE = "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _build(shape: tuple[int, int, int]) -> "keras.Model":
    import keras

    trunk = keras_application("Xception")(shape)
    # Keras numbers these differently in every network it builds; blocks 2 to 13 end with one each.
    sums = [layer for layer in trunk.layers if isinstance(layer, keras.layers.Add)]
    for block, layer in enumerate(sums, start=2):
        layer.name = f"block{block}_add"
    return trunk


register(
    Backbone(
        name="xception",
        family="Xception",
        paper="Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017",
        build=_build,
        scaling="tf",
        native_size=299,
        smallest_size=71,
        sensible_size=71,
        n_params=20_861_480,
        n_features=2048,
        multiply_adds={96: 825_860_576, 160: 2_313_416_160, 224: 4_550_831_072},
        top1=0.790,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=_FILE,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/xception/{_FILE}",
            digest="md5:b0042744bf5b25fce3cb969f33bebb97",
        ),
        stages={
            "stem": "block1_conv2_act",
            "stage1": "block2_add",
            "stage2": "block3_add",
            "stage3": "block12_add",
            "stage4": "block14_sepconv2_act",
        },
    )
)
