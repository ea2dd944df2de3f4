"""All that training needs to resume as if it had never stopped, in one file.

A snapshot holds every variable of model and optimiser, exactly, and the history so far. It is
written after each epoch, atomically, and is the single source for how far a run has come: other
results of an epoch (the best weights, the table of results) are either written before it, and
rewritten by the repeated epoch, or derived from it.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.errors import RunError
from convscope.npz import require_sound
from convscope.scale.devices import Devices
from convscope.scale.multihost import from_first
from convscope.storage import atomic_path
from convscope.training.filtering import Hardest
from convscope.training.results import ONLY_PHASE
from convscope.wording import first_line

if TYPE_CHECKING:
    import keras

_HISTORY = "history.json"
_HARDEST = "hardest"

# Exceptions of zipfile and NumPy on foreign bytes. RuntimeError: encrypted, or an unknown
# compression; TypeError: a single array in place of an archive.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    TypeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def save_snapshot(
    model: "keras.Model",
    history: list[dict[str, Any]],
    path: Path,
    hardest: Hardest | None = None,
) -> None:
    """Write the state of a compiled model after the last epoch of `history`.

    Args:
        model: Compiled model with a built optimiser.
        history: Row for each finished epoch.
        path: File to replace as a whole.
        hardest: Images that are still trained on, if not all are.

    Raises:
        StorageError: If the file cannot be written; the previous one is then intact.
    """
    with atomic_path(path) as temporary:
        _write(model, history, hardest, temporary)


def shared_snapshot(
    model: "keras.Model", path: Path, devices: Devices, phase: str
) -> Path | bytes | None:
    """Return the snapshot from which all processes of a training start.

    Other processes than the first need not see its files, and get even weights that no epoch of
    this phase has changed from it: drawn on another processor, they could differ in their last
    bits, and those that an earlier phase trained only it has.

    Args:
        model: Compiled model with a built optimiser.
        path: Snapshot of the run, as process 0 sees it; it need not exist.
        devices: Devices of the training.
        phase: Name of the phase of the training.

    Returns:
        The path if there is one process only and the file exists; None if it does not; otherwise
        the content of the file or, if there is none of this phase, that of a snapshot of the
        model as it is in process 0, with the history of the earlier phases.
    """
    if devices.n_processes == 1:
        return path if path.exists() else None
    content = b""
    if devices.is_first:
        history = read_history(path) if path.exists() else []
        if history and history[-1]["phase"] == phase:
            content = path.read_bytes()
        else:
            memory = io.BytesIO()
            _write(model, history, None, memory)
            content = memory.getvalue()
    return from_first(devices, content)


def _write(
    model: "keras.Model", history: list[dict[str, Any]], hardest: Hardest | None, place: Any
) -> None:
    arrays: dict[str, Any] = {f"{index:05d}": value for index, value in enumerate(state_of(model))}
    arrays[_HISTORY] = np.frombuffer(json.dumps(history).encode(), dtype=np.uint8)
    if hardest is not None:
        arrays[_HARDEST] = hardest.as_array()
    # Without `allow_pickle`: NumPy before 2.2 would take it for one more array.
    np.savez(place, **arrays)


def read_history(path: Path | bytes) -> list[dict[str, Any]]:
    """Return the history in a snapshot: a row for each epoch.

    Raises:
        RunError: If the file is damaged.
    """
    return _read(path, with_values=False)[0]


def read_hardest(path: Path | bytes, n_images: int) -> Hardest | None:
    """Return the images that a snapshot's run still trains on; None if those are all.

    Args:
        path: File that `save_snapshot` wrote, or its content.
        n_images: Number of training images.

    Raises:
        RunError: If the file is damaged, or of other images.
    """
    with _opened(path) as file:
        return Hardest.from_array(file[_HARDEST], n_images) if _HARDEST in file.files else None


def load_snapshot(model: "keras.Model", path: Path | bytes) -> list[dict[str, Any]]:
    """Restore the state of a compiled model from a snapshot and return the history.

    Args:
        model: Compiled model with a built optimiser, of the same architecture and optimiser.
        path: File that `save_snapshot` wrote, or its content.

    Raises:
        RunError: If the file is damaged or belongs to another model or optimiser.
    """
    variables = _variables(model)
    history, values = _read(path, with_values=True)
    fits = len(values) == len(variables) and all(
        value.shape == tuple(variable.shape)
        for value, variable in zip(values, variables, strict=True)
    )
    if not fits:
        raise RunError(
            f"the snapshot {_name(path)} belongs to another model or optimizer; train again"
        )
    set_state(model, values)
    return history


def state_of(model: "keras.Model") -> list[Any]:
    """Return the values of all variables of a compiled model and its optimiser, as arrays."""
    return [np.array(variable.numpy()) for variable in _variables(model)]


def set_state(model: "keras.Model", state: list[Any]) -> None:
    """Restore a compiled model and its optimiser to a state that `state_of` returned."""
    for variable, value in zip(_variables(model), state, strict=True):
        variable.assign(value)


def _read(path: Path | bytes, *, with_values: bool) -> tuple[list[dict[str, Any]], list[Any]]:
    with _opened(path) as file:
        history = json.loads(file[_HISTORY].tobytes())
        n_variables = len({*file.files} - {_HISTORY, _HARDEST})
        names = [f"{index:05d}" for index in range(n_variables)]
        values = [file[name] for name in names] if with_values else []
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise RunError(
            f"the snapshot {_name(path)} belongs to another model or optimizer; train again"
        )
    # Older snapshots have no phases.
    return [{**row, "phase": row.get("phase", ONLY_PHASE)} for row in history], values


@contextmanager
def _opened(path: Path | bytes) -> Iterator[Any]:
    try:
        # Plain arrays only: a snapshot from elsewhere cannot run code here.
        with io.BytesIO(path) if isinstance(path, bytes) else path.open("rb") as stream:
            require_sound(stream)
            with np.load(stream, allow_pickle=False) as file:
                yield file
    except _DAMAGE as error:
        reason = first_line(error)
        raise RunError(f"the snapshot {_name(path)} is damaged ({reason}); train again") from None


def _name(path: Path | bytes) -> Path | str:
    return "from process 0" if isinstance(path, bytes) else path


def _variables(model: "keras.Model") -> list[Any]:
    # `variables`, not `weights`: the states of random layers (dropout, augmentation) count too.
    return [*model.variables, *model.optimizer.variables]
