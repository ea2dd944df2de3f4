"""Check of an HDF5 file of weights against the network that needs them.

Keras writes two layouts. The older one (".h5") lists layers and their arrays by name in attributes;
the newer one (".weights.h5") keeps them in nested groups. Keras refuses most files that do not
match, but only while it assigns them, and it ignores superfluous arrays.
"""

import contextlib
import io
import itertools
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.errors import DataError, RunError

if TYPE_CHECKING:
    import keras

_N_IMAGENET = 1000


def check_fits(path: Path, trunk: "keras.Model", name: str) -> None:
    """Check that a file holds finite weights for exactly this network; nothing is changed.

    Args:
        path: HDF5 file.
        trunk: Network that the weights are for.
        name: Name of the network, for messages.

    Raises:
        DataError: If the file is not HDF5, is damaged, holds something other than numbers, the
            weights of another network, or values that are not finite.
    """
    with _opened(path) as file:
        legacy = _is_legacy(file)
        if not legacy and "layers" not in file:
            raise DataError(f"{path} holds no weights of a Keras network")
        suffix = ".h5" if legacy else ".weights.h5"
        if path.name.endswith(".weights.h5") == legacy or not path.name.endswith(".h5"):
            # Keras distinguishes the layouts by the name alone.
            raise DataError(
                f"the name of {path} must end in '{suffix}' to match its layout; rename it"
            )
        arrays = list(_legacy_arrays(file) if legacy else _arrays(file))
        _check_shapes(path, arrays, trunk, name)
        if _leads_outside(file):
            raise DataError(f"{path} cannot be used: it links to another file")
        for array in arrays:
            if array.dtype.kind == "f" and not np.isfinite(array[()]).all():
                raise DataError(
                    f"{path} cannot be used: '{array.name}' has values that are not finite"
                )


def require_own_values(path: Path) -> None:
    """Check that a saved model holds its own weights and layers, as not every Keras does.

    Keras 3.12.0 follows links to other files; 3.12.0, 3.13.0 and 3.13.1 load a SavedModel, which
    can run code, for a `TFSMLayer`, in safe mode too.

    Args:
        path: `.keras` file, a zip archive with HDF5 files and `config.json` in it.

    Raises:
        RunError: If weights or layers are in other files.
        Exception: Any kind of exception, if the file is damaged.
    """
    import h5py

    with zipfile.ZipFile(path) as archive:
        # Written anew, since letters may be spelled as \u0054.
        if "TFSMLayer" in json.dumps(json.loads(archive.read("config.json"))):
            raise RunError("a layer of it (TFSMLayer) is in another file, which could run code")
        for member in archive.namelist():
            if not member.endswith(".h5"):
                continue
            with h5py.File(io.BytesIO(archive.read(member)), "r") as file:
                if _leads_outside(file):
                    raise RunError("its weights are in another file, which could be any of yours")


def _leads_outside(file: Any) -> bool:
    """Return whether anything in an HDF5 file is a link, or an array kept in another file."""
    import h5py

    def visit(name: str, link: Any) -> bool | None:
        item = file[name] if isinstance(link, h5py.HardLink) else None
        own = isinstance(item, h5py.Group) or (
            isinstance(item, h5py.Dataset) and not (item.is_virtual or item.external)
        )
        return None if own else True  # True ends the walk

    return bool(file.visititems_links(visit))


def is_whole(path: Path) -> bool:
    """Return whether a file is HDF5 and not truncated."""
    try:
        with _opened(path):
            return True
    except DataError:
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        if not h5py.is_hdf5(path):
            raise DataError(
                f"{path} is not an HDF5 file, so it holds no weights that Keras can load"
            )
        with h5py.File(path, "r") as file:
            yield file
    # What h5py raises for wrong bytes depends on the bytes.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is truncated or damaged; download it again") from error


def _is_legacy(file: Any) -> bool:
    # A whole model in the older layout has its weights one level down.
    return bool({"layer_names", "layer_names0"} & set(file.attrs)) or "model_weights" in file


def _legacy_arrays(file: Any) -> Iterator[Any]:
    root = file.get("model_weights", file)
    for layer in _names(root, "layer_names"):
        group = _inside(root, layer)
        for weight in _names(group, "weight_names"):
            yield _inside(group, weight)


def _inside(group: Any, path: str) -> Any:
    """Return the item at a path; links, which may lead into other files, are not followed."""
    import h5py

    for part in path.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise KeyError(path)
        group = group[part]
    return group


def _names(group: Any, attribute: str) -> list[str]:
    """Return a list of names; long lists are spread over numbered attributes."""
    parts = [attribute]
    if attribute not in group.attrs:
        numbered = (f"{attribute}{i}" for i in itertools.count())
        parts = list(itertools.takewhile(lambda part: part in group.attrs, numbered))
    names = (name for part in parts for name in group.attrs[part])
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _arrays(file: Any) -> Iterator[Any]:
    import h5py

    found: list[Any] = []

    def visit(name: str, item: Any) -> None:
        # The optimizer's state and the random numbers of dropout are not weights.
        inside = name.startswith(("layers/", "vars/")) and "seed_generator/" not in name
        if inside and isinstance(item, h5py.Dataset):
            found.append(item)

    file.visititems(visit)
    yield from found


def _check_shapes(path: Path, arrays: list[Any], trunk: "keras.Model", name: str) -> None:
    for array in arrays:
        if array.dtype.kind not in "fiu":
            raise DataError(f"{path} cannot be used: '{array.name}' does not hold numbers")
    has = Counter(tuple(array.shape) for array in arrays)
    needs = Counter(tuple(weight.shape) for weight in trunk.weights)
    missing, extra = needs - has, has - needs
    if not missing and not extra:
        return
    if not missing and any(len(shape) == 2 or shape[-1:] == (_N_IMAGENET,) for shape in extra):
        raise DataError(
            f"{path} holds {name} with its classifier; use the file without it, whose name has "
            "'notop' or 'no_top'"
        )
    raise DataError(
        f"{path} holds the weights of another network than {name}: {sum(has.values())} arrays, of "
        f"which {sum(extra.values())} do not match; {name} has {sum(needs.values())}"
    )
