"""How a folder of images is laid out: parts, classes, files, and what is wrong with that."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path

from convscope.errors import DataError
from convscope.images.find import (
    Skipped,
    is_hidden,
    is_image,
    kind_of,
    list_folder,
    walk_images,
)
from convscope.wording import counted, has_controls, printable, quoted

_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Problem:
    """Why a folder cannot be used as it is.

    Attributes:
        kind: "empty-class", "single-class", "classes-differ" or "odd-name".
        message: One line that says what is wrong, where, and what to do.
        places: The folders in question, below the root.
    """

    kind: str
    message: str
    places: tuple[str, ...]


@dataclass
class Layout:
    """What a folder of images contains.

    Attributes:
        root: The folder.
        parts: By part ("train", "val", "test") and class, the image files in plain order, as paths
            below the root with forward slashes. Without parts above the classes all are "train".
        divided: Whether there are parts above the classes.
        skipped: Hidden things, files that are not images, links that lead back.
        strays: Images that lie beside the class folders, and so belong to no class.
        unused: Folders beside `train/` that are no part.
        problems: Why it cannot be used as it is; empty if it can.
    """

    root: Path
    parts: dict[str, dict[str, list[str]]]
    divided: bool
    skipped: Skipped
    strays: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of `train`, sorted plainly: capitals before small letters, 10 before 9."""
        return tuple(sorted(self.parts["train"]))

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
        """Return a path below the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()


def read_layout(root: Path) -> Layout:
    """Return what a folder of images contains.

    Args:
        root: A folder with a folder for each class, or with such folders in `train/` and perhaps
            `val/` (or `valid/`, `validation/`) and `test/`.

    Raises:
        DataError: If there is no such folder, or it has no classes in it.
    """
    _check_is_folder(root)
    layout = Layout(root, {}, False, Skipped())
    folders = _folders(layout, root)
    parts = _find_parts(root, folders)
    if parts:
        layout.divided = True
        layout.unused = [path.name for path in folders if path not in parts.values()]
    for part, place in parts.items() or [("train", root)]:
        inside = _folders(layout, place) if parts else folders
        above = [*root.resolve().parents, root, place]
        layout.parts[part] = {
            path.name: [
                layout.below(file)
                for file in walk_images(path, skipped=layout.skipped, above=above)
            ]
            for path in inside
        }
    if not layout.parts["train"]:
        raise _no_classes(layout, parts.get("train", root))
    _find_problems(layout, parts)
    return layout


def _folders(layout: Layout, place: Path) -> list[Path]:
    """Return the visible folders in `place`, and note in the layout what else is there."""
    back = [layout.root.resolve(), place.resolve(), *layout.root.resolve().parents]
    folders = []
    for path in list_folder(place):
        kind = kind_of(path)
        if is_hidden(path.name):
            layout.skipped.hidden.append(path)
        elif kind == "folder" and path.is_symlink() and path.resolve() in back:
            layout.skipped.loops.append(path)
        elif kind == "folder":
            folders.append(path)
        elif is_image(path.name):
            layout.strays.append(layout.below(path))
        else:
            layout.skipped.others.append(path)
    return folders


def _find_parts(root: Path, folders: list[Path]) -> dict[str, Path]:
    """Return the folders of train, val and test; nothing if the folders are classes."""
    parts: dict[str, Path] = {}
    for path in folders:
        part = _PARTS.get(path.name.lower())
        if part in parts:
            raise DataError(
                f"{root} has both {parts[part].name}/ and {path.name}/, which mean the same; "
                "keep one of them"
            )
        if part is not None:
            parts[part] = path
    if not parts:
        return {}
    others = [path for path in folders if path not in parts.values()]
    # A class may be called "train", of all vehicles; it then holds images, like its neighbours.
    if others and all(_has_images(path) for path in parts.values()):
        return {}
    if "train" not in parts:
        named = ", ".join(f"{path.name}/" for path in parts.values())
        raise DataError(f"{root} has {named} but no train/; put the classes to learn into train/")
    return {part: parts[part] for part in ("train", "val", "test") if part in parts}


def _has_images(place: Path) -> bool:
    return any(
        is_image(path.name) and not is_hidden(path.name) and kind_of(path) == "file"
        for path in list_folder(place)
    )


def _find_problems(layout: Layout, parts: dict[str, Path]) -> None:
    train = layout.parts["train"].keys()
    for part, classes in layout.parts.items():
        place = parts.get(part, layout.root)
        for name in sorted(name for name, files in classes.items() if not files):
            others = sum((place / name) in path.parents for path in layout.skipped.others)
            aside = f" ({counted(others, 'file')} there, but not of images)" if others else ""
            layout.problems.append(
                Problem(
                    "empty-class",
                    f"class '{printable(name)}' in {place} has no image{aside}; add images or "
                    "remove its folder",
                    (layout.below(place / name),),
                )
            )
        if classes.keys() != train:
            lacks, extra = sorted(train - classes.keys()), sorted(classes.keys() - train)
            said = [f"{part} lacks {quoted(lacks)}"] if lacks else []
            said += [f"only {part} has {quoted(extra)}"] if extra else []
            layout.problems.append(
                Problem(
                    "classes-differ",
                    f"the classes of {part} differ from those of train in {layout.root}: "
                    f"{'; '.join(said)}; give all parts the same class folders",
                    tuple(
                        [layout.below(parts["train"] / name) for name in lacks]
                        + [layout.below(place / name) for name in extra]
                    ),
                )
            )
    for name in sorted(train):
        if has_controls(name):
            place = parts.get("train", layout.root)
            layout.problems.append(
                Problem(
                    "odd-name",
                    f"the class folder '{printable(name)}' in {place} has control characters in "
                    "its name; rename it",
                    (layout.below(place / name),),
                )
            )
    if len(train) == 1:
        (name,) = train
        layout.problems.append(
            Problem(
                "single-class",
                f"{parts.get('train', layout.root)} has one class folder only, "
                f"'{printable(name)}'; a classifier needs at least two",
                (layout.below(parts.get("train", layout.root) / name),),
            )
        )


def _no_classes(layout: Layout, place: Path) -> DataError:
    if layout.strays:
        said = f"has {counted(len(layout.strays), 'image')} but no class folders"
    elif layout.skipped.hidden or layout.skipped.others or layout.unused:
        said = "has no class folders"
    else:
        said = "is empty"
    return DataError(f"{place} {said}; put the images of each class into a folder of its own there")


def _check_is_folder(root: Path) -> None:
    kind = kind_of(root)
    if kind == "folder":
        return
    if kind != "dangling":
        raise DataError(
            f"{root} is a file, not a folder; name a folder with a folder of images for each class "
            "(an archive has to be unpacked first)"
        )
    # Mend the first step of the path that leads nowhere, and see whether the rest fits then.
    steps = [*reversed(root.absolute().parents), root.absolute()]
    missing = next(step for step in steps if kind_of(step) == "dangling")
    beside = [path.name for path in list_folder(missing.parent) if kind_of(path) == "folder"]
    beside = [name for name in beside if not is_hidden(name)]
    for near in difflib.get_close_matches(missing.name, beside, n=3, cutoff=0.5):
        guess = missing.parent / near / root.absolute().relative_to(missing)
        if guess.is_dir():
            raise DataError(f"there is no folder {root}; did you mean {guess}?")
    there = f"; {missing.parent} has {quoted(beside)}" if beside else f"; {missing.parent} is empty"
    raise DataError(f"there is no folder {root}{there}")
