"""Labelled images in one set, to evaluate a model on: nothing is learnt from them."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.datasets.folder import groups_of, ignored, left_out, require_few_faults
from convscope.datasets.folders.archives import unpacked
from convscope.datasets.folders.contents import read_contents
from convscope.datasets.folders.layout import Layout
from convscope.datasets.folders.scan import scan_files
from convscope.datasets.source import load_undivided
from convscope.errors import DataError
from convscope.progress import Progress
from convscope.types import Dataset, Images, Labels, Split, classes_of
from convscope.wording import quoted

_ONLY_IN_TRAINING = {"single-class", "empty-class", "classes-differ", "constant-class"}
"""Problems of a folder that keep nobody from evaluating a model on its images."""


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images of all parts of some data, in one set.

    Attributes:
        name: Name of the data.
        images: Image files, or pixels as in `Split` where the data holds those.
        classes: Names of the classes of each image.
        ids: Shape (n_images,), names of the images, as in `Split`.
        source_hashes: Sixteen hex digits that identify the source of each image, as in `Split`.
        groups: Groups of the images, as in `Split`.
        multi_label: Whether an image may have any number of classes, not exactly one.
        layout: Contents of the folder, if it is one.
        faults: Reason why an image of the folder was left out, by file name.
    """

    name: str
    images: list[Path] | Images
    classes: list[tuple[str, ...]]
    ids: npt.NDArray[np.str_]
    source_hashes: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_] | None
    multi_label: bool
    layout: Layout | None = None
    faults: dict[str, str] = field(default_factory=dict)

    def labels_for(self, class_names: tuple[str, ...], *, multi_label: bool) -> Labels:
        """Return the labels of the images for a model, whose classes have the same names.

        Args:
            class_names: Names in the order of the model's outputs.
            multi_label: Whether an image may have any number of classes for the model.

        Raises:
            DataError: If the model does not know a class, or images have exactly one class for one
                of the two and any number for the other.
        """
        index_of = {name: index for index, name in enumerate(class_names)}
        if unknown := sorted({name for each in self.classes for name in each} - index_of.keys()):
            raise DataError(
                f"{self.name} has images of {quoted(unknown)}, which the model does not know; its "
                f"classes are {quoted(class_names, most=20)}: call the same class the same, or "
                "leave those images out"
            )
        if self.multi_label and not multi_label:
            raise DataError(
                f"images of {self.name} may have several classes, and the model names exactly one"
            )
        if multi_label and not self.multi_label:
            raise DataError(
                f"images of {self.name} have exactly one class each, and the model names any "
                "number; name a table of all their classes, --labels TABLE, or "
                "TABLE:multi_label=yes where each has one"
            )
        labels = np.zeros((len(self.classes), len(class_names)), np.uint8)
        for row, names in enumerate(self.classes):
            labels[row, [index_of[name] for name in names]] = 1
        return labels if self.multi_label else labels.argmax(axis=1)

    def say_left_out(self, faults: dict[str, str], progress: Progress) -> None:
        """Say which images cannot be read.

        Args:
            faults: Reason why an image could not be read, by file name, beside those known before.
            progress: Called with a line.

        Raises:
            DataError: If it is more than a tenth of a class.
        """
        if self.layout is not None:
            every = self.faults | faults
            require_few_faults(self.layout, every)
            for note in left_out(self.layout, every):
                progress.say(f"{self.name}: {note}")


@contextlib.contextmanager
def open_labelled(
    place: Mapping[str, Any], data_dir: Path | str | None, progress: Progress
) -> Iterator[LabelledImages]:
    """Yield the labelled images of settings, those of all parts together.

    Args:
        place: Settings `data`, `data_path` and perhaps `labels`, as `data_settings` returns them.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with downloads, scanning and notes.

    Raises:
        DataError: If the folder or the table cannot be used as it is.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    if place["data"] != "folder":
        dataset = load_undivided(place, data_dir, progress, image_size=None, fit="squash")
        yield _of_parts(dataset)
        return
    path = Path(place["data_path"])
    with unpacked(path, progress) as root:
        archive = None if root == path else path
        layout = read_contents(root, place.get("labels"), archive)
        yield _of_folder(root, layout, progress)


def _of_parts(dataset: Dataset) -> LabelledImages:
    parts = [dataset.train, *([dataset.val] if dataset.val else [])]
    if dataset.test is not None:
        # Whoever evaluates a model on them logs that, as on any images with labels.
        parts.append(dataset.test.unjudged())
    whole = Split.joined(parts)
    names = dataset.class_names
    return LabelledImages(
        name=dataset.name,
        images=whole.images,
        classes=[tuple(names[index] for index in classes_of(label)) for label in whole.labels],
        ids=whole.ids,
        source_hashes=np.array(whole.source_hashes),
        groups=whole.groups,
        multi_label=dataset.multi_label,
    )


def _of_folder(root: Path, layout: Layout, progress: Progress) -> LabelledImages:
    for problem in layout.problems:
        if problem.kind not in _ONLY_IN_TRAINING:
            raise DataError(problem.message)
    name = root.resolve().name or "images"
    several = len(layout.parts) > 1
    together = [f"its parts {quoted(layout.parts)} are taken together"] if several else []
    for note in (*ignored(layout), *together):
        progress.say(f"{name}: {note}")
    classes: list[tuple[str, ...]]
    if layout.labels_of is None:
        classes = [
            (of_class,)
            for of_part in layout.parts.values()
            for of_class, files in sorted(of_part.items())
            for _ in files
        ]
    else:
        classes = [layout.labels_of[file] for file in layout.names]
    facts = scan_files(root, layout.names, progress=progress)
    kept = [row for row, file in enumerate(facts) if not file.fault]
    if not kept:
        first = facts[0].fault if facts else "there is none"
        raise DataError(f"no image in {root} can be read ({first})")
    groups = groups_of(layout)
    return LabelledImages(
        name=name,
        images=[root / facts[row].name for row in kept],
        classes=[classes[row] for row in kept],
        ids=np.array([facts[row].name for row in kept]),
        source_hashes=np.array([facts[row].digest[:16] for row in kept]),
        groups=None if groups is None else groups[kept],
        multi_label=layout.labels_of is not None,
        layout=layout,
        faults={file.name: file.fault for file in facts if file.fault},
    )
