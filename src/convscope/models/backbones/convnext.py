"""ConvNeXt: a residual network modernised with lessons from vision transformers.

The three larger networks were first trained on ImageNet's 21,000 classes, then on the usual 1,000.
"""

from convscope.models.backbones import SIZES, Backbone, WeightsFile, keras_application, register
from convscope.models.backbones._naming import name_output

# Name in Keras: (parameters, features, multiply-adds, top-1, sha256).
_VARIANTS = {
    "Tiny": (
        27_820_128,
        768,
        (90_913_536, 818_221_824, 2_272_838_400, 4_454_763_264),
        0.813,
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "Small": (
        49_454_688,
        768,
        (177_202_944, 1_594_826_496, 4_430_073_600, 8_682_944_256),
        0.823,
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    "Base": (
        87_566_464,
        1024,
        (313_340_928, 2_820_068_352, 7_833_523_200, 15_353_705_472),
        0.853,
        "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    ),
    "Large": (
        196_230_336,
        1536,
        (701_222_400, 6_311_001_600, 17_530_560_000, 34_359_897_600),
        0.863,
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    ),
    "XLarge": (
        348_147_968,
        2048,
        (1_243_244_544, 11_189_200_896, 31_081_113_600, 60_918_982_656),
        0.867,
        "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    ),
}


def _convnext(
    variant: str,
    n_params: int,
    n_features: int,
    multiply_adds: tuple[int, int, int, int],
    top1: float,
    sha256: str,
) -> Backbone:
    name = f"convnext_{variant.lower()}"
    base = "https://storage.googleapis.com/tensorflow/keras-applications/convnext"
    return Backbone(
        name=name,
        family="ConvNeXt",
        paper="Liu et al., A ConvNet for the 2020s, CVPR 2022",
        build=name_output(keras_application(f"ConvNeXt{variant}"), "out_norm"),
        scaling="none",
        native_size=224,
        smallest_size=32,
        sensible_size=64,
        n_params=n_params,
        n_features=n_features,
        multiply_adds=dict(zip(SIZES, multiply_adds, strict=True)),
        top1=top1,
        top1_source="https://keras.io/api/applications/",
        weights=WeightsFile(
            name=f"{name}_notop.h5", url=f"{base}/{name}_notop.h5", digest=f"sha256:{sha256}"
        ),
        # The additions that end its blocks are operations, which have no fixed names; so a stage
        # ends with the layer that halves the map for the next.
        stages={
            "stem": f"{name}_stem",
            **{f"stage{i + 1}": f"{name}_downsampling_block_{i}" for i in range(3)},
            "stage4": "out_norm",
        },
    )


register(*(_convnext(variant, *facts) for variant, facts in _VARIANTS.items()))
