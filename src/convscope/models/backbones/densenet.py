"""DenseNet: each layer sees the outputs of all layers before it, so few channels go a long way."""

from convscope.models.backbones import SIZES, Backbone, WeightsFile, keras_application, register


def _densenet(
    depth: int,
    n_params: int,
    n_features: int,
    multiply_adds: tuple[int, int, int, int],
    top1: float,
    md5: str,
) -> Backbone:
    file = f"densenet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return Backbone(
        name=f"densenet{depth}",
        family="DenseNet",
        paper="Huang et al., Densely Connected Convolutional Networks, CVPR 2017",
        build=keras_application(f"DenseNet{depth}"),
        scaling="torch",
        native_size=224,
        smallest_size=32,
        sensible_size=61,
        n_params=n_params,
        n_features=n_features,
        multiply_adds=dict(zip(SIZES, multiply_adds, strict=True)),
        top1=top1,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=file,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/densenet/{file}",
            digest=f"md5:{md5}",
        ),
        # A stage ends where its channels have been thinned out, before the map is halved.
        stages={
            "stem": "conv1_relu",
            "stage1": "pool2_conv",
            "stage2": "pool3_conv",
            "stage3": "pool4_conv",
            "stage4": "relu",
        },
    )


register(
    _densenet(
        121,
        7_037_504,
        1024,
        (57_819_136, 520_372_224, 1_445_478_400, 2_833_137_664),
        0.750,
        "30ee3e1110167f948a6b9946edeeb738",
    ),
    _densenet(
        169,
        12_642_880,
        1664,
        (68_534_272, 616_808_448, 1_713_356_800, 3_358_179_328),
        0.762,
        "b8c4d4c20dd625c148057b9ff1c1176b",
    ),
    _densenet(
        201,
        18_321_984,
        1920,
        (87_539_712, 787_857_408, 2_188_492_800, 4_289_445_888),
        0.773,
        "c13680b51ded0fb44dff2d8f86ac8bb1",
    ),
)
