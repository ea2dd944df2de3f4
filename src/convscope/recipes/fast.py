"""Highest accuracy for the least arithmetic, from scratch."""

from convscope.recipe import (
    AugmentSettings,
    OptimizerSettings,
    ProgressiveSettings,
    Recipe,
    ScheduleSettings,
    StartSettings,
    TtaSettings,
)
from convscope.recipes import RECIPES

CURVES = {
    "fast-small": {1: 0.8288, 2: 0.8759, 4: 0.9042, 8: 0.9233, 12: 0.9305},
    "fast-medium": {6: 0.9343, 11: 0.9420},
    "fast-large": {8: 0.9461},
    "fast-deep": {12: 0.9518},
}
"""Measured accuracy by network, the quickest first, and by epochs of CIFAR-10; see
`planning.curves`.

Means of three runs each."""

_NEVER_SMALLER = {"progressive.scale": 1.0}

OF_MODELS = {
    "fast-small": _NEVER_SMALLER,
    "fast-large": _NEVER_SMALLER,
    "fast-deep": {"augment.cutout": 0.25},
}
"""Smaller images first save time in long training; `fast-small` is there for short training, and
`fast-large` was not measured with them. Cutout is for long training of a large
network, which would know all training images by heart."""

SPACE = {
    "optimizer.learning_rate": "0.04..0.36:log",
    "optimizer.momentum": "0.4..0.9",
    "label_smoothing": "0..0.3",
    "augment.crop": "0..0.15",
    "augment.flip": "false,true",
}
"""Settings that `convscope tune` varies, with their ranges."""


@RECIPES.register(
    "fast",
    trains="network",
    model="fast-medium",
    of_models=OF_MODELS,
    curves=CURVES,
    space=SPACE,
)
def fast() -> Recipe:
    """Muon, whitened patches, smaller images first, label smoothing, test-time augmentation.

    Command: `convscope train --recipe fast`
    Cost: on CIFAR-10 on two cores, everything included, 3 minutes for 8 epochs of 49,000 images
    with `--model fast-small` (`--set split.val_fraction=0.02`), 9 to 11 for 11 with `fast-medium`,
    18 for 8 with `fast-large`, 33 for 12 with `fast-deep`.
    Expected: 0.9233, 0.9420, 0.9461 and 0.9518 on CIFAR-10's test images, standard deviations
    0.0022, 0.0007, 0.0012 and 0.0009 over three seeds each.
    For 96 %: `--model fast-deep --epochs 45 --set augment.cutout=0 --set augment.cutmix=0.5`
    with the same 49,000 images, in two hours (two seeds: 0.9612, 0.9602).
    """
    return Recipe(
        # Muon turns a convolution kernel by the learning rate in each step. Parameters under plain
        # momentum have gradients that the small logits make small, so their rates are large.
        optimizer=OptimizerSettings(
            name="muon",
            learning_rate=0.12,
            momentum=0.6,
            nesterov=True,
            bias_rate=400,
            head_rate=10,
        ),
        schedule=ScheduleSettings(name="linear"),
        start=StartSettings(whiten=True, dirac=True),
        augment=AugmentSettings(flip=True, crop=0.0625),
        progressive=ProgressiveSettings(scale=0.75),
        label_smoothing=0.2,
        batch_size=500,
        least_steps=5,
        full_batches=True,
        epochs=8,
        tta=TtaSettings(mirror=True, shift=0.03125),
        judge="last",
    )
