"""What the explorer's page holds: the steps of a network, their weights, and the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from convscope.explorer.packing import pack_bytes, pack_floats
from convscope.explorer.trace import Step, trace
from convscope.images.fit import Fit
from convscope.types import UInt8Array

if TYPE_CHECKING:
    import keras

    from convscope.explorer.arithmetic import Arithmetic
    from convscope.models.geometry import LayerGeometry

LARGEST_COMPUTED = 3_000_000
"""Bytes of weights up to which the page gets all of them and computes the network itself."""

_MOST_MULTIPLY_ADDS = 200_000_000
"""Multiply-adds that a browser computes in about a second."""


@dataclass
class Payload:
    """Contents of a page.

    Attributes:
        document: Everything but arrays, as JSON has it; arrays are numbers of `blobs`.
        blobs: Arrays as text, see `packing`.
    """

    document: dict[str, Any]
    blobs: list[str] = field(default_factory=list)

    def add(self, packed: str) -> int:
        """Add an array and return its number."""
        self.blobs.append(packed)
        return len(self.blobs) - 1


@dataclass(frozen=True)
class Subject:
    """Subject of a page, beside the network.

    Attributes:
        run: Name of the run.
        model: Registered name of the model.
        file: Name of the image file.
        class_names: Name of each class.
        answer: Sentence on the answer of `predict`, where it is computed from more than the image
            as it is; may be empty.
        thresholds: Least probability, by the network itself, of each class that is part of an
            answer, where an image may have any number of classes; None where it has exactly one.
        stages: Name of each stage of a backbone, and of the layer that ends it; empty for others.
        fit: Method of fitting images of another aspect ratio.
    """

    run: str
    model: str
    file: str
    class_names: Sequence[str]
    answer: str = ""
    thresholds: Sequence[float] | None = None
    stages: Mapping[str, str] = field(default_factory=dict)
    fit: Fit = "squash"


@dataclass(frozen=True)
class _Sketch:
    """A step without its values."""

    name: str
    kind: str
    sources: tuple[int, ...]
    input_shapes: list[tuple[int, ...]]
    shape: tuple[int, ...]
    arithmetic: "Arithmetic"


def build_payload(network: "keras.Model", image: UInt8Array, subject: Subject) -> Payload:
    """Return the contents of the page of a network and an image.

    The page of a small network gets all weights and computes it for any image. That of a large one
    gets the outputs for this image, see `given`.

    Args:
        network: Built network in any style, from raw pixels to probabilities.
        image: Shape (height, width, channels), uint8.
        subject: Subject of the page.
    """
    from convscope.models.geometry import geometry

    sketches: list[_Sketch] = []
    probs = trace(network, image, lambda step: sketches.append(_sketch(step)))
    # Layers used twice have two entries; the arithmetic of both is the same.
    sheet = geometry(network)
    rows = {row.name: row for row in sheet}
    computed = can_be_computed(sketches, sheet)
    payload = Payload(
        {
            "run": subject.run,
            "model": subject.model,
            "file": subject.file,
            "classes": list(subject.class_names),
            "answer": subject.answer,
            "thresholds": None if subject.thresholds is None else list(subject.thresholds),
            "fit": subject.fit,
            "probs": [float(p) for p in probs],
            "computed": computed,
        }
    )
    payload.document["image"] = {"shape": list(image.shape), "blob": payload.add(pack_bytes(image))}
    entries = [_described(each, rows.get(each.name)) for each in sketches]
    payload.document["steps"] = entries
    if computed:
        for each, entry in zip(sketches, entries, strict=True):
            entry["weights"] = {
                name: {"shape": list(values.shape), "blob": payload.add(pack_floats(values))}
                for name, values in each.arithmetic.weights.items()
            }
    else:
        _add_outputs(payload, network, image, sketches)
        for entry, stage in zip(entries, _stages(sketches, subject.stages), strict=True):
            entry["stage"] = stage
    return payload


def _add_outputs(
    payload: Payload, network: "keras.Model", image: UInt8Array, sketches: list[_Sketch]
) -> None:
    from convscope.explorer.given import choose_detail, given_step

    detail = choose_detail([(each.arithmetic, each.input_shapes, each.shape) for each in sketches])
    waiting = iter(zip(sketches, payload.document["steps"], strict=True))

    def keep(step: Step) -> None:
        sketch, entry = next(waiting)
        entry.update(
            given_step(
                step,
                sketch.arithmetic,
                detail,
                lambda values: payload.add(pack_floats(values)),
                lambda values: payload.add(pack_bytes(values)),
            )
        )

    trace(network, image, keep)


def _stages(sketches: Sequence[_Sketch], stages: Mapping[str, str]) -> list[str]:
    """Return the stage of each step; "" for those around the backbone.

    Args:
        sketches: Steps in the order of the data.
        stages: Name of each stage, and of the layer (or model) inside the backbone that ends it.
    """
    found = [""] * len(sketches)
    last = {part: i for i, each in enumerate(sketches) for part in each.name.split("/")}
    if not stages or any(end not in last for end in stages.values()):
        return found
    inside = sketches[last[next(iter(stages.values()))]].name.split("/")[0] + "/"
    start = next(i for i, each in enumerate(sketches) if each.name.startswith(inside))
    for name, end in stages.items():
        for i in range(start, last[end] + 1):
            found[i] = name
        start = last[end] + 1
    return found


def can_be_computed(sketches: Sequence[_Sketch], sheet: "Sequence[LayerGeometry]") -> bool:
    """Return whether a page can hold all weights and compute all steps."""
    n_bytes = 4 * sum(w.size for each in sketches for w in each.arithmetic.weights.values())
    known = all(each.arithmetic.op != "other" for each in sketches)
    work = sum(row.multiply_adds for row in sheet)
    return known and n_bytes <= LARGEST_COMPUTED and work <= _MOST_MULTIPLY_ADDS


def _sketch(step: Step) -> _Sketch:
    from convscope.explorer.arithmetic import arithmetic
    from convscope.models.structure import kind_of

    shapes = [tuple(x.shape[1:]) for x in step.inputs]
    return _Sketch(
        step.name,
        kind_of(step.operation),
        step.sources,
        shapes,
        tuple(step.output.shape[1:]),
        arithmetic(step.operation, shapes),
    )


def _described(sketch: _Sketch, row: "LayerGeometry | None") -> dict[str, Any]:
    how = sketch.arithmetic
    return {
        "name": sketch.name,
        "kind": sketch.kind,
        "op": how.op,
        "settings": how.settings,
        "activation": how.activation,
        "sources": list(sketch.sources),
        "shape": list(sketch.shape),
        "params": sum(prod(w.shape) for w in how.weights.values()),
        "multiplyAdds": row.multiply_adds if row else 0,
    }
