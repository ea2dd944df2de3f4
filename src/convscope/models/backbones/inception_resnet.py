"""Inception-ResNet: Inception's blocks, each adding to its input as in ResNet."""

from convscope.models.backbones import Backbone, WeightsFile, keras_application, register

_FILE = "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"

register(
    Backbone(
        name="inception_resnet_v2",
        family="Inception-ResNet",
        paper="Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual "
        "Connections on Learning, AAAI 2017",
        build=keras_application("InceptionResNetV2"),
        scaling="tf",
        native_size=299,
        smallest_size=75,
        sensible_size=107,
        n_params=54_336_736,
        n_features=1536,
        multiply_adds={96: 732_365_664, 160: 2_876_402_528, 224: 6_467_425_120},
        top1=0.803,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=_FILE,
            url="https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2/"
            + _FILE,
            digest="md5:d19885ff4a710c122648d3b5c3b684e4",
        ),
        stages={"stage1": "block35_10_ac", "stage2": "block17_20_ac", "stage3": "conv_7b_ac"},
    )
)
