"""NASNet: cells whose wiring was found by a search on small images, then stacked.

Each cell looks at the outputs of the two before it, so the network can be cut before the first cell
and after the last one only.
"""

from convscope.models.backbones import SIZES, Backbone, WeightsFile, keras_application, register
from convscope.models.backbones._naming import name_output


def _nasnet(
    size: str,
    native_size: int,
    n_params: int,
    n_features: int,
    multiply_adds: tuple[int, int, int, int],
    top1: float,
    md5: str,
) -> Backbone:
    base = "https://storage.googleapis.com/tensorflow/keras-applications/nasnet"
    return Backbone(
        name=f"nasnet_{size}",
        family="NASNet",
        paper="Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, "
        "CVPR 2018",
        build=name_output(keras_application(f"NASNet{size.title()}"), "out_relu"),
        scaling="tf",
        native_size=native_size,
        smallest_size=32,
        sensible_size=35,
        n_params=n_params,
        n_features=n_features,
        multiply_adds=dict(zip(SIZES, multiply_adds, strict=True)),
        top1=top1,
        top1_source="https://keras.io/api/applications/",
        # In Keras' cache it has another name than on the server.
        weights=WeightsFile(
            name=f"nasnet_{size}_no_top.h5",
            url=f"{base}/NASNet-{size}-no-top.h5",
            digest=f"md5:{md5}",
        ),
        stages={"stem": "stem_bn1", "cells": "out_relu"},
    )


register(
    _nasnet(
        "mobile",
        224,
        4_269_716,
        1056,
        (11_449_120, 103_265_824, 286_977_056, 562_582_816),
        0.744,
        "1ed92395b5b598bdda52abe5c0dbfd63",
    ),
    _nasnet(
        "large",
        331,
        84_916_818,
        4032,
        (209_615_904, 1_887_761_952, 5_244_477_984, 10_279_764_000),
        0.825,
        "d81d89dc07e6e56530c4e77faddd61b5",
    ),
)
