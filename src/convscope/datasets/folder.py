"""The user's own images: a folder for each class."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.folders.archives import unpacked
from convscope.datasets.folders.contents import read_contents
from convscope.datasets.folders.layout import EVERY, TOLERATED, Layout
from convscope.datasets.folders.namesakes import find_namesakes
from convscope.datasets.folders.pack import Pack, pack_images
from convscope.datasets.folders.scan import FileFacts, scan_files
from convscope.errors import DataError
from convscope.images.deep import choose_white
from convscope.images.fit import Fit
from convscope.types import Dataset, Labels, SealedSplit, Split
from convscope.wording import command_line, counted, printable, quoted, spell_size

DEFAULT_SIZE = 64
"""Side in pixels of images that are large or of many sizes."""

KEPT_SIZE = 96
"""Largest side in pixels up to which images of equal size are kept as they are."""

_DARK = 32
"""Pixel value that images exceed unless they were not scaled to 8 or 16 bits."""

_N_LOOKED_AT = 64
"""Number of images by which that is judged."""


@DATASETS.register("folder", recipe="logistic", place="PATH", files=True)
def load_folder(request: DataRequest) -> Dataset:
    """Your own folder of images, with a folder inside for each class or a table of labels.

    The class folders lie in the folder itself, or in `train/` and perhaps `val/` and `test/` in it,
    which may have other names (`Training/`, `seg_train/`, `test_set/`) and lie in a folder around
    them; docs/layouts.md lists what is understood. Images in folders inside a class folder count
    for that class. The classes are those of `train`, sorted by code point: capitals before small
    letters, "10" before "9". With a table of labels, `labels`, or one of Hugging Face's standard,
    the folders do not count, and classes that are numbers are sorted by value. A table may give an
    image any number of classes, or none.

    Hidden files and folders, what other programs leave behind, convscope's own runs, and files that
    are not images by their suffix, are ignored. Images that cannot be read are left out. The notes
    say so. The images become
    `image_size` x `image_size` pixels if that is given, unless they all have one size that is not
    larger, which they keep; without it they keep their size if they all have the same of at most 96
    pixels a side; else they become 64 x 64. Those of another aspect ratio are squashed, or as `fit`
    says cropped or padded with grey. They are grey if all are grey, else RGB.

    Floating-point and 32-bit images do not say which value is white: it is 1, 255 or 65535, the
    least that fits all of them, and a tenth above it still counts as white.

    An archive is unpacked into convscope's own cache and read as the folder that it holds.

    The folder is never written to: decoded images are kept in convscope's own cache.

    Args:
        request: Request whose `path` is the folder or archive, and `labels` the table if there is
            one.

    Raises:
        DataError: If the folder is missing or not laid out like that, another part has a class that
            `train` lacks, `train` has no image of a class, or more than 10 % of its files cannot be
            read.
        StorageError: If the cache has no room for the decoded images.
    """
    if request.path is None:
        raise DataError("the dataset 'folder' needs the path of your folder: --data PATH")
    with unpacked(request.path, request.progress) as root:
        return _load(root, None if root == request.path else request.path, request)


@dataclass(frozen=True)
class Survey:
    """A folder of images, before any of them is decoded.

    Attributes:
        root: Folder.
        archive: Archive that it was unpacked from, if it was.
        layout: Parts, classes and files.
        files: Facts of the files, in the order of `Layout.names`.
        size: (height, width) that all images get.
        channels: Number of channels that all images get.
        choice: Line that says so.
        peaks: Largest values of the files that do not say what is white.
    """

    root: Path
    archive: Path | None
    layout: Layout
    files: Sequence[FileFacts]
    size: tuple[int, int]
    channels: int
    choice: str
    peaks: Sequence[float]

    @property
    def name(self) -> str:
        """Name of the data."""
        return self.root.resolve().name or "images"

    @property
    def white(self) -> int | None:
        """Pixel value shown as white in files that do not say it."""
        return choose_white(self.peaks)

    @property
    def parts(self) -> dict[str, slice]:
        """Range of the files of each part."""
        found, start = {}, 0
        for part, classes in self.layout.parts.items():
            n_files = sum(len(of_class) for of_class in classes.values())
            found[part] = slice(start, start + n_files)
            start += n_files
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user."""
        return (
            self.choice,
            *_scale_note(self.peaks, self.white),
            *ignored(self.layout),
            *_namesakes_note(self.layout),
        )

    def provenance(self, kept: npt.NDArray[np.intp]) -> dict[str, str]:
        """Return the origin of the data, as `Dataset.provenance`, of the files at some indices."""
        return {
            "source": str((self.archive or self.root).resolve()),
            **({"labels": self.layout.labels} if self.layout.labels else {}),
            "n_images": str(len(kept)),
            "fingerprint": _fingerprint(self.layout, self.files, kept, self.white),
        }


