"""ResNet: layers learn a residual that is added to their input, so that depth is trainable."""

from convscope.models.backbones import SIZES, Backbone, WeightsFile, keras_application, register


def _resnet(
    depth: int,
    blocks: tuple[int, int, int, int],
    n_params: int,
    multiply_adds: tuple[int, int, int, int],
    top1: float,
    md5: str,
) -> Backbone:
    name = f"resnet{depth}"
    file = f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ends = {f"stage{i}": f"conv{i + 1}_block{n}_out" for i, n in enumerate(blocks, start=1)}
    return Backbone(
        name=name,
        family="ResNet",
        paper="He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
        build=keras_application(f"ResNet{depth}"),
        scaling="caffe",
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
        stages={"stem": "conv1_relu", **ends},
    )


register(
    _resnet(
        50,
        (3, 4, 6, 3),
        23_587_712,
        (78_692_352, 708_231_168, 1_967_308_800, 3_855_925_248),
        0.749,
        "4d473c1dd8becc155b73f8504c6f6626",
    ),
    _resnet(
        101,
        (3, 4, 23, 3),
        42_658_176,
        (154_451_968, 1_390_067_712, 3_861_299_200, 7_568_146_432),
        0.764,
        "88cf7a10940856eca736dc7b7e228a21",
    ),
    _resnet(
        152,
        (3, 8, 36, 3),
        58_370_944,
        (230_211_584, 2_071_904_256, 5_755_289_600, 11_280_367_616),
        0.766,
        "ee4c566cf9a93f14d82f913c2dc6dd0c",
    ),
)
