"""ResNet V2: residual blocks that normalise before they convolve, with a clear path through all."""

from convscope.models.backbones import SIZES, Backbone, WeightsFile, keras_application, register


def _resnet_v2(
    depth: int,
    blocks: tuple[int, int, int],
    n_params: int,
    multiply_adds: tuple[int, int, int, int],
    top1: float,
    md5: str,
) -> Backbone:
    # The last block of each of Keras' stages halves the map already, so a stage ends before it.
    ends = {f"stage{i}": f"conv{i + 1}_block{n - 1}_out" for i, n in enumerate(blocks, start=1)}
    file = f"resnet{depth}v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return Backbone(
        name=f"resnet{depth}_v2",
        family="ResNet V2",
        paper="He et al., Identity Mappings in Deep Residual Networks, ECCV 2016",
        build=keras_application(f"ResNet{depth}V2"),
        scaling="tf",
        native_size=224,
        smallest_size=32,
        sensible_size=33,
        n_params=n_params,
        n_features=2048,
        multiply_adds=dict(zip(SIZES, multiply_adds, strict=True)),
        top1=top1,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=file,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{file}",
            digest=f"md5:{md5}",
        ),
        stages={"stem": "conv1_conv", **ends, "stage4": "post_relu"},
    )


register(
    _resnet_v2(
        50,
        (3, 4, 6),
        23_564_800,
        (71_024_640, 639_221_760, 1_775_616_000, 3_480_207_360),
        0.760,
        "fac2f116257151a9d068a22e544a4917",
    ),
    _resnet_v2(
        101,
        (3, 4, 23),
        42_626_560,
        (146_784_256, 1_321_058_304, 3_669_606_400, 7_192_428_544),
        0.772,
        "c0ed64b8031c3730f411d2eb4eea35b5",
    ),
    _resnet_v2(
        152,
        (3, 8, 36),
        58_331_648,
        (222_543_872, 2_002_894_848, 5_563_596_800, 10_904_649_728),
        0.780,
        "ed17cf2e0169df9d443503ef94b23b33",
    ),
)
