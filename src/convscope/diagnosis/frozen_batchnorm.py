"""Statistics of a frozen backbone that were changed in training."""

from typing import Any

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Unknown
from convscope.diagnosis.case import Case
from convscope.models.structure import inner_model


@TRAPS.register("frozen-batchnorm")
def frozen_batchnorm(case: Case) -> Finding | None:
    """BatchNorm statistics of a pretrained backbone that are no longer those of its pretraining.

    Where BatchNorm runs in training mode under a frozen or fine-tuned backbone, small batches of
    other images overwrite what ImageNet taught it, and validation falls apart.
    """
    import keras

    backbone = case.backbone
    if backbone is None:
        return None
    trunk = next((m for m in case.network.layers if inner_model(m) is not None), None)
    layers = [] if trunk is None else _batch_norms(trunk)
    if not layers:
        return None
    original = case.load_backbone()
    changed = []
    for layer in layers:
        theirs = original.get_layer(layer.name)
        for name in ("moving_mean", "moving_variance"):
            ours = keras.ops.convert_to_numpy(getattr(layer, name))
            before = keras.ops.convert_to_numpy(getattr(theirs, name))
            if ours.shape != before.shape:
                raise Unknown("the saved backbone is not built like the pretrained one")
            if not np.allclose(ours, before, rtol=1e-3, atol=1e-4):
                changed.append(layer.name)
                break
    if not changed:
        return None
    return Finding(
        symptom=f"BatchNorm statistics of {backbone.name} are no longer those of its pretraining.",
        evidence=f"{len(changed)} of {len(layers)} BatchNorm layers differ from the weights file, "
        f"the first of them {changed[0]}.",
        remedies=(case.again("train anew: convscope keeps them as they were", {}),),
        sure="certain",
    )


def _batch_norms(trunk: Any) -> list[Any]:
    import keras

    return [layer for layer in trunk.layers if isinstance(layer, keras.layers.BatchNormalization)]
