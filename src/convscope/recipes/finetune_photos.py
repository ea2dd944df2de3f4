"""A backbone whose last stages are trained from the optimum of logistic regression."""

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
    "optimizer.learning_rate": "0.00001..0.001:log",
    "optimizer.weight_decay": "0.005..0.5:log",
    "augment.crop": "0..0.15",
    "label_smoothing": "0..0.2",
}
"""Settings that `convscope tune` varies, with their ranges."""


@RECIPES.register("finetune-photos", trains="backbone", model="efficientnet_lite0", space=SPACE)
def finetune_photos() -> Recipe:
    """Logistic regression on a frozen backbone, then its last stage, gently; kept only if better.

    For hundreds to thousands of photos. If the validation loss does not fall below that of the
    frozen backbone, the run keeps the head on that.

    Command: `convscope train --data photos/ --model efficientnet_lite0 --recipe finetune-photos`
    Cost: two to three minutes for 1,200 photos on two cores.
    Expected: loss on validation images, one run each with EfficientNet-Lite0: TrashNet 0.234 (0.240
    with the frozen backbone), solar cells (ELPV) 0.659 (0.686), UC Merced 0.153 (0.146); on Caltech
    101 the frozen backbone was kept. With three times the rate and MixUp 0.243, 0.667, 0.236.
    """
    return Recipe(
        optimizer=OptimizerSettings(name="adamw", learning_rate=1e-4, weight_decay=0.05, ema=0.97),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=1),
        augment=AugmentSettings(flip=True, crop=0.08),
        head=HeadSettings(pooling="stages", standardise=True, logistic=True),
        backbone=BackboneSettings(scaling="own", cut="before-last", views=4, head_epochs=0),
        batch_size=32,
        epochs=6,
        image_size=224,
        precision="float32",
        judge="last",
    )
