"""Pixels that are scaled differently from those that a backbone was trained on."""

from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case
from convscope.models.preprocessing import RANGES
from convscope.recipe import RANDOM_WEIGHTS


@TRAPS.register("scaling")
def scaling(case: Case) -> Finding | None:
    """Input scaling that differs from the backbone's.

    Its first filters were fitted to one range of values. Other values shift every later activation,
    and nothing fails: only the accuracy drops.
    """
    backbone, chosen = case.backbone, case.config.backbone.scaling
    if backbone is None or chosen in ("own", backbone.scaling):
        return None
    if case.config.weights == RANDOM_WEIGHTS:
        return None  # its filters were fitted to no values yet
    return Finding(
        symptom=f"{backbone.name} gets pixels scaled differently than in its pretraining.",
        evidence=f"They are scaled {RANGES[chosen]} (backbone.scaling: {chosen}); its weights were "
        f"trained on pixels {RANGES[backbone.scaling]} ({backbone.scaling}).",
        remedies=(case.again("scale them as in its pretraining", {"backbone.scaling": "own"}),),
        sure="certain",
    )
