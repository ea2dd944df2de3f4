"""The plan of a ladder: the recipe of each rung, and its change in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convscope.effects import idle_settings, require_effect, require_effect_somewhere
from convscope.errors import UnknownNameError
from convscope.models.backbones import Backbone
from convscope.models.preprocessing import RANGES
from convscope.recipe import RunConfig, resolve
from convscope.recipes import RECIPES
from convscope.studies.ladder.rungs import BETTER_HEAD, Rung

_TUTORIAL_SIZE = 32


@dataclass(frozen=True)
class RungPlan:
    """The training of one rung.

    Attributes:
        rung: Description of the rung, without results.
        recipe: Name of the recipe.
        settings: Differences from the recipe by dotted name.
        config: Both, resolved.
    """

    rung: Rung
    recipe: str
    settings: dict[str, Any]
    config: RunConfig


def plan_ladder(
    backbone: Backbone,
    *,
    seed: int,
    sizes: Sequence[int],
    of_data: Mapping[str, Any],
    settings: Mapping[str, Any],
    until: str | None = None,
) -> list[RungPlan]:
    """Return the rungs from the tutorial's transfer learning to fine-tuning, on registered recipes.

    Args:
        backbone: Backbone of all rungs.
        seed: Seed of every rung.
        sizes: Image sides in pixels to go through; those of the first rung are left out.
        of_data: Default settings of the dataset; see `datasets.settings_of`.
        settings: Settings of every rung by dotted name; they override the rung's own.
        until: Name of the last rung; None takes all.

    Raises:
        UnknownNameError: If there is no such setting or rung.
        ConfigError: If a value is not allowed, or has no effect in any rung.
    """
    base = max(_TUTORIAL_SIZE, backbone.smallest_size)
    larger = sorted({size for size in sizes if size > base})
    last = larger[-1] if larger else base
    steps: list[RungPlan] = []
    idle: list[dict[str, str]] = []

    def add(kind: str, name: str, cause: str, recipe: str, own: Mapping[str, Any]) -> None:
        chosen = {**own, **settings}
        if recipe != "finetune":
            # In the rungs before, everything is frozen.
            chosen.pop("backbone.cut", None)
        about = {"model": backbone.name, "recipe": recipe, "seed": seed}
        defaults = RECIPES.get(recipe)()
        asked = resolve(defaults, of_data, about, chosen)
        # A setting may be meant for some rungs; where it has no effect it is omitted.
        idle.append(idle_settings(asked, defaults, backbone=True))
        chosen = {key: value for key, value in chosen.items() if key not in idle[-1]}
        config = resolve(defaults, of_data, about, chosen)
        require_effect(config, defaults, backbone=True)
        before = steps[-1].config if steps else None
        number = len(steps) + 1
        run = f"rungs/{number:02}-{name.replace(' ', '-')}"
        change = _change(kind, config, before, backbone)
        steps.append(
            RungPlan(
                Rung(number, name, change, cause, own["image_size"], run, kind=kind),
                recipe,
                chosen,
                config,
            )
        )

    # At 32 px the last feature map is a single pixel, and pooling is the same as flattening; on
    # larger ones flattening would make a head of millions of weights.
    tutorial: dict[str, Any] = {"image_size": base, "head.pooling": "avg"}
    add("start", "as the tutorial", "the start", "tutorial-transfer", tutorial)
    tutorial["backbone.scaling"] = "own"
    add("scaling", "own scaling", "own scaling", "tutorial-transfer", tutorial)
    for size in larger:
        tutorial["image_size"] = size
        add("size", f"{size} px", f"{size} px instead of {base}", "tutorial-transfer", tutorial)
    tutorial["head.standardise"] = True
    standardised = "standardised features"
    add("standardise", standardised, standardised, "tutorial-transfer", tutorial)

    add("head", BETTER_HEAD, "a better head", "probe", {"image_size": last})
    cut = settings.get("backbone.cut", RECIPES.get("finetune")().backbone.cut)
    tuned = _tuned(backbone.cut_at(cut), backbone)
    add(
        "tune",
        f"{tuned} fine-tuned",
        f"fine-tuning the {tuned} (recipe finetune)",
        "finetune",
        {"image_size": last},
    )
    if until is not None:
        names = [step.rung.name for step in steps]
        if until not in names:
            raise UnknownNameError("rung", until, names)
        n_rungs = names.index(until) + 1
        steps, idle = steps[:n_rungs], idle[:n_rungs]
    require_effect_somewhere(settings, idle)
    return steps


def _change(kind: str, config: RunConfig, before: RunConfig | None, backbone: Backbone) -> str:
    scaling = backbone.scaling if config.backbone.scaling == "own" else config.backbone.scaling
    pixels = f"pixels {RANGES[scaling]}"
    if before is None:
        return f"{config.image_size} px, {pixels}, head {_head(config)}"
    if kind == "scaling":
        return f"{pixels}, as in pretraining"
    if kind == "size":
        return f"instead of {before.image_size} px"
    if kind == "standardise":
        return "each feature with mean 0 and standard deviation 1"
    if kind == "head":
        optimizer = f"{config.optimizer.name}, {config.schedule.name} rate"
        return f"head {_head(config)}, {optimizer}, batch {config.batch_size}"
    cut = backbone.cut_at(config.backbone.cut)
    words = "whole backbone trained" if cut == "start" else f"trained after {cut}"
    words += "; mirrored" if config.augment.flip else ""
    return words + (", soft labels" if config.label_smoothing else "")


def _head(config: RunConfig) -> str:
    if config.head.search:
        return "searched"
    return "-".join(map(str, config.head.hidden)) or "linear"


def _tuned(cut: str, backbone: Backbone) -> str:
    """Return the trained part behind a cut: "last stage", "last 2 stages", "whole backbone"."""
    if cut == "start":
        return "whole backbone"
    stages = list(backbone.stages)
    if cut not in stages[:-1]:
        return f"part after {cut}"
    n_after = len(stages) - 1 - stages.index(cut)
    return "last stage" if n_after == 1 else f"last {n_after} stages"
