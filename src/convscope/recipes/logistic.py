"""A frozen backbone with logistic regression: a good start for the user's own photos."""

from convscope.recipe import BackboneSettings, HeadSettings, Recipe
from convscope.recipes import RECIPES


@RECIPES.register("logistic", trains="backbone", model="efficientnet_lite0")
def logistic() -> Recipe:
    """Frozen backbone at 224 px, logistic regression, L2 penalty chosen by cross-validation.

    The features are the means of the last map, and means and standard deviations of the maps that
    end each earlier block or stage. The penalty, and how much the last map counts, are chosen by
    five-fold cross-validation over the training images. The first candidate on a folder of photos,
    with EfficientNet-Lite0, whose weights are always available.

    Command: `convscope train --data photos/ --model efficientnet_lite0 --recipe logistic`
    Cost: about 20 seconds for 1,200 photos on two cores.
    Expected: on five folds of training and validation images: TrashNet 0.903, UC Merced 0.974,
    Caltech 101 0.902, solar cells (ELPV) 0.770.
    """
    return Recipe(
        head=HeadSettings(pooling="stages", standardise=True, logistic=True),
        backbone=BackboneSettings(scaling="own", cut="end"),
        epochs=1,
        image_size=224,
        precision="float32",
        judge="last",
    )
