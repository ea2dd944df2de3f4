"""A backbone whose last stages are trained too, from cached activations."""

from convscope.recipe import (
    AugmentSettings,
    BackboneSettings,
    HeadSettings,
    OptimizerSettings,
    Recipe,
    ScheduleSettings,
)
from convscope.recipes import RECIPES

SPACE = {
    "optimizer.learning_rate": "0.0001..0.01:log",
    "optimizer.weight_decay": "0.005..0.5:log",
    "optimizer.layer_decay": "0.2..1",
    "head.dropout": "0..0.5",
    "label_smoothing": "0..0.2",
}
"""Settings that `convscope tune` varies, with their ranges."""


@RECIPES.register("finetune", trains="backbone", space=SPACE)
def finetune() -> Recipe:
    """The head first, then the backbone's last stage at a low rate, both from cached activations.

    Command: `convscope train --model mobilenet_v2 --recipe finetune`
    Cost: 21 minutes on CIFAR-10 on two cores with MobileNetV2.
    Expected: 0.940 on CIFAR-10's test images with MobileNetV2, one run.
    """
    return Recipe(
        optimizer=OptimizerSettings(
            name="adamw", learning_rate=1e-3, weight_decay=0.05, layer_decay=0.5
        ),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=1),
        augment=AugmentSettings(flip=True),
        head=HeadSettings(pooling="avg", standardise=True, dropout=0.3),
        backbone=BackboneSettings(
            scaling="own", cut="before-last", views=2, head_epochs=4, head_learning_rate=1e-3
        ),
        label_smoothing=0.1,
        batch_size=128,
        epochs=10,
        image_size=160,
        precision="float32",
        judge="last",
    )
