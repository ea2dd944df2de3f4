"""Statistics of a frozen backbone that changed in training."""

from typing import Any

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Unknown
from convscope.diagnosis.case import Case
from convscope.models.structure import inner_model


@TRAPS.register("frozen-batchnorm")
def frozen_batchnorm(case: Case) -> Finding | None:
    """BatchNorm statistics of a pretrained backbone that changed since its pretraining.

    If BatchNorm runs in training mode inside a frozen or fine-tuned backbone, small batches of
    other images overwrite the statistics of ImageNet, and validation accuracy collapses.
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
                raise Unknown("the saved backbone has another structure than the pretrained one")
            if not np.allclose(ours, before, rtol=1e-3, atol=1e-4):
                changed.append(layer.name)
                break
    if not changed:
        return None
    return Finding(
        symptom=f"BatchNorm statistics of {backbone.name} have changed since its pretraining.",
        evidence=f"{len(changed)} of {len(layers)} BatchNorm layers differ from the weights file, "
        f"the first of them {changed[0]}.",
        remedies=(case.again("train again: convscope keeps them frozen", {}),),
        sure="certain",
    )


def _batch_norms(trunk: Any) -> list[Any]:
    import keras

    return [layer for layer in trunk.layers if isinstance(layer, keras.layers.BatchNormalization)]
