"""Units that are zero whatever the image."""

from typing import Any

import numpy as np

from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case

_N_IMAGES = 256
_SHARE = 0.5
"""Of a layer's units. Some are idle on so few images in every network."""
_HARMFUL = 0.9
"""From this share on it is more than a note. The tutorial's CNN learns well with half of a dense
layer dead: 0.71 of the validation images right, and 0.66 with a tenth of the learning rate."""


@TRAPS.register("dead-units")
def dead_units(case: Case) -> Finding | None:
    """Dead units: ReLU outputs that are zero for every image, and so never learn again."""
    import keras

    network = case.network
    # What is inside a backbone is not among them: that a frozen unit is idle is no trap.
    layers = [layer for layer in network.layers if _is_relu(layer)]
    if not layers:
        return None
    probe = keras.Model(network.inputs, [layer.output for layer in layers])
    images = np.ascontiguousarray(case.val_images.images[:_N_IMAGES])
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
    told = ", ".join(f"{n} of {total} in {name}" for name, (n, total) in dead.items())
    evidence = f"Over {len(images)} validation images: {told}."
    if most < _HARMFUL:
        return Finding(
            symptom="Many units are dead: zero for every image, they never learn again.",
            evidence=f"{evidence} The others do the work; networks learn well in spite of it.",
            remedies=(),
            sure="note",
        )
    rate = float(f"{case.config.optimizer.learning_rate / 10:.2g}")
    return Finding(
        symptom="Units are dead: zero for every image, they get no gradient and never come back.",
        evidence=evidence,
        remedies=(case.again("take smaller steps", {"optimizer.learning_rate": rate}),),
        sure="likely",
    )


def _is_relu(layer: Any) -> bool:
    import keras

    if isinstance(layer, keras.layers.ReLU):
        return True
    return getattr(layer, "activation", None) is keras.activations.relu
