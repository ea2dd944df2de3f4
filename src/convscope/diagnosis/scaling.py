"""Pixels that are scaled otherwise than those that a backbone learnt from."""

from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case
from convscope.models.preprocessing import RANGES


@TRAPS.register("scaling")
def scaling(case: Case) -> Finding | None:
    """Input scaling that is not the backbone's.

    Its first filters were fitted to one range of values. Others shift every activation after
    them, and nothing fails: only the accuracy is worse.
    """
    backbone, chosen = case.backbone, case.config.backbone.scaling
    if backbone is None or chosen in ("own", backbone.scaling):
        return None
    return Finding(
        symptom=f"{backbone.name} gets pixels that are scaled otherwise than in its pretraining.",
        evidence=f"They are scaled {RANGES[chosen]} (backbone.scaling: {chosen}); its weights were "
        f"trained on pixels {RANGES[backbone.scaling]} ({backbone.scaling}).",
        remedies=(case.again("scale them as it was trained", {"backbone.scaling": "own"}),),
        sure="certain",
    )
