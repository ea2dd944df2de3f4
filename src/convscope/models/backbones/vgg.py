"""VGG: nothing but small convolutions and pooling, the plainest of the deep networks."""

from convscope.models.backbones import SIZES, Backbone, WeightsFile, keras_application, register


def _vgg(
    depth: int, n_params: int, multiply_adds: tuple[int, int, int, int], top1: float, md5: str
) -> Backbone:
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
        multiply_adds=dict(zip(SIZES, multiply_adds, strict=True)),
        top1=top1,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=file,
            url=f"https://storage.googleapis.com/tensorflow/keras-applications/{name}/{file}",
            digest=f"md5:{md5}",
        ),
        stages={f"stage{i}": f"block{i}_pool" for i in range(1, 6)},
    )


register(
    _vgg(
        16,
        14_714_688,
        (313_196_544, 2_818_768_896, 7_829_913_600, 15_346_630_656),
        0.713,
        "6d6bbae143d832006294945121d1f1fc",
    ),
    _vgg(
        19,
        20_024_384,
        (398_131_200, 3_583_180_800, 9_953_280_000, 19_508_428_800),
        0.713,
        "253f8cb515780f3b799900260a226db6",
    ),
)
