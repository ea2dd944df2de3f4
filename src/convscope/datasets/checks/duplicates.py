"""Groups of equal and of nearly equal images in a dataset."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from convscope.datasets.checks.near_copies import NearCopies
from convscope.images.orientation import AS_IT_IS, followed_by, undone


@dataclass(frozen=True)
class NearGroup:
    """Nearly equal images, each to at least one other of the group.

    Attributes:
        places: Indices of the images, ascending.
        ways: Orientation of each relative to the first; 0 for the first.
    """

    places: tuple[int, ...]
    ways: tuple[int, ...]


def equal_groups(keys: Sequence[str]) -> list[list[int]]:
    """Return the indices of equal keys, for each key that occurs more than once.

    Examples:
        >>> equal_groups(["a", "b", "a", "c"])
        [[0, 2]]
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return [group for group in places.values() if len(group) > 1]


def near_groups(found: NearCopies) -> list[NearGroup]:
    """Return connected groups of pairs of near copies, in the order of their first images."""
    beside: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for (first, second), way in zip(found.pairs.tolist(), found.ways.tolist(), strict=True):
        beside[first].append((second, undone(way)))
        beside[second].append((first, way))
    groups = []
    seen: set[int] = set()
    for start in sorted(beside):
        if start in seen:
            continue
        ways: dict[int, int] = {}
        waiting = deque([(start, AS_IT_IS)])
        while waiting:
            place, way = waiting.popleft()
            if place in ways:
                continue
            ways[place] = way
            for other, step in beside[place]:
                if other not in ways:
                    reached = (other, followed_by(way, step))
                    # Images that match in the same orientation are reported in that.
                    if step == AS_IT_IS:
                        waiting.appendleft(reached)
                    else:
                        waiting.append(reached)
        seen |= ways.keys()
        places = sorted(ways)
        groups.append(NearGroup(tuple(places), tuple(ways[place] for place in places)))
    return groups
