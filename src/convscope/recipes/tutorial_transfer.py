"""The tutorial's transfer learning, as it was done there."""

from convscope.recipe import (
    BackboneSettings,
    HeadSettings,
    OptimizerSettings,
    Recipe,
)
from convscope.recipes import RECIPES

SPACE = {
    "optimizer.learning_rate": "0.0001..0.01:log",
    "batch_size": "32,64,128,256",
    "head.dropout": "0..0.5",
}
"""Settings that `convscope tune` varies, with their ranges."""


@RECIPES.register("tutorial-transfer", trains="backbone", space=SPACE)
def tutorial_transfer() -> Recipe:
    """A frozen backbone at 32 px, pixels in [0, 1], a 128-64 head: as in the tutorial.

    Kept for comparison. Pixels in [0, 1] are not what these backbones were trained on, and at 32
    pixels their last feature map is a single pixel; `convscope ladder` fixes one problem at a time.

    Command: `convscope train --model mobilenet_v2 --recipe tutorial-transfer`
    Cost: 1 to 2 minutes on CIFAR-10 on two cores (MobileNetV2), 6 for VGG16.
    Expected: 0.351 on CIFAR-10's test images with MobileNetV2, standard deviation 0.003 over
    three seeds; ResNet50 0.413 and 0.011.
    """
    return Recipe(
        optimizer=OptimizerSettings(name="adam", learning_rate=1e-3),
        head=HeadSettings(pooling="flatten", hidden=(128, 64)),
        backbone=BackboneSettings(scaling="unit", cut="end"),
        batch_size=128,
        epochs=20,
        image_size=32,
        precision="float32",
        judge="last",
    )
