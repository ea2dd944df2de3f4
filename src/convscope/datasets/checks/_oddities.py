"""Findings on the files, sizes and classes of a dataset."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from convscope.datasets.checks.findings import DataFinding, Severity
from convscope.datasets.division.part_notes import classes_missing, groups_across
from convscope.datasets.folders.layout import EVERY, TOLERATED, Layout
from convscope.datasets.folders.namesakes import find_namesakes
from convscope.images.formats import ImageHeader
from convscope.wording import counted, printable, quoted, spell_size

MIN_SIDE = 8
"""Images with a side of fewer pixels are called tiny."""

MAX_RATIO = 4
"""Images whose long side is more than this many times the short one are called elongated."""

MAX_IMBALANCE = 10
"""Classes are called unbalanced if the largest has this many times the images of the smallest."""

# Pictures that the decoder does not read, but other programs can convert. JPEG XL is among them as
# no plugin of Pillow tells the size of such a picture before it has decoded it.
_CONVERTIBLE = {
    *(".exr", ".hdr", ".ico", ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".psd", ".svg", ".tga"),
    # What cameras record.
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f"),
}


def on_layout(layout: Layout) -> list[DataFinding]:
    """Return findings on folders, and on files that are not used."""
    findings = [
        DataFinding(
            "error",
            problem.kind,
            problem.message,
            "Training refuses the folder until then.",
            tuple(map(printable, problem.places)),
        )
        for problem in layout.problems
    ]
    findings += [
        DataFinding("note", "layout", line, "See that it is meant so.") for line in layout.remarks
    ]
    skipped = layout.skipped
    convertible = [path for path in skipped.others if path.suffix.lower() in _CONVERTIBLE]
    others = [path for path in skipped.others if path.suffix.lower() not in _CONVERTIBLE]
    rows: list[tuple[Severity, str, Sequence[str], str, str]] = [
        (
            "warning",
            "unsupported-format",
            [layout.below(path) for path in convertible],
            "pictures of a format that is not read, and ignored",
            "Convert them to PNG or JPEG.",
        ),
        (
            "warning",
            "stray",
            layout.strays,
            "images beside the class folders, which belong to no class and are ignored",
            "Put them into a class folder if they are meant to be used.",
        ),
        (
            "note",
            "unused-folder",
            layout.unused,
            "folders beside the parts that are ignored",
            "Only training, validation and test images are read.",
        ),
        (
            "note",
            "hidden",
            [layout.below(path) for path in skipped.hidden],
            "hidden files or folders, ignored",
            "Rename them if they are meant to be used.",
        ),
        (
            "note",
            "leftover",
            [layout.below(path) for path in skipped.leftovers],
            "thumbnails, bins and the like that other programs left, ignored",
            "No action needed.",
        ),
        (
            "note",
            "result",
            [layout.below(path) for path in skipped.results],
            "runs or studies of convscope in the folder, ignored",
            "Keep them elsewhere: convscope --out does not write into a data folder.",
        ),
        (
            "warning",
            "look-alike-classes",
            [name for names in layout.look_alikes for name in names],
            "classes whose names differ only in capitals, spaces or dashes",
            "See whether they should be one; on Windows and macOS such folders can be one already.",
        ),
        (
            "note",
            "nested-folders",
            [
                f"{name}/{folder}"
                for name, inside in layout.nested.items()
                if len(inside) > 1
                for folder in sorted(inside)
            ],
            "folders inside class folders, whose images count for the class",
            "No action needed, unless these are the classes.",
        ),
        (
            "note",
            "not-an-image",
            [layout.below(path) for path in others],
            "files that are not images by their suffix, ignored",
            "No action needed.",
        ),
        (
            "note",
            "loop",
            [layout.below(path) for path in skipped.loops],
            "links to folders that were seen already, ignored",
            "Remove the links.",
        ),
    ]
    for severity, kind, names, said, remedy in rows:
        if names:
            files = tuple(map(printable, names))
            findings.append(DataFinding(severity, kind, f"{said}: {len(files):,}", remedy, files))
    return findings


def on_namesakes(names: Sequence[str]) -> list[DataFinding]:
    """Return a finding on images of which many have a namesake, see `find_namesakes`."""
    found = find_namesakes(names)
    if not found:
        return []
    return [
        DataFinding(
            "warning",
            "namesakes",
            "images that share their name with another, which may be their mask, or a copy in "
            f"another format: {len(found):,}",
            "Move masks and copies out of the class folders: they are learnt as images of their "
            "class, and may come into another part than their image.",
            tuple(printable(name) for names in found for name in names),
        )
    ]


def on_faults(
    layout: Layout, faults: Mapping[str, str], unread_formats: Collection[str] = ()
) -> list[DataFinding]:
    """Return findings on images that cannot be read.

    Args:
        layout: Layout of the folder.
        faults: Reason by file name.
        unread_formats: Names of files in a format that this installation does not read; their
            reasons say what does.
    """
    rows = (
        (
            "unsupported-format",
            {name: why for name, why in faults.items() if name in unread_formats},
            "images of a kind that is not read",
            "Convert them to PNG or JPEG, or install what reads them: training leaves them out.",
        ),
        (
            "unreadable",
            {name: why for name, why in faults.items() if name not in unread_formats},
            "images that cannot be read",
            "Replace or delete them: training leaves them out.",
        ),
    )
    findings = [
        DataFinding(
            "error",
            kind,
            f"{said}: {len(concerned):,}",
            remedy,
            tuple(map(printable, concerned)),
            details=tuple(concerned.values()),
        )
        for kind, concerned, said, remedy in rows
        if concerned
    ]
    for part, classes in layout.parts.items():
        for class_name, names in sorted(classes.items()):
            broken = [name for name in names if name in faults]
            if len(broken) > TOLERATED * len(names):
                where = f" of {part}" if layout.divided else ""
                of_class = f" in class '{printable(class_name)}'" if class_name != EVERY else ""
                findings.append(
                    DataFinding(
                        "error",
                        "mostly-unreadable",
                        f"{len(broken)} of {counted(len(names), 'image')}{of_class}{where} "
                        "cannot be read",
                        f"Training refuses a folder where more than {TOLERATED:.0%} of a class "
                        "is broken.",
                        tuple(map(printable, broken)),
                    )
                )
    return findings


_ODD: list[tuple[Severity, str, Callable[[ImageHeader], bool], str, str]] = [
    (
        "note",
        "cmyk",
        lambda header: header.mode == "CMYK",
        "images in CMYK, the colours of print, converted to RGB without a colour profile",
        "Save them as RGB if exact shades matter.",
    ),
    (
        "note",
        "deep",
        lambda header: header.white not in (255, None),
        "images of more than 8 bits for each channel, scaled to 8 by what their format can hold",
        "See that they do not look too dark: 12-bit values in a 16-bit file need a factor of 16.",
    ),
    (
        "note",
        "palette",
        lambda header: header.mode in ("P", "PA"),
        "images with a palette, converted to RGB",
        "No action needed.",
    ),
    (
        "note",
        "transparent",
        lambda header: header.alpha,
        "images that may have transparent pixels, which become white",
        "Flatten them yourself if white is an unsuitable background.",
    ),
    (
        "warning",
        "animated",
        lambda header: header.animated,
        "files of several frames or pages, of which the first (or the primary one) is used",
        "Save the frames as separate files if they are needed.",
    ),
    (
        "note",
        "rotated",
        lambda header: header.orientation != 1,
        "images that are stored rotated or mirrored (EXIF), and set upright here",
        "No action needed, but other programs may not rotate them.",
    ),
    (
        "warning",
        "tiny",
        lambda header: min(header.height, header.width) < MIN_SIDE,
        f"tiny images, with a side of fewer than {MIN_SIDE} pixels",
        "Check whether they are thumbnails or leftovers.",
    ),
    (
        "warning",
        "elongated",
        lambda header: (
            max(header.height, header.width) > MAX_RATIO * min(header.height, header.width)
        ),
        f"elongated images, more than {MAX_RATIO} times as long as wide, which squashing distorts",
        "Crop them, or keep their shape with --fit crop (the centre) or --fit pad (grey bars).",
    ),
]


def on_headers(headers: Mapping[str, ImageHeader]) -> list[DataFinding]:
    """Return findings on unusual kinds, sizes and shapes.

    Args:
        headers: Header of each readable image, by file name.
    """
    findings = []
    for severity, kind, is_odd, said, remedy in _ODD:
        files = tuple(printable(name) for name, header in headers.items() if is_odd(header))
        if files:
            findings.append(DataFinding(severity, kind, f"{said}: {len(files):,}", remedy, files))
    sizes = {(header.height, header.width) for header in headers.values()}
    if len(sizes) > 1:
        by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        sides = np.array([(header.height, header.width) for header in headers.values()])
        height, width = (int(side) for side in np.median(sides, axis=0))
        findings.append(
            DataFinding(
                "note",
                "mixed-sizes",
                f"images of {len(sizes):,} sizes, from {spell_size(by_area[0])} to "
                f"{spell_size(by_area[-1])}; half are wider than {width} and half higher than "
                f"{height} pixels",
                "All get one size for training; choose it with --image-size. They are squashed to "
                "it, or cropped or padded with --fit crop or --fit pad.",
            )
        )
    return findings


def on_blank(files: Collection[str], n_transparent: int = 0) -> list[DataFinding]:
    """Return a finding on images in which there is nothing to see.

    Args:
        files: Names of those that show nothing but one colour.
        n_transparent: How many of them may have transparent pixels.
    """
    if not files:
        return []
    why = f", of which {n_transparent:,} may have transparent pixels" if n_transparent else ""
    return [
        DataFinding(
            "warning",
            "blank",
            f"images that show nothing but one colour: {len(files):,}{why}",
            "Look at them, and delete those in which something should be seen."
            + " White drawings on a transparent background need a background of another colour: "
            "transparent pixels become white." * bool(n_transparent),
            tuple(map(printable, files)),
        )
    ]


def on_groups(named: Mapping[str, set[str]]) -> list[DataFinding]:
    """Return a finding on groups with images in two parts.

    Args:
        named: Groups of each part, as `groups_across` takes them.
    """
    torn = groups_across(named)
    if not torn:
        return []
    listed = ", ".join(
        f"{count:,} of {later} also in {earlier}" for (earlier, later), count in torn.items()
    )
    names = sorted({each for pair in torn for each in named[pair[0]] & named[pair[1]]})
    return [
        DataFinding(
            "error",
            "groups-across-parts",
            f"groups with images in more than one part: {listed}",
            "Give each group to one part: scores on known groups are too high.",
            tuple(map(printable, names)),
        )
    ]


def on_missing(
    class_names: Sequence[str], counts: Mapping[str, Sequence[int]]
) -> list[DataFinding]:
    """Return findings on classes that have no image in some part, as `classes_missing`."""
    return [
        DataFinding(
            "warning",
            "class-without-part",
            line,
            "Add images: a class needs one for each part.",
            tuple(map(printable, names)),
        )
        for names, line in classes_missing(class_names, counts)
    ]


def on_counts(counts: Mapping[str, Mapping[str, int]], *, divided: bool) -> list[DataFinding]:
    """Return findings on classes that have no, few or far fewer images than others.

    Args:
        counts: Number of readable images, by part and class.
        divided: Whether validation or test images are given, and not split off later.
    """
    findings = []
    for part, classes in counts.items():
        lonely = sorted(name for name, count in classes.items() if count == 1)
        if lonely:
            findings.append(
                DataFinding(
                    "warning" if divided else "error",
                    "single-image-class",
                    f"classes with only one image in {part}: {quoted(lonely)}",
                    "Add images: a single one cannot serve for training and evaluation at once.",
                    tuple(map(printable, lonely)),
                )
            )
    known = list(counts["train"])
    given = {
        part: [classes.get(name, 0) for name in known]
        for part, classes in counts.items()
        if part != "train"
    }
    findings += on_missing(known, given)
    filled = {name: count for name, count in counts["train"].items() if count}
    if filled:
        least, most = min(filled, key=filled.__getitem__), max(filled, key=filled.__getitem__)
        if filled[most] >= MAX_IMBALANCE * filled[least]:
            findings.append(
                DataFinding(
                    "warning",
                    "imbalance",
                    f"unbalanced classes: '{printable(most)}' has {filled[most]:,} images, "
                    f"'{printable(least)}' has {filled[least]:,}",
                    "Add images of the small classes, and look at the score of each class.",
                    (printable(most), printable(least)),
                )
            )
    return findings
