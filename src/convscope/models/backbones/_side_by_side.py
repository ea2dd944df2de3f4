"""Several backbones on the same image, as one: their last maps side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convscope.models.backbones import Backbone, WeightsFile

if TYPE_CHECKING:
    import keras

_MAPS = "maps"


def side_by_side(
    name: str, parts: Sequence[Backbone], *, family: str, native_size: int
) -> Backbone:
    """Return the backbone whose last map has the channels of all last maps of others.

    It costs what they cost together. With a linear head each part gets a head of its own, and the
    answer is the mean of theirs: networks that were trained apart err in different images.

    Args:
        name: Name that users type.
        parts: Backbones with the same scaling whose last maps have the same size.
        family: Family that it belongs to.
        native_size: Side in pixels for which it is meant.
    """
    best = max(parts, key=lambda part: part.top1)
    sizes = set.intersection(*(set(part.multiply_adds) for part in parts))
    return Backbone(
        name=name,
        family=family,
        paper=best.paper,
        build=_Builder(name, parts),
        scaling=best.scaling,
        native_size=native_size,
        smallest_size=max(part.smallest_size for part in parts),
        sensible_size=max(part.sensible_size for part in parts),
        n_params=sum(part.n_params for part in parts),
        n_features=sum(part.n_features for part in parts),
        multiply_adds={
            side: sum(part.multiply_adds[side] for part in parts) for side in sorted(sizes)
        },
        top1=best.top1,
        top1_source=f"of {best.name} alone: {best.top1_source}",
        weights=WeightsFile(
            name=" and ".join(part.weights.name for part in parts),
            package=" ".join(part.weights.package for part in parts),
        ),
        stages={"all": _MAPS},
        parts=tuple(parts),
    )


class _Builder:
    """Builds the network from (height, width, 3); the sides may be None."""

    def __init__(self, name: str, parts: Sequence[Backbone]) -> None:
        self._name = name
        self._parts = parts

    def __call__(self, shape: tuple[int, int, int]) -> "keras.Model":
        import keras

        from convscope.models.structure import run_graph

        image = keras.Input(shape)
        maps = []
        for part in self._parts:

            def named_after_part(layer: Any, args: Any, kwargs: Any, part: str = part.name) -> Any:
                config = layer.get_config() | {"name": f"{part}_{layer.name}"}
                return type(layer).from_config(config)(*args, **kwargs)

            maps.append(run_graph(part.build(shape), [image], named_after_part))
        return keras.Model(image, keras.layers.Concatenate(name=_MAPS)(maps), name=self._name)
