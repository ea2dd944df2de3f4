"""Inception: filters of several sizes side by side in every block."""

from convscope.models.backbones import Backbone, WeightsFile, keras_application, register

_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"

register(
    Backbone(
        name="inception_v3",
        family="Inception",
        paper="Szegedy et al., Rethinking the Inception Architecture for Computer Vision, "
        "CVPR 2016",
        build=keras_application("InceptionV3"),
        scaling="tf",
        native_size=299,
        smallest_size=75,
        sensible_size=107,
        n_params=21_802_784,
        n_features=2048,
        multiply_adds={96: 338_849_120, 160: 1_277_424_992, 224: 2_835_873_120},
        top1=0.779,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=_FILE,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/{_FILE}",
            digest="md5:bcbd6486424b2319ff4ef7d526e38f63",
        ),
        stages={"stage1": "mixed2", "stage2": "mixed7", "stage3": "mixed10"},
    )
)
