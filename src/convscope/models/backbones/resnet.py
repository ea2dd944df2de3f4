"""ResNet: layers learn what to add to their input, so very deep networks can be trained."""

from convscope.models.backbones import Backbone, WeightsFile, keras_application, register


def _resnet(
    depth: int, blocks: tuple[int, int, int, int], n_params: int, top1: float, md5: str
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
        top1=top1,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=file,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{file}",
            md5=md5,
        ),
        stages={"stem": "conv1_relu", **ends},
    )


register(
    _resnet(50, (3, 4, 6, 3), 23_587_712, 0.749, "4d473c1dd8becc155b73f8504c6f6626"),
    _resnet(101, (3, 4, 23, 3), 42_658_176, 0.764, "88cf7a10940856eca736dc7b7e228a21"),
    _resnet(152, (3, 8, 36, 3), 58_370_944, 0.766, "ee4c566cf9a93f14d82f913c2dc6dd0c"),
)
