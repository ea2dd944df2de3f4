"""VGG: nothing but small convolutions and pooling, the plainest of the deep networks."""

from convscope.models.backbones import Backbone, WeightsFile, keras_application, register


def _vgg(depth: int, n_params: int, top1: float, md5: str) -> Backbone:
    name = f"vgg{depth}"
    file = f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return Backbone(
        name=name,
        family="VGG",
        paper="Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image "
        "Recognition, ICLR 2015",
        build=keras_application(name.upper()),
        scaling="caffe",
        native_size=224,
        smallest_size=32,
        sensible_size=64,
        n_params=n_params,
        n_features=512,
        top1=top1,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=file,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/{name}/{file}",
            md5=md5,
        ),
        stages={f"stage{i}": f"block{i}_pool" for i in range(1, 6)},
    )


register(
    _vgg(16, 14_714_688, 0.713, "6d6bbae143d832006294945121d1f1fc"),
    _vgg(19, 20_024_384, 0.713, "253f8cb515780f3b799900260a226db6"),
)
