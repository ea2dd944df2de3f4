"""Features of a backbone from the maps of several of its stages."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

_LEAST_VARIANCE = 1e-6


def pooled_maps(
    trunk: "keras.Model", names: Sequence[str], learning: Collection[str]
) -> tuple[Any, list[Any]]:
    """Return means and standard deviations of the earlier maps, and means of the last one.

    Args:
        trunk: Functional model.
        names: Layers whose outputs, (batch, rows, columns, features), are pooled, in the order of
            the data.
        learning: Those of them that are not in the frozen part; the last is among them.

    Returns:
        Output of the trunk's graph with all features, (batch, n_features): all means before all
        deviations, and those of the frozen part before those of the other, whatever is frozen. And
        two outputs, means and deviations of the frozen part; none if none is frozen.
    """
    import keras

    *earlier, last = names
    frozen = _moments(trunk, [name for name in earlier if name not in learning], "frozen_")
    others = _moments(trunk, [name for name in earlier if name in learning], "")
    pooled = frozen or others
    if frozen and others:
        pooled = [frozen[0], others[0], frozen[1], others[1]]
    mean_of_last = _mean(trunk.get_layer(last).output, last)
    if not pooled:
        return mean_of_last, frozen
    return keras.layers.Concatenate(name="stages")([*pooled, mean_of_last]), frozen


def pooled_parts(
    trunk: "keras.Model", parts: Sequence[Sequence[str]], widths: Sequence[int]
) -> Any:
    """Return the features of networks side by side, of each as `pooled_maps` has them.

    Args:
        trunk: Functional model; its output has the channels of the last maps side by side.
        parts: For each network, the layers whose outputs are pooled; the last is its last map.
        widths: Channels of each last map.

    Returns:
        Output of the trunk's graph, (batch, n_features), all features of a network before those of
        the next.
    """
    import keras

    # From the joined map: what explains an answer by the last map then sees all of them.
    mean = _mean(trunk.output, trunk.layers[-1].name)
    features, start = [], 0
    for index, (names, width) in enumerate(zip(parts, widths, strict=True)):
        features += _moments(trunk, names[:-1], f"part{index + 1}_")
        features.append(mean[:, start : start + width])
        start += width
    return keras.layers.Concatenate(name="stages")(features)


def _moments(trunk: "keras.Model", names: Sequence[str], prefix: str) -> list[Any]:
    """Return means and standard deviations of maps, (batch, n_features) each; or nothing."""
    import keras

    if not names:
        return []
    maps = {name: trunk.get_layer(name).output for name in names}
    of_maps = {
        "means": [_mean(each, name) for name, each in maps.items()],
        "mean_squares": [
            _mean(keras.ops.square(each), f"square_{name}") for name, each in maps.items()
        ],
    }
    means, mean_squares = (
        keras.layers.Concatenate(name=f"{prefix}{name}")(each) if len(each) > 1 else each[0]
        for name, each in of_maps.items()
    )
    variances = keras.ops.relu(mean_squares - keras.ops.square(means))
    # A root of zero has no derivative.
    return [means, keras.ops.sqrt(variances + _LEAST_VARIANCE)]


def _mean(of: Any, name: str) -> Any:
    import keras

    return keras.layers.GlobalAveragePooling2D(name=f"mean_{name}")(of)
