"""Units whose output is zero for every image."""

from typing import Any

import numpy as np

from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case
from convscope.models.structure import model_of
from convscope.types import evenly_spread

_N_IMAGES = 256
_SHARE = 0.5
"""Share of a layer's units. In every network some are idle on so few images."""
_HARMFUL = 0.9
"""Share from which it is more than a note. The tutorial's CNN trains well with half of a dense
layer dead: 0.71 validation accuracy, and 0.66 with a tenth of the learning rate."""


@TRAPS.register("dead-units")
def dead_units(case: Case) -> Finding | None:
    """Dead units: ReLU outputs that are zero for every image and get no gradient."""
    network = case.network
    # Layers inside a backbone are left out: an idle frozen unit is no trap.
    layers = [layer for layer in network.layers if _is_relu(layer)]
    if not layers:
        return None
    probe = model_of(network.inputs, [layer.output for layer in layers])
    # They may be in the order of their classes.
    rows = evenly_spread(len(case.val_images), _N_IMAGES)
    images = np.ascontiguousarray(case.val_images.images[rows])
    outputs: Any = probe.predict_on_batch(images)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    dead, most = {}, 0.0
    for layer, output in zip(layers, outputs, strict=True):
        values = np.asarray(output, dtype=np.float32)
        # (batch, rows, columns, units) or (batch, units)
        idle = values.max(axis=tuple(range(values.ndim - 1))) <= 0
        if idle.mean() >= _SHARE:
            dead[layer.name] = (int(idle.sum()), len(idle))
            most = max(most, float(idle.mean()))
    if not dead:
        return None
    shares = ", ".join(f"{n} of {total} in {name}" for name, (n, total) in dead.items())
    evidence = f"Over {len(images)} validation images: {shares}."
    if most < _HARMFUL:
        return Finding(
            symptom="Many units are dead: zero for every image, without a gradient.",
            evidence=f"{evidence} The others do the work; networks often train well regardless.",
            remedies=(),
            sure="note",
        )
    return Finding(
        symptom="Units are dead: zero for every image, without a gradient to revive them.",
        evidence=evidence,
        remedies=(case.other_rate(0.1),),
        sure="likely",
    )


def _is_relu(layer: Any) -> bool:
    import keras

    if isinstance(layer, keras.layers.ReLU):
        return True
    return getattr(layer, "activation", None) is keras.activations.relu
