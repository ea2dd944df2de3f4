"""Images of any dataset as a source of shards: a folder is decoded file by file, without a pack."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.folder import groups_of, labels_of, left_out, require_few_faults, survey
from convscope.datasets.folders.archives import unpacked
from convscope.datasets.folders.pack import decode_file, n_decoders
from convscope.datasets.sharded.writing import Source, SourcePart
from convscope.errors import ConfigError
from convscope.images.decode import DECODER_VERSION
from convscope.images.fit import Fit
from convscope.progress import Progress
from convscope.types import Dataset, Split, UInt8Array


@contextlib.contextmanager
def source_of(
    place: Mapping[str, Any],
    data_dir: Path | None,
    image_size: int | None,
    fit: Fit,
    progress: Progress,
) -> Iterator[Source]:
    """Yield the images of settings, to be written as shards.

    Args:
        place: Settings `data`, `data_path` and perhaps `labels`.
        data_dir: Further folder to look for the files of a built-in dataset.
        image_size: Side in pixels to which the images of a folder are resized.
        fit: Method for images of another aspect ratio.
        progress: Called with downloads, scanning and notes.

    Raises:
        ConfigError: If the images are in shards.
        DataError: If the folder or the table cannot be used as it is.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    if place["data"] == "shards":
        raise ConfigError(f"{place['data_path']} is in shards already; copy it as it is")
    path = None if place["data_path"] is None else Path(place["data_path"])
    request = DataRequest(path, None, data_dir, image_size, fit, place.get("labels"), progress)
    if path is None:
        yield _of_arrays(DATASETS.get(place["data"])(request))
        return
    with unpacked(path, progress) as root:
        yield _of_folder(root, None if root == path else path, request)


def _of_arrays(dataset: Dataset) -> Source:
    splits: dict[str, Split | None] = {
        "train": dataset.train,
        "val": dataset.val,
        "test": None if dataset.test is None else dataset.test.unjudged(),
    }

    def part_of(split: Split) -> SourcePart:
        return SourcePart(
            split.labels, split.ids, split.files, split.groups, lambda row: split.images[row]
        )

    return Source(
        name=dataset.name,
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        parts={name: part_of(split) for name, split in splits.items() if split is not None},
        provenance=dataset.provenance,
        white=dataset.white,
    )


def _of_folder(root: Path, archive: Path | None, request: DataRequest) -> Source:
    seen = survey(root, archive, request)
    for note in seen.notes:
        request.progress.say(f"{seen.name}: {note}")
    labels, names = labels_of(seen.layout), np.array(seen.layout.names)
    digests = np.array([file.digest[:16] for file in seen.files])
    groups = groups_of(seen.layout)
    white = seen.white

    def part_of(rows: slice) -> SourcePart:
        files = seen.files[rows]

        def pixels(row: int) -> UInt8Array | str:
            return decode_file(
                root,
                files[row],
                size=seen.size,
                channels=seen.channels,
                fit=request.fit,
                white=white,
            )

        of_part = None if groups is None else groups[rows]
        return SourcePart(labels[rows], names[rows], digests[rows], of_part, pixels)

    def check(faults: dict[str, str]) -> None:
        require_few_faults(seen.layout, faults)
        for note in left_out(seen.layout, faults):
            request.progress.say(f"{seen.name}: {note}")

    return Source(
        name=seen.name,
        class_names=seen.layout.class_names,
        image_shape=(*seen.size, seen.channels),
        parts={name: part_of(rows) for name, rows in seen.parts.items()},
        provenance=seen.provenance(np.arange(len(seen.files))),
        white=white,
        decoding=f"{request.fit}, decoder {DECODER_VERSION}",
        n_threads=n_decoders(seen.files),
        check=check,
    )