def survey(root: Path, archive: Path | None, request: DataRequest) -> Survey:
    """Read the layout of a folder and the facts of its files; parameters and errors as there."""
    layout = read_contents(root, request.labels, archive)
    if layout.problems:
        raise DataError(layout.problems[0].message)
    files = scan_files(root, layout.names, progress=request.progress)
    size, channels, choice = _choose(files, request.image_size, request.fit)
    peaks = [file.peak for file in files if file.peak is not None]
    return Survey(root, archive, layout, files, size, channels, choice, peaks)


def _load(root: Path, archive: Path | None, request: DataRequest) -> Dataset:
    seen = survey(root, archive, request)
    layout = seen.layout
    pack = pack_images(
        root,
        seen.files,
        size=seen.size,
        channels=seen.channels,
        fit=request.fit,
        white=seen.white,
        progress=request.progress,
    )
    require_few_faults(layout, pack.faults)
    splits = _splits(seen, pack)
    test = splits.get("test")
    return Dataset(
        name=seen.name,
        class_names=layout.class_names,
        train=splits["train"],
        val=splits.get("val"),
        test=SealedSplit(test) if test is not None else None,
        provenance=seen.provenance(pack.kept),
        notes=(*seen.notes, *left_out(layout, pack.faults), *_dark_note(pack), *pack.notes),
        white=seen.white,
    )


def _choose(
    files: Sequence[FileFacts], wanted: int | None, fit: Fit
) -> tuple[tuple[int, int], int, str]:
    """Return the size and channels that all images get, and a line that says so."""
    readable = [file for file in files if not file.fault]
    if not readable:
        raise DataError(f"none of {counted(len(files), 'image')} can be read ({files[0].fault})")
    channels = 1 if all(file.grey for file in readable) else 3
    colour = "grey" if channels == 1 else "RGB"
    sizes = Counter((file.height, file.width) for file in readable)
    common = next(iter(sizes)) if len(sizes) == 1 else None
    if wanted is not None:
        size = _within(common, wanted, fit)
    elif common is not None and max(common) <= KEPT_SIZE:
        size = common
    else:
        size = (DEFAULT_SIZE, DEFAULT_SIZE)
    grows = wanted is not None and size != (wanted, wanted)
    enlarged = f"; the model enlarges them to {wanted}" if grows else ""
    advice = "; choose another with --image-size" if wanted is None else enlarged
    if size == common:
        kept = ", and keep their size" if wanted is None else enlarged
        return size, channels, f"images are {spell_size(size)}, {colour}{kept}"
    how = {"squash": "", "crop": ", cropped", "pad": ", padded"}[fit]
    theirs = f"all are {spell_size(common)}" if common else f"they have {len(sizes):,} sizes"
    return size, channels, f"images become {spell_size(size)}, {colour}{how} ({theirs}{advice})"


def _within(common: tuple[int, int] | None, wanted: int, fit: Fit) -> tuple[int, int]:
    """Return the size for a square input: a larger copy than the images would hold nothing more."""
    if common is None:
        return wanted, wanted
    side = {"crop": min, "pad": max}.get(fit)
    least = common if side is None else (side(common), side(common))
    return least if max(least) <= wanted else (wanted, wanted)


def require_few_faults(layout: Layout, faults: dict[str, str]) -> None:
    """Reject a folder of which too many images cannot be read.

    Args:
        layout: Its layout.
        faults: Reason why an image cannot be read, by file name.

    Raises:
        DataError: If it is more than a tenth of a class, or of a part.
    """
    for part, classes in layout.parts.items():
        for name, files in classes.items():
            broken = [file for file in files if file in faults]
            if len(broken) > TOLERATED * len(files):
                said = f" in class '{printable(name)}'" if name != EVERY else ""
                where = f"{said} of {part}" if layout.divided else said
                raise DataError(
                    f"{len(broken)} of {counted(len(files), 'image')}{where} cannot be "
                    f"read (first: {faults[broken[0]]}), more than {TOLERATED:.0%}; "
                    f"{_see(layout)}"
                )


def _splits(seen: Survey, pack: Pack) -> dict[str, Split]:
    """Return the parts: consecutive ranges of the pack, which stay mapped from disk."""
    ids = np.array(seen.layout.names)[pack.kept]
    digests = np.array([file.digest[:16] for file in seen.files])[pack.kept]
    labels = labels_of(seen.layout)[pack.kept]
    groups = groups_of(seen.layout)
    groups = None if groups is None else groups[pack.kept]
    splits = {}
    for part, files in seen.parts.items():
        stretch = slice(*np.searchsorted(pack.kept, [files.start, files.stop]).tolist())
        split = Split(
            pack.images[stretch],
            labels[stretch],
            ids[stretch],
            digests[stretch],
            None if groups is None else groups[stretch],
        )
        split.__dict__["hashes"] = pack.hashes[stretch]
        splits[part] = split
    return splits


