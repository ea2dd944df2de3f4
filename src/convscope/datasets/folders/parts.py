"""Parts and classes of a folder of images, recognised by their usual names.

The folder itself may hold the classes, or parts above them (`train/`, `Training/`, `seg_train/`,
`training_set/` ...), and either may be wrapped in folders of one folder each, as archives leave
them (`photos/photos/cat`, `seg_train/seg_train/forest`).
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convscope.errors import DataError
from convscope.images.find import Skipped, is_image, iter_images, kind_of, list_folder, pass_over
from convscope.wording import printable, quoted

_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Words that do not say which part it is: "train_images", "TestSet", "validation data".
_FILLERS = frozenset(
    {"set", "sets", "data", "dataset", "datasets", "split", "folder", "dir", "files", "sample"}
    | {"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics"}
)
_GLUED = re.compile(f"({'|'.join(sorted(_PARTS, key=len, reverse=True))})({'|'.join(_FILLERS)})")
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

# Folders around test images without labels, for tools that require one.
_NO_CLASS = frozenset({"unknown", "unlabelled", "unlabeled", "all", *_FILLERS})

_MOST_WRAPPINGS = 4


@dataclass
class Listing:
    """Direct contents of a folder.

    Attributes:
        place: Folder.
        folders: Folders that may be classes or parts, sorted.
        images: Image files, sorted.
        skipped: Everything else.
    """

    place: Path
    folders: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)


@dataclass
class Arrangement:
    """Places of the classes of each part.

    Attributes:
        parts: Listing, by part, of the folder whose folders are its classes; without parts above
            the classes all of it is "train".
        divided: Whether there are parts above the classes.
        unused: Folders next to the parts that are not parts.
        unlabelled: Folder of images without class folders, by part.
        passed: Listings of the folders above the parts, the root first.
    """

    parts: dict[str, Listing]
    divided: bool
    unused: list[Path]
    unlabelled: dict[str, Path]
    passed: list[Listing]

    def remarks(self, root: Path) -> list[str]:
        """Return lines on how the folder was read, where names alone do not say it."""
        lines = []
        below = {
            part: listing.place.relative_to(root).as_posix() for part, listing in self.parts.items()
        }
        # "Val/" needs no remark.
        if self.divided and any(part != place.lower() for part, place in below.items()):
            said = ", ".join(f"{place}/ is {part}" for part, place in below.items())
            lines.append(f"parts: {said}")
        elif not self.divided and below["train"] != ".":
            lines.append(f"the classes are the folders in {below['train']}/")
        for part, place in self.unlabelled.items():
            below_root = f"{place.relative_to(root).as_posix()}/"
            if _any_image(place):
                said = "images without class folders, so without labels (predict answers them)"
            else:
                said = "no image in it"
            lines.append(f"{below_root} is not used as {part}: {said}")
        return lines


def arrange(root: Path) -> Arrangement:
    """Return the places of the parts and classes of a folder.

    Args:
        root: Existing folder.

    Raises:
        DataError: If a folder cannot be listed, two folders mean the same part, one may be a part
            or a class, or there are test or validation images but none to train on.
    """
    above = [*root.resolve().parents, root.resolve()]
    passed = [list_place(root, above)]
    while True:
        listing = passed[-1]
        parts = _parts_among(listing)
        inner = None if parts else _inside_wrapping(listing)
        if inner is None or len(passed) > _MOST_WRAPPINGS:
            break
        passed.append(list_place(inner, above))
    if not parts:
        return Arrangement({"train": passed.pop()}, False, [], {}, passed)
    used = set(parts.values())
    unused = [path for path in listing.folders if path not in used]
    classes = {part: _unwrapped(list_place(path, above), above) for part, path in parts.items()}
    unlabelled: dict[str, Path] = {
        part: parts[part]
        for part in ("val", "test")
        if part in classes and _has_no_classes(classes[part], classes["train"])
    }
    labelled = {part: listing for part, listing in classes.items() if part not in unlabelled}
    return Arrangement(labelled, True, unused, unlabelled, passed)


def list_place(place: Path, above: Iterable[Path] = ()) -> Listing:
    """Return the direct contents of a folder.

    Args:
        place: Folder.
        above: Folders that links must not lead back into, resolved.

    Raises:
        DataError: If it cannot be listed.
    """
    listing = Listing(place)
    back = {*above, place.resolve()}
    for path in list_folder(place):
        kind = kind_of(path)
        if pass_over(path, kind, listing.skipped):
            continue
        if kind == "folder" and path.is_symlink() and path.resolve() in back:
            listing.skipped.loops.append(path)
        elif kind == "folder":
            listing.folders.append(path)
        elif kind != "other" and is_image(path.name):
            listing.images.append(path)
        else:
            listing.skipped.others.append(path)
    return listing


def read_part(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the part that a folder's name means, and its other words; None for no part.

    Examples:
        >>> read_part("Training"), read_part("testSet"), read_part("seg_train")
        (('train', ()), ('test', ()), ('train', ('seg',)))
        >>> read_part("cat") is None
        True
    """
    words = []
    for word in _WORDS.findall(_CAMEL.sub(" ", name)):
        glued = _GLUED.fullmatch(word.lower())
        words += list(glued.groups()) if glued else [word.lower()]
    parts = [_PARTS[word] for word in words if word in _PARTS]
    if len(parts) != 1:
        return None
    return parts[0], tuple(word for word in words if word not in _PARTS and word not in _FILLERS)


