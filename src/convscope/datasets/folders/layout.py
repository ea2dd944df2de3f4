"""Layout of a folder of images: parts, classes, files, and its problems."""

import difflib
import re
import shlex
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from convscope.datasets.folders.multi_label import NUMBER
from convscope.datasets.folders.parts import Listing, arrange, read_part, shared_folders
from convscope.errors import DataError, NoClassesError
from convscope.images.find import Skipped, kind_of, list_folder, pass_over, walk_images
from convscope.wording import composed, counted, has_controls, printable, quoted

EVERY = ""
"""In place of a class: all images of a part, where an image may have any number of classes."""

TOLERATED = 0.1
"""Share of a class's files that may be unreadable, and of a table's that may be missing."""


@dataclass(frozen=True)
class Problem:
    """Reason why a folder cannot be used as it is.

    Attributes:
        kind: Name of the problem: "empty-class", "single-class", "classes-differ", "odd-name",
            "same-name", "same-folders", "nested-copy" or "nested-parts"; with a table of labels
            also "several-labels", "constant-class", "labels-contradict", "unclear-file" or
            "files-missing".
        message: One line that says what is wrong, where, and what to do.
        places: Folders in question, relative to the root; or images, as the table names them.
    """

    kind: str
    message: str
    places: tuple[str, ...]