def labels_of(layout: Layout) -> Labels:
    """Return the classes of all images of a layout, in the order of `Layout.names`."""
    label_of = {name: label for label, name in enumerate(layout.class_names)}
    if layout.labels_of is None:
        labels = [
            label_of[name]
            for classes in layout.parts.values()
            for name, of_class in sorted(classes.items())
            for _ in of_class
        ]
        return np.array(labels, dtype=np.int64)
    matrix = np.zeros((len(layout.names), len(label_of)), np.uint8)
    for row, name in enumerate(layout.names):
        matrix[row, [label_of[each] for each in layout.labels_of[name]]] = 1
    return matrix


def groups_of(layout: Layout) -> npt.NDArray[np.str_] | None:
    """Return the groups of all images of a layout, as `Split.groups`, in the order of the names."""
    if layout.group_of is None:
        return None
    return np.array([layout.group_of[name] for name in layout.names], dtype=np.str_)


def _scale_note(peaks: Sequence[float], white: int | None) -> list[str]:
    if white is None:
        return []
    count = counted(len(peaks), "floating-point or 32-bit image")
    return [f"white is assumed to be {white} in {count}, which do not state it"]


def _dark_note(pack: Pack) -> list[str]:
    looked_at = pack.images[:: max(1, len(pack.images) // _N_LOOKED_AT)]
    most = int(looked_at.max())
    if most > _DARK:
        return []
    return [
        f"the images are almost black (values up to {most} of 255), as 12-bit values in 16-bit "
        "files are; multiply such values so that white is 65535"
    ]


def _fingerprint(
    layout: Layout, files: Sequence[FileFacts], kept: npt.NDArray[np.intp], white: int | None
) -> str:
    digest = hashlib.sha256()
    if white is not None:
        digest.update(f"white {white}\n".encode())
    for place in kept:
        digest.update(f"{files[place].name}\0{files[place].digest}\n".encode())
    if layout.order:  # from a table: the paths do not say the labels
        for part, classes in layout.parts.items():
            for name, names in classes.items():
                digest.update(
                    f"{part}\0{name}\0{chr(0).join(names)}\n".encode("utf-8", "surrogateescape")
                )
        for file, group in (layout.group_of or {}).items():
            digest.update(f"{file}\0{group}\n".encode("utf-8", "surrogateescape"))
        for file, of_file in (layout.labels_of or {}).items():
            text = chr(0).join((file, *sorted(of_file)))
            digest.update(f"{text}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{digest.hexdigest()}"


def ignored(layout: Layout) -> list[str]:
    """Return lines on the contents of the folder that are not used."""
    skipped = layout.skipped
    lines = list(layout.remarks)
    if skipped.hidden:
        hidden = quoted(map(layout.below, skipped.hidden), most=3)
        count = counted(len(skipped.hidden), "hidden file or folder", "hidden files or folders")
        lines.append(f"ignored {count}: {hidden}")
    if skipped.leftovers:
        left = quoted(map(layout.below, skipped.leftovers), most=3)
        lines.append(f"ignored what other programs left behind: {left}")
    if skipped.results:
        results = quoted(map(layout.below, skipped.results), most=3)
        lines.append(f"ignored runs and studies of convscope: {results}")
    if skipped.others:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in skipped.others)
        suffixes = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common(5))
        lines.append(f"ignored {counted(len(skipped.others), 'file')} not of images ({suffixes})")
    if layout.strays:
        count, first = counted(len(layout.strays), "image"), quoted(layout.strays, most=3)
        lines.append(f"ignored {count} beside the class folders, of no class: {first}")
    if layout.unused:
        lines.append(f"ignored folders beside the parts: {quoted(layout.unused)}")
    nested = {name: inside for name, inside in layout.nested.items() if len(inside) > 1}
    if nested:
        name, inside = next(iter(sorted(nested.items())))
        lines.append(
            f"folders inside class folders count for the class, as {quoted(sorted(inside), most=3)}"
            f" for '{printable(name)}'"
        )
    lines += [
        f"classes that look alike: {quoted(names)}; should they be one?"
        for names in layout.look_alikes
    ]
    if skipped.loops:
        count = counted(len(skipped.loops), "link")
        first = quoted(map(layout.below, skipped.loops), most=3)
        lines.append(f"ignored {count} to folders seen already: {first}")
    return lines


def _namesakes_note(layout: Layout) -> list[str]:
    found = find_namesakes(layout.names)
    if not found:
        return []
    first = quoted(found[0], most=3)
    return [
        f"{len(found):,} images share their name with another ({first}): move masks, and "
        f"copies in another format, out of the class folders; {_see(layout)}"
    ]


def left_out(layout: Layout, faults: dict[str, str]) -> list[str]:
    """Return a line on the images that cannot be read, if there are any."""
    if not faults:
        return []
    count, first = counted(len(faults), "image"), "; ".join(list(faults.values())[:3])
    more = f"; and {len(faults) - 3:,} more" if len(faults) > 3 else ""
    return [f"left out {count} that cannot be read: {first}{more}; {_see(layout)}"]


def _see(layout: Layout) -> str:
    return f"to see all: {command_line('data', 'check', *layout.words)}"