def _parts_among(listing: Listing) -> dict[str, Path]:
    """Return the folders of train, val and test, in this order; empty if they are classes."""
    groups: dict[tuple[str, ...], list[tuple[str, Path]]] = {}
    for path in listing.folders:
        read = read_part(path.name)
        if read is not None:
            groups.setdefault(read[1], []).append((read[0], path))
    # "flowers_train" alone may be a class; next to "flowers_test" it is a part.
    trained = [
        rest
        for rest, group in groups.items()
        if any(part == "train" for part, _ in group) and (rest == () or len(group) > 1)
    ]
    several = [rest for rest in trained if len({part for part, _ in groups[rest]}) > 1]
    if len(several) > 1 and () not in groups:
        parts_there = {part for part, _ in groups[several[0]]}
        raise DataError(_which_are_the_classes(listing, several, max(parts_there - {"train"})))
    plain: list[tuple[str, ...]] = [()] if () in groups else []
    chosen = ([rest for rest in trained if rest == ()] or trained or plain)[:1]
    if not chosen or (len(trained) > 1 and chosen != [()]):
        return {}
    group = groups[chosen[0]]
    others = [path for path in listing.folders if path not in [place for _, place in group]]
    # A class may be called "train", of all vehicles; it then holds images, like its neighbours. But
    # "train" and "test" are not two classes.
    several_parts = len({part for part, _ in group}) > 1
    if others and not several_parts and all(_has_images(path) for _, path in group):
        return {}
    if len(group) == 1:
        _refuse_class_or_part(listing, group[0][1], others)
    parts: dict[str, Path] = {}
    for part, path in group:
        if part in parts:
            raise DataError(
                f"{listing.place} has both {parts[part].name}/ and {path.name}/, which mean the "
                "same; keep one of them"
            )
        parts[part] = path
    if "train" not in parts:
        named = ", ".join(f"{path.name}/" for path in parts.values())
        raise DataError(
            f"{listing.place} has {named} but no train/; put the classes to learn into train/, or "
            "name the folder of the classes itself"
        )
    return {part: parts[part] for part in ("train", "val", "test") if part in parts}


def _refuse_class_or_part(listing: Listing, only: Path, others: Iterable[Path]) -> None:
    """Refuse a folder called like a part among several others that may be classes beside it."""
    beside = [path.name for path in others if _any_image(path)]
    if len(beside) < 2:
        return
    name = printable(only.name)
    if _any_image(only):
        raise DataError(
            f"{listing.place} has {name}/ and also {quoted(beside)} with images, so is '{name}' a "
            "class like them, or does it hold the classes? If a class, put its images straight "
            f"into it; if it holds the classes, name it: --data {shlex.quote(str(only))}"
        )


def _which_are_the_classes(listing: Listing, rests: list[tuple[str, ...]], other: str) -> str:
    """Return the question about folders that name parts and something else, of several kinds.

    Args:
        listing: Folder above them.
        rests: What their names say besides parts.
        other: A part of the first kind that is not "train".
    """
    first, second = (printable("_".join(rest)) for rest in rests[:2])
    return (
        f"{listing.place} has {quoted(path.name for path in listing.folders)}, so which are the "
        f"classes? If '{first}' and '{second}' are, put the parts above them: train/{first}, "
        f"train/{second}, {other}/{first}; if each is a set of its own, put its parts into a "
        "folder and name that; if these folders are the classes, rename them without the words for "
        "parts"
    )


def _unwrapped(listing: Listing, above: Iterable[Path]) -> Listing:
    """Return the folder inside a part whose folders are the classes."""
    for _ in range(_MOST_WRAPPINGS):
        inner = _inside_wrapping(listing)
        if inner is None and not listing.images and len(listing.folders) == 1:
            # "test/test/1.jpg": images without classes, in a folder around them.
            (only,) = listing.folders
            inner = only if read_part(only.name) and _has_images(only) else None
        if inner is None:
            break
        listing = list_place(inner, above)
    return listing


def _inside_wrapping(listing: Listing) -> Path | None:
    """Return the one folder that holds all class folders or parts; None if there is none.

    Folders without any image next to it (annotations, documents) are ignored if they hold files: an
    empty one may be a class that was forgotten.
    """
    if any(_has_images(path) for path in listing.folders):
        return None
    holding = [path for path in listing.folders if _any_image(path)]
    if len(holding) != 1:
        return None
    empty = [path for path in listing.folders if path not in holding and not any(path.iterdir())]
    inside = list_place(holding[0])
    several = sum(1 for path in inside.folders if _any_image(path)) > 1
    if empty or inside.images or not (several or _inside_wrapping(inside)):
        return None
    return holding[0]


def _has_no_classes(part: Listing, train: Listing) -> bool:
    """Return whether a part holds nothing, or images without labels."""
    folders = [path for path in part.folders if _any_image(path)]
    if len(folders) != 1:
        return not folders
    (only,) = folders
    return only.name not in {path.name for path in train.folders} and _is_no_class(only.name)


def _is_no_class(name: str) -> bool:
    return read_part(name) is not None or all(
        word in _NO_CLASS for word in _WORDS.findall(name.lower())
    )


def _has_images(place: Path) -> bool:
    return any(
        is_image(path.name)
        and kind_of(path) not in ("folder", "other")
        and not pass_over(path, "file", Skipped())
        for path in list_folder(place)
    )


def _any_image(place: Path) -> bool:
    return next(iter_images(place), None) is not None


def shared_folders(subfolders: Mapping[str, set[str]]) -> set[str]:
    """Return the names of folders that every class holds, if they are most of its contents.

    Args:
        subfolders: Names of the folders with images directly in each class, by class.

    Returns:
        At least two names, or none.
    """
    if len(subfolders) < 2:
        return set()
    common = set.intersection(*subfolders.values())
    every = set.union(*subfolders.values())
    return common if len(common) >= 2 and 2 * len(common) >= len(every) else set()
