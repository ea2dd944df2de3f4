"""Search spaces: the settings that a search varies, and the values of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from convscope.errors import ConfigError
from convscope.recipe import UNREADABLE_YAML, flat, setting_names, value_of
from convscope.recipes import RECIPES
from convscope.registry import listed

_FORMS = "LOW..HIGH, LOW..HIGH:log, or values such as 32,64,128"


@dataclass(frozen=True)
class Interval:
    """Numbers between two bounds, both included.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        log: Whether factors matter rather than differences, as for learning rates.
        whole: Whether only whole numbers count.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def stored(self, value: Any) -> Any:
        """Return what stands for a value in a database: itself."""
        return value

    def value_of(self, stored: Any) -> Any:
        """Return the value that `stored` stands for."""
        return stored

    def __contains__(self, value: object) -> bool:
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
        values: Values, at least two; as the setting holds them.
    """

    values: tuple[Any, ...]

    def stored(self, value: Any) -> Any:
        """Return what stands for a value in a database: itself, or text for a list."""
        return value if isinstance(value, str | bool | int | float | None) else str(value)

    def value_of(self, stored: Any) -> Any:
        """Return the value that `stored` stands for."""
        return next(value for value in self.values if self.stored(value) == stored)

    def __contains__(self, value: object) -> bool:
        return value in self.values


Space = Mapping[str, Interval | Choice]
"""Values by dotted name of a setting."""


def parse_values(key: str, text: str | Iterable[Any]) -> Interval | Choice:
    """Return the values that a text names.

    Args:
        key: Dotted name of the setting.
        text: "LOW..HIGH", "LOW..HIGH:log", or values separated by commas; or a list of values.

    Examples:
        >>> parse_values("optimizer.learning_rate", "0.001..0.1:log")
        Interval(low=0.001, high=0.1, log=True, whole=False)
        >>> parse_values("augment.flip", "false,true")
        Choice(values=(False, True))

    Raises:
        ConfigError: If it is neither, or the bounds are not in order.
    """
    if key not in setting_names():
        raise ConfigError(
            f"--space {key}: there is no such setting; see 'convscope recipes show NAME'"
        )
    if not isinstance(text, str):
        given = listed(text)
        return _choice(key, [value_of(key, value) for value in given], str(given))
    bounds, _, scale = text.partition(":")
    low, dots, high = bounds.partition("..")
    if not dots:
        try:
            values = [value_of(key, value) for value in yaml.safe_load(f"[{text}]")]
        except UNREADABLE_YAML:
            raise ConfigError(f"--space {key}={text}: give {_FORMS}") from None
        return _choice(key, values, text)
    try:
        ends = float(low), float(high)
    except ValueError:
        raise ConfigError(f"--space {key}={text}: give {_FORMS}") from None
    ends = value_of(key, ends[0]), value_of(key, ends[1])
    if isinstance(ends[0], bool):
        raise ConfigError(f"--space {key}={text}: it is on or off; give false,true")
    found = Interval(*ends, scale == "log", all(type(end) is int for end in ends))
    if scale not in ("", "log"):
        raise ConfigError(f"--space {key}={text}: '{scale}' is no scale; the only one is log")
    if not found.low < found.high:
        raise ConfigError(f"--space {key}={text}: the first bound must be below the second")
    if found.log and found.low <= 0:
        raise ConfigError(f"--space {key}={text}: bounds on a log scale must be above 0")
    return found


def _choice(key: str, values: Sequence[Any], text: str) -> Choice:
    if len(values) < 2 or len({repr(value) for value in values}) < len(values):
        raise ConfigError(f"--space {key}={text}: name two or more different values")
    return Choice(tuple(values))


def space_of(recipe: str, given: Mapping[str, str | Iterable[Any]]) -> Space:
    """Return the search space that was asked for, or the recipe's own.

    Args:
        recipe: Registered recipe.
        given: Values by dotted name, as texts or lists; without any, those that stand beside the
            recipe.

    Raises:
        ConfigError: If a text is wrong, or the recipe has no space of its own.
    """
    texts = given or RECIPES.entry(recipe).info.get("space")
    if not texts and RECIPES.get(recipe)().head.logistic:
        raise ConfigError(
            f"{recipe} has nothing to tune: its penalty is chosen by cross-validation; use "
            "--recipe finetune-photos"
        )
    if not texts:
        raise ConfigError(
            f"the recipe '{recipe}' has no search space; name settings, such as "
            "--space optimizer.learning_rate=0.0001..0.01:log"
        )
    return {key: parse_values(key, text) for key, text in texts.items()}


def settings_at(space: Space, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return where nested settings lie in a space; None if they lie outside.

    Args:
        space: Search space.
        settings: Settings of a run.
    """
    values = flat(settings)
    found = {key: values[key] for key in space}
    return found if all(found[key] in space[key] for key in space) else None