@dataclass
class Layout:
    """Contents of a folder of images.

    Attributes:
        root: Folder.
        parts: Image files by part ("train", "val", "test") and class, in plain order, as paths
            relative to the root with forward slashes. Without parts above the classes all are
            "train". Class names are in Unicode's composed form (NFC), whatever the form of the
            folders' names.
        divided: Whether there are parts above the classes.
        places: Folder that holds the class folders, by part.
        skipped: Hidden files, leftovers of programs, results of convscope, files that are not
            images, links that lead back.
        strays: Images next to the class folders, which belong to no class.
        unused: Folders next to the parts that are not parts.
        nested: Folders with images inside a class folder of `train`, by class; their images count
            for it.
        look_alikes: Classes whose names differ only in capitals, spaces or dashes.
        remarks: Lines on how the folder was read, where names alone do not say it.
        problems: Reasons why it cannot be used as it is; empty if it can.
        labels: Table of the labels, as for `--labels`; "" if the folders are the classes.
        order: Classes in the order of a table of labels; empty for plain order.
        labels_of: Classes of each image, where a table gives images any number of them; None where
            each has one. `parts` then holds all images of a part under `EVERY`.
        group_of: Group of each image where a table says it; None without such a column.
        named: Archive that was unpacked to the root; None for a folder of the user's own.
    """

    root: Path
    parts: dict[str, dict[str, list[str]]]
    divided: bool
    places: dict[str, Path] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    strays: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    nested: dict[str, set[str]] = field(default_factory=dict)
    look_alikes: list[list[str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    labels: str = ""
    order: tuple[str, ...] = ()
    labels_of: dict[str, tuple[str, ...]] | None = None
    group_of: dict[str, str] | None = None
    named: Path | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of `train`, sorted plainly: capitals before small letters, 10 before 9."""
        return self.order or tuple(sorted(self.parts["train"]))

    @property
    def words(self) -> tuple[object, ...]:
        """Words of a command line that name the data."""
        place = self.named or self.root
        return (place, "--labels", self.labels) if self.labels else (place,)

    @property
    def names(self) -> list[str]:
        """All image files: part by part, class by class."""
        return [
            name
            for classes in self.parts.values()
            for _, names in sorted(classes.items())
            for name in names
        ]

    def below(self, path: Path) -> str:
        """Return a path relative to the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()


def read_layout(root: Path) -> Layout:
    """Return the contents of a folder of images.

    Args:
        root: Folder with a folder for each class, or with such folders in parts: `train/` and
            perhaps `val/` and `test/`, under any usual name.

    Raises:
        NoClassesError: If it has no classes in it.
        DataError: If there is no such folder, or it cannot be listed.
    """
    require_folder(root)
    found = arrange(root)
    layout = Layout(root, {}, found.divided, remarks=found.remarks(root))
    layout.unused = [layout.below(path) for path in found.unused]
    for listing in (*found.passed, *found.parts.values()):
        layout.skipped.add(listing.skipped)
        layout.strays += [layout.below(path) for path in listing.images]
    above = root.resolve().parents
    for part, listing in found.parts.items():
        layout.places[part] = listing.place
        layout.parts[part] = _read_classes(layout, listing, [*above, root, listing.place])
    if not layout.parts["train"]:
        raise _no_classes(layout, layout.places["train"])
    _note_classes_missing(layout)
    note_odd_names(layout, "class folder", "rename it")
    _note_odd_folders(layout)
    return layout


def _read_classes(layout: Layout, listing: Listing, above: list[Path]) -> dict[str, list[str]]:
    """Return the image files of a part by class, and record folders that are not classes."""
    classes: dict[str, list[str]] = {}
    folders: dict[str, Path] = {}
    for path in listing.folders:
        skipped = Skipped()
        files = walk_images(path, skipped=skipped, above=above)
        layout.skipped.add(skipped)
        if not files and skipped.results and not skipped.others:
            continue  # "runs/", with nothing but runs in it
        name = composed(path.name)
        if name in folders:
            layout.problems.append(
                Problem(
                    "same-name",
                    f"two class folders in {listing.place} are called '{printable(name)}', in two "
                    "spellings of Unicode (NFC and NFD); put their images into one of them",
                    (layout.below(folders[name]), layout.below(path)),
                )
            )
        folders[name] = path
        classes[name] = [layout.below(file) for file in files]
    return classes


def _note_classes_missing(layout: Layout) -> None:
    """Record the classes of which there is nothing to learn from; other parts may lack some."""
    place, train = layout.places["train"], layout.parts["train"]
    others = Counter(
        composed(path.relative_to(place).parts[0])
        for path in layout.skipped.others
        if path.is_relative_to(place)
    )
    for name in sorted(name for name, files in train.items() if not files):
        n_others = others[name]
        aside = f" ({counted(n_others, 'file')} there, but not of images)" if n_others else ""
        layout.problems.append(
            Problem(
                "empty-class",
                f"class '{printable(name)}' in {place} has no image{aside}; add images or "
                "remove its folder",
                (layout.below(place / name),),
            )
        )
    for part, classes in layout.parts.items():
        lacks, extra = sorted(train.keys() - classes), sorted(classes.keys() - train)
        if extra:
            # One of the others may be the same class by another name.
            said = f"{part} lacks {quoted(lacks)}; " if lacks else ""
            layout.problems.append(
                Problem(
                    "classes-differ",
                    f"the classes of {part} differ from those of train in {layout.root}: {said}"
                    f"only {part} has {quoted(extra)}; call the same class the same, add images "
                    "of it to train, or remove its folder",
                    tuple(
                        [layout.below(place / name) for name in lacks]
                        + [layout.below(layout.places[part] / name) for name in extra]
                    ),
                )
            )
        classes |= {name: [] for name in lacks}


def note_odd_names(layout: Layout, noun: str, remedy: str) -> None:
    """Record class names that cannot be shown, or that people confuse.

    Args:
        layout: Layout whose classes are known.
        noun: What has the name.
        remedy: What to do about control characters.
    """
    place = layout.places["train"]
    by_look: dict[str, list[str]] = {}
    for name in layout.class_names:
        by_look.setdefault(_look_of(name), []).append(name)
        if has_controls(name):
            layout.problems.append(
                Problem(
                    "odd-name",
                    f"the {noun} '{printable(name)}' in {place} has control characters in its "
                    f"name; {remedy}",
                    (layout.below(place / name),),
                )
            )
    layout.look_alikes = [names for names in by_look.values() if len(names) > 1]


def _look_of(name: str) -> str:
    """Return a name without details that are easily overlooked: capitals, spaces, dashes."""
    if NUMBER.fullmatch(name):
        return name  # -1 is not 1
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip() or folded


def _note_odd_folders(layout: Layout) -> None:
    """Record folders that are hardly classes: a single one, parts in disguise, or a copy."""
    place = layout.places["train"]
    classes = layout.parts["train"]
    if len(classes) == 1:
        (name,) = classes
        layout.problems.append(
            Problem(
                "single-class",
                f"{place} has one class folder only, '{printable(name)}'; a classifier needs at "
                "least two",
                (layout.below(place / name),),
            )
        )
    depth = len(place.relative_to(layout.root).parts) + 1
    direct = {name for name, files in classes.items() if any(_at(file, depth) for file in files)}
    layout.nested = {
        name: {file.split("/")[depth] for file in files if not _at(file, depth)}
        for name, files in classes.items()
    }
    shared = set() if direct else shared_folders(layout.nested)
    if shared:
        first, second, *_ = map(printable, layout.class_names)
        parts = {each: read[0] for each in sorted(shared) if (read := read_part(each))}
        in_parts = len(parts) == len(shared)
        if in_parts and any(_at(file, depth + 1) for files in classes.values() for file in files):
            answer = (
                f"put the parts above the classes: {min(shared)}/{first}, {min(shared)}/{second}"
            )
        elif in_parts:
            learnt = next((each for each, part in parts.items() if part == "train"), "train")
            answer = (
                f"if each is a set of its own, name one: --data {shlex.quote(str(place / first))}; "
                f"to learn from all of them, put their classes into {place / learnt}"
            )
        else:
            answer = (
                f"if '{first}' and '{second}' are parts, call them train, val or test; if each is "
                f"a set of its own, name one: --data {shlex.quote(str(place / first))}; if they "
                "are the classes, put their images straight into them"
            )
        layout.problems.append(
            Problem(
                "same-folders",
                f"every folder in {place} holds the same folders ({quoted(sorted(shared))}), so "
                f"which are the classes? {answer[0].upper()}{answer[1:]}",
                tuple(layout.below(place / name) for name in layout.class_names),
            )
        )
    for name, inside in layout.nested.items():
        several = sorted(each for each in inside if read_part(each))
        if not shared and name not in direct and len({read_part(each) for each in several}) > 1:
            layout.problems.append(
                Problem(
                    "nested-parts",
                    f"the folder '{printable(name)}' in {place} holds {quoted(several)}: is it the "
                    f"data set? Name it: --data {shlex.quote(str(place / name))}; if it is a "
                    "class, rename the folders in it",
                    (layout.below(place / name),),
                )
            )
        copies = sorted(each for each in inside if each in classes and each != name and not shared)
        if len(copies) > 1:
            layout.problems.append(
                Problem(
                    "nested-copy",
                    f"the folder '{printable(name)}' in {place} holds folders called like its "
                    f"neighbours ({quoted(copies)}): is it a copy of the whole set? Move it away, "
                    "or name one of the two with --data",
                    (layout.below(place / name),),
                )
            )


def _at(file: str, depth: int) -> bool:
    """Return whether a file is directly in its class folder."""
    return file.count("/") == depth


def _no_classes(layout: Layout, place: Path) -> NoClassesError:
    skipped = layout.skipped
    if layout.strays:
        said = f"has {counted(len(layout.strays), 'image')} but no class folders"
    elif skipped.hidden or skipped.leftovers or skipped.others or layout.unused:
        said = "has no class folders"
    else:
        said = "is empty"
    return NoClassesError(
        f"{place} {said}; put the images of each class into a folder of its own there, or name a "
        "table of their labels with --labels TABLE"
    )


def require_folder(root: Path) -> None:
    """Reject a path that is no folder, with the folders that may be meant.

    Raises:
        DataError: If it is none.
    """
    kind = kind_of(root)
    if kind == "folder":
        return
    if kind != "dangling":
        raise DataError(
            f"{root} is a file, not a folder; name a folder with a folder of images for each "
            "class, an archive of one (.zip, .tar, .tar.gz ...), or a table of images and labels"
        )
    # Correct the first missing step of the path, and see whether the rest exists then.
    steps = [*reversed(root.absolute().parents), root.absolute()]
    missing = next(step for step in steps if kind_of(step) == "dangling")
    beside = [
        path.name
        for path in list_folder(missing.parent)
        if kind_of(path) == "folder" and not pass_over(path, "folder", Skipped())
    ]
    for near in difflib.get_close_matches(missing.name, beside, n=3, cutoff=0.5):
        guess = missing.parent / near / root.absolute().relative_to(missing)
        if guess.is_dir():
            raise DataError(f"there is no folder {root}; did you mean {guess}?")
    there = f"; {missing.parent} has {quoted(beside)}" if beside else f"; {missing.parent} is empty"
    raise DataError(f"there is no folder {root}{there}")
