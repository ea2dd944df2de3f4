"""What a writing of shards notes beside each of them, so that after a kill the next one goes on."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.datasets.sharded.store import FORMAT, ShardEntry

_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions of zipfile, NumPy and JSON on foreign bytes."""


@dataclass(frozen=True)
class Note:
    """A shard that is written, and what is not in it.

    Attributes:
        shard: Its entry in the index.
        rows: Shape (n_images,), indices of its images in their part.
        hashes: Hash of the pixels of each.
        position: Number of images of the part, in the order of writing, that are done after it.
        faults: Reasons why images since the shard before are in none, by name.
    """

    shard: ShardEntry
    rows: npt.NDArray[np.intp]
    hashes: list[str]
    position: int
    faults: Mapping[str, str]

    def to_bytes(self, plan: str) -> bytes:
        """Return the content of its file.

        Args:
            plan: Hash of all that decides what is in the shards.
        """
        about = {
            "plan": plan,
            "shard": self.shard.model_dump(),
            "position": self.position,
            "faults": dict(self.faults),
        }
        held = io.BytesIO()
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        np.savez(held, about=text, rows=self.rows, hashes=np.array(self.hashes))
        return held.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, plan: str, after: int, n_rows: int) -> "Note | None":
        """Return the note in a file; None if it is of another plan, or damaged.

        Args:
            content: Content of the file.
            plan: As for `to_bytes`.
            after: Position after the shard before.
            n_rows: Number of images of the part.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                about: dict[str, Any] = json.loads(file["about"].tobytes())
                rows, hashes = file["rows"], [str(each) for each in file["hashes"]]
            if about["plan"] != plan:
                return None
            note = cls(
                ShardEntry.model_validate(about["shard"]),
                rows.astype(np.intp),
                hashes,
                int(about["position"]),
                {str(name): str(reason) for name, reason in about["faults"].items()},
            )
        except _DAMAGE:
            return None
        sound = (
            len(note.rows) == len(note.hashes) == note.shard.n_images
            and after + len(note.rows) <= note.position <= n_rows
            and bool(np.isin(note.rows, np.arange(n_rows)).all())
        )
        return note if sound else None


def plan_hash(settings: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any] | None]) -> str:
    """Return the hash of all that decides what is in the shards.

    Args:
        settings: Values that JSON can hold.
        arrays: Names, labels and hashes of the images.
    """
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **settings}, sort_keys=True).encode())
    for name, array in arrays.items():
        if array is not None:
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
